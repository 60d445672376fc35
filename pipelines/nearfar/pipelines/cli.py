"""The command ``nearfar``; importing this, and asking for help, imports no torch."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from nearfar.errors import NearfarError

app = typer.Typer(
    name="nearfar",
    help="Contrastive self-supervised learning for graphs, time series and recommendation.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON last.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress output.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        from nearfar import version

        typer.echo(f"nearfar {version.get()}")
        raise typer.Exit


@app.callback()
def root(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Contrastive self-supervised learning for graphs, time series and recommendation."""


@app.command()
def train(
    method: Annotated[str, typer.Argument(help="Registered method, such as recsys.mclrec.")],
    settings: Annotated[
        list[str] | None, typer.Argument(help="Settings as key=value, such as optim.lr=5e-4 seed=1.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="YAML file with settings.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Repeat with so many seeds, from `seed` on.")] = 1,
    workers: Annotated[int, typer.Option(min=1, help="Seeds trained at a time.")] = 1,
    json_line: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train a method, test it, record the run.

    Settings: method defaults < shipped recipe < --config file < NEARFAR_* variables < key=value.
    """
    from nearfar.pipelines.registry import find
    from nearfar.pipelines.settings import resolve_settings

    resolve_settings(find(method), settings or [], config)  # a typo is answered before torch is loaded

    from nearfar.pipelines.seeds import Job, run_jobs

    group = run_jobs([Job(method, tuple(settings or []), config, seeds)], workers=workers, quiet=quiet)[0]
    outcome = group.outcome()
    if json_line:
        typer.echo(outcome.to_json())
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False, soft_wrap=True)
    console.print(f"{method}: {', '.join(run.output_dir for run in group.outcomes)}")
    table = Table(show_edge=False)
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name, value in outcome.metrics.items():
        table.add_row(name, f"{value:.4f}")
    console.print(table, soft_wrap=False)


@app.command()
def methods(json_line: Json = False, debug: Debug = False) -> None:
    """List the registered methods."""
    from nearfar.pipelines.registry import methods as registered

    entries = registered()
    if json_line:
        typer.echo(
            json.dumps([{"name": e.name, "summary": e.summary, "source": e.source} for e in entries.values()])
        )
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(show_edge=False)
    for heading in ("method", "what it is", "source"):
        table.add_column(heading)
    for entry in entries.values():
        table.add_row(entry.name, entry.summary, entry.source)
    Console().print(table)


@app.command()
def doctor(
    imports: Annotated[
        bool, typer.Option("--imports", help="Import every optional package to find broken ones (a minute).")
    ] = False,
    json_line: Json = False,
    debug: Debug = False,
) -> None:
    """Show versions, optional packages with the command that repairs each, devices and the store.

    Exits with 1 when something is broken (a missing optional package is not).
    """
    from nearfar.pipelines.doctor import examine

    report = examine(imports=imports)
    if json_line:
        typer.echo(json.dumps(report.to_dict()))
        raise typer.Exit(1 if report.problems else 0)
    from rich.console import Console
    from rich.table import Table

    # Commands and paths hold square brackets, which rich would take for markup, and must not be folded.
    console = Console(markup=False, highlight=False, soft_wrap=True)
    base = ", ".join(f"{name} {version or 'missing'}" for name, version in report.base.items())
    console.print(f"nearfar {report.nearfar}, Python {report.python}, {base}")
    table = Table(show_edge=False)
    for heading in ("optional package", "version", "state", "for"):
        table.add_column(heading)
    for package in report.packages:
        table.add_row(package.name, package.version or "-", package.state, package.purpose)
    console.print(table, soft_wrap=False)
    for package in report.packages:
        if package.command:
            console.print(f"{package.name} is {package.state}: {package.command}")
    console.print(f"devices: {', '.join(report.devices)} (device=auto takes {report.devices[0]})")
    console.print(f"store: {report.store} ({report.store_state})")
    raise typer.Exit(1 if report.problems else 0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; the process exits with the code of what happened."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run(words))


def run(words: Sequence[str]) -> int:
    """Run the command line and return its exit code; one line per mistake, no traceback unless ``--debug``."""
    try:
        result = app(list(words), prog_name="nearfar", standalone_mode=False)
    except KeyboardInterrupt:
        sys.stderr.write("nearfar: interrupted\n")
        return 130
    except Exception as error:
        if "--debug" in words:
            traceback.print_exc()
        return _explain(error)
    return result if isinstance(result, int) else 0


def _explain(error: Exception) -> int:
    """One line on standard error, and the exit code."""
    code = getattr(error, "exit_code", 1)
    if isinstance(error, NearfarError):
        message = str(error)
    elif hasattr(error, "format_message"):  # Typer's own complaints about the command line
        message = error.format_message()
    else:
        message = f"{type(error).__name__}: {error} (run again with --debug for the traceback)"
    for line in message.splitlines():  # none for a bare `nearfar`, which has printed its help
        sys.stderr.write(f"nearfar: error: {line}\n")
    return int(code)
