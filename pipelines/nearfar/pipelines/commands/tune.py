"""``nearfar tune``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nearfar.pipelines.commands.options import Debug, Json, Quiet


def tune(
    method: Annotated[str, typer.Argument(help="Registered method, such as recsys.mclrec.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(help="Settings of all trials as key=value; seed decides what is tried."),
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="YAML file with settings.")] = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials, in all processes and machines together.")] = 20,
    trial_seeds: Annotated[int, typer.Option(min=1, help="Seeds of each trial.")] = 3,
    seeds: Annotated[int, typer.Option(min=0, help="Seeds of the final runs on test; 0 for none.")] = 5,
    workers: Annotated[int, typer.Option(min=1, help="Processes on this machine.")] = 1,
    study: Annotated[
        str | None, typer.Option(help="Name; the same name goes on. Default: of method, data and space.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="postgresql://... for several machines; default: a file below mlruns/optuna."),
    ] = None,
    space: Annotated[
        Path | None, typer.Option(help="YAML search space: 'optim.lr: {low: 1e-4, high: 1e-2, log: true}'.")
    ] = None,
    json_line: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Search for better settings, then measure them on test beside the usual ones.

    Trials are compared on validation, as means over seeds. Interrupted or killed, the same command goes on; started
    again on other machines with the same --study and --storage, it shares the work.
    """
    from nearfar.pipelines.registry import find
    from nearfar.pipelines.settings import resolve_settings

    resolve_settings(find(method), settings or [], config)

    from nearfar.pipelines.tune import tune as search

    outcome = search(
        method,
        settings or [],
        config,
        trials=trials,
        trial_seeds=trial_seeds,
        seeds=seeds,
        workers=workers,
        study=study,
        storage=storage,
        space_file=space,
        quiet=quiet,
    )
    if json_line:
        typer.echo(outcome.to_json())
        return
    from nearfar.pipelines.report import console, print_search

    print_search(outcome, console())
