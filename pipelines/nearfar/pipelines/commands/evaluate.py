"""``nearfar evaluate``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from nearfar.pipelines.commands.options import Debug, Json


def evaluate(
    target: Annotated[str, typer.Argument(help="Output folder or MLflow id of a run.")],
    split: Annotated[str, typer.Option(help="val or test.")] = "test",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    json_line: Json = False,
    debug: Debug = False,
) -> None:
    """Measure a trained run again, with the weights of its best validation."""
    from nearfar.pipelines.trained import evaluate as measure

    metrics = measure(target, split=split, device=device)
    if json_line:
        typer.echo(json.dumps({"run": target, "metrics": metrics}))
        return
    from nearfar.pipelines.commands.tables import print_metrics

    print_metrics(metrics)
