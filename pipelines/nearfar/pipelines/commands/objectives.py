"""``nearfar objectives``."""

from __future__ import annotations

import json

import typer

from nearfar.pipelines.commands.options import Debug, Json


def objectives(json_line: Json = False, debug: Debug = False) -> None:
    """List the objectives that a config can name, and the domains that can have them."""
    from nearfar.pipelines.objectives.catalogue import catalogue, offers

    known = catalogue()
    if json_line:
        typer.echo(json.dumps([one.to_dict() for one in known]))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(show_edge=False)
    for heading in ("objective", "what it is", "source", "parameters", "time", "domains"):
        table.add_column(heading)
    for one in known:
        parameters = ", ".join(f"{p.name}={p.default}" for p in one.parameters)
        table.add_row(one.name, one.summary, one.source, parameters, f"O({one.cost})", ", ".join(one.domains))
    Console().print(table)
    able = ", ".join(offers())
    typer.echo(f"objective=<name> objective.<parameter>=<value> in the settings of {able}")
