"""``nearfar doctor``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from nearfar.pipelines.commands.options import Debug, Json


def doctor(
    imports: Annotated[
        bool, typer.Option("--imports", help="Import every optional package to find broken ones (a minute).")
    ] = False,
    fix: Annotated[
        bool, typer.Option("--fix", help="Close runs and trials whose process on this machine is gone.")
    ] = False,
    json_line: Json = False,
    debug: Debug = False,
) -> None:
    """Show versions, optional packages with the command that repairs each, devices and the store.

    Exits with 1 when something is broken (a missing optional package is not).
    """
    from nearfar.pipelines.doctor import examine

    report = examine(imports=imports, fix=fix)
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
    if fix:
        console.print(f"closed {report.closed_runs} stale runs and {report.closed_trials} stale trials")
    elif report.stale_runs:
        console.print(
            f"{report.stale_runs} runs are RUNNING without a process: nearfar doctor --fix closes them"
        )
    raise typer.Exit(1 if report.problems else 0)
