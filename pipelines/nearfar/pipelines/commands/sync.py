"""``nearfar sync``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from nearfar.pipelines.commands.options import Debug, Json


def sync(
    folders: Annotated[list[Path], typer.Argument(help="Folders of runs, or their outbox files.")],
    to: Annotated[
        str | None, typer.Option("--to", help="Send everything to this store instead of the run's own.")
    ] = None,
    json_line: Json = False,
    debug: Debug = False,
) -> None:
    """Deliver what runs could not, while their tracking server was away; repeating it changes nothing.

    Exits with 6 when a server still does not answer.
    """
    from nearfar.messages import warn
    from nearfar.tracking import sync as deliver

    reports = {folder: deliver(folder, warn, to) for folder in folders}
    for folder, report in reports.items():
        if report.left:
            warn(
                f"error: {folder}: {report.left} records are left, the store does not answer: {report.reason}"
            )
        elif not json_line:
            typer.echo(f"{folder}: {report.delivered} records delivered, run {report.run_id}")
    if json_line:
        typer.echo(
            json.dumps(
                [
                    {
                        "folder": str(folder),
                        "delivered": report.delivered,
                        "left": report.left,
                        "run_id": report.run_id,
                        "reason": report.reason,
                    }
                    for folder, report in reports.items()
                ]
            )
        )
    if any(report.left for report in reports.values()):
        raise typer.Exit(6)
