"""``nearfar train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nearfar.pipelines.commands.options import Debug, Json, Quiet


def train(
    method: Annotated[str, typer.Argument(help="Registered method, such as recsys.mclrec.")],
    settings: Annotated[
        list[str] | None, typer.Argument(help="Settings as key=value, such as optim.lr=5e-4 seed=1.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="YAML file with settings.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Repeat with so many seeds, from `seed` on.")] = 1,
    workers: Annotated[int, typer.Option(min=1, help="Seeds trained at a time.")] = 1,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the interrupted run of these settings.")
    ] = False,
    json_line: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train a method, test it, record the run.

    With --resume, a run that was stopped or killed goes on from its newest checkpoint and ends as if nothing had
    happened; a finished one prints its result again.

    Settings: method defaults < published < recipe < --config file < NEARFAR_* variables < key=value.
    """
    from nearfar.pipelines.registry import find
    from nearfar.pipelines.settings import resolve_settings

    resolve_settings(find(method), settings or [], config)  # a typo is answered before torch is loaded

    from nearfar.pipelines.seeds import Job, run_jobs
    from nearfar.runtime import is_main_process

    job = Job(method, tuple(settings or []), config, seeds)
    group = run_jobs([job], workers=workers, resume="yes" if resume else "no", quiet=quiet)[0]
    outcome = group.outcome()
    if not is_main_process():
        return
    if json_line:
        typer.echo(outcome.to_json())
        return
    from nearfar.pipelines.commands.tables import print_metrics

    print_metrics(outcome.metrics, f"{method}: {', '.join(run.output_dir for run in group.outcomes)}")
