"""``nearfar profile``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nearfar.pipelines.commands.options import Debug


def profile(
    method: Annotated[str, typer.Argument(help="Registered method, such as recsys.mclrec.")],
    settings: Annotated[list[str] | None, typer.Argument(help="Settings as key=value.")] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="YAML file with settings.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps to record.")] = 10,
    trace: Annotated[Path, typer.Option(help="File for the trace.")] = Path("trace.json"),
    debug: Debug = False,
) -> None:
    """Record some training steps: a trace for chrome://tracing or Perfetto, and the largest entries."""
    from nearfar.pipelines.registry import find
    from nearfar.pipelines.settings import resolve_settings

    resolve_settings(find(method), settings or [], config)

    from nearfar.pipelines.profile import profile_steps

    typer.echo(profile_steps(method, settings or [], config, steps=steps, trace=trace))
    typer.echo(f"trace: {trace.absolute()}")
