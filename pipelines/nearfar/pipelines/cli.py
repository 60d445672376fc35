"""The command ``nearfar``; importing this, and asking for help, imports no torch."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from nearfar.errors import NearfarError, PreemptedError
from nearfar.pipelines.commands.compare import compare
from nearfar.pipelines.commands.doctor import doctor
from nearfar.pipelines.commands.evaluate import evaluate
from nearfar.pipelines.commands.export import export
from nearfar.pipelines.commands.methods import methods
from nearfar.pipelines.commands.objectives import objectives
from nearfar.pipelines.commands.profile import profile
from nearfar.pipelines.commands.promote import promote
from nearfar.pipelines.commands.sync import sync
from nearfar.pipelines.commands.train import train
from nearfar.pipelines.commands.tune import tune
from nearfar.redaction import redacted

app = typer.Typer(
    name="nearfar",
    help="Contrastive self-supervised learning for graphs, time series and recommendation.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


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


for command in (train, tune, evaluate, compare, export, promote, sync, profile, doctor, methods, objectives):
    app.command()(command)


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
            sys.stderr.write(redacted(traceback.format_exc()))
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
    # Being stopped is no mistake.
    prefix = "nearfar: " if isinstance(error, PreemptedError) else "nearfar: error: "
    for line in redacted(message).splitlines():  # none for a bare `nearfar`, which has printed its help
        sys.stderr.write(f"{prefix}{line}\n")
    return int(code)
