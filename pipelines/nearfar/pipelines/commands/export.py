"""``nearfar export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from nearfar.pipelines.commands.options import Debug


def export(
    target: Annotated[str, typer.Argument(help="Output folder or MLflow id of a run.")],
    destination: Annotated[Path, typer.Argument(help="New folder for the model.")],
    form: Annotated[
        Literal["safetensors", "torch", "onnx"],
        typer.Option("--format", help="For nearfar, or as graphs that run without it: torch.export, ONNX."),
    ] = "safetensors",
    debug: Debug = False,
) -> None:
    """Write a trained run's model into a folder of its own (no pickle)."""
    from nearfar.pipelines.trained import export as write

    typer.echo(str(write(target, destination, form=form)))
