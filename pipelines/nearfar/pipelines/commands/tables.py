"""What several commands print for people."""

from __future__ import annotations

from collections.abc import Mapping


def print_metrics(metrics: Mapping[str, float], heading: str = "") -> None:
    """A line per metric, below an optional heading."""
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False, soft_wrap=True)
    if heading:
        console.print(heading)
    table = Table(show_edge=False)
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name, value in metrics.items():
        table.add_row(name, f"{value:.4f}")
    console.print(table, soft_wrap=False)
