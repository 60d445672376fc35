"""``nearfar export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nearfar.pipelines.commands.options import Debug


def export(
    target: Annotated[str, typer.Argument(help="Output folder or MLflow id of a run.")],
    destination: Annotated[Path, typer.Argument(help="New folder for the model.")],
    debug: Debug = False,
) -> None:
    """Write a trained run's model into a folder of its own (safetensors and JSON, no pickle)."""
    from nearfar.pipelines.trained import export as write

    typer.echo(str(write(target, destination)))
