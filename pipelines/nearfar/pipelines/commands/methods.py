"""``nearfar methods``."""

from __future__ import annotations

import json

import typer

from nearfar.pipelines.commands.options import Debug, Json


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
