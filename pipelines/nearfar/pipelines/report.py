"""Groups of runs side by side: a table for people and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nearfar.optional import require
from nearfar.pipelines.seeds import Group

Column = tuple[str, str]


def console() -> Console:
    """Standard output; wide enough for a table when it is a file or a pipe."""
    plain = Console(markup=False)
    return plain if plain.is_terminal else Console(markup=False, width=110)


def cell(group: Group, metric: str) -> str:
    """``mean ± std`` of a metric, the mean alone for a single run, ``-`` where it was not measured."""
    summary = group.summary()
    if f"{metric}_mean" not in summary:
        return "-"
    text = f"{summary[f'{metric}_mean']:.4f}"
    return f"{text} ± {summary[f'{metric}_std']:.4f}" if summary[f"{metric}_n"] > 1 else text


def labels(groups: Sequence[Group]) -> list[str]:
    """Method names, with the settings that tell equal ones apart."""
    names = [group.job.name for group in groups]
    return [
        f"{name} ({', '.join(group.job.overrides)})"
        if names.count(name) > 1 and group.job.overrides
        else name
        for name, group in zip(names, groups, strict=True)
    ]


def print_table(groups: Sequence[Group], columns: Sequence[Column], title: str, output: Console) -> None:
    """A row per group.

    Args:
        groups: Finished groups.
        columns: Metric name and heading.
        title: Above the table.
        output: Where to print.
    """
    table = Table(title=title, title_justify="left")
    table.add_column("method", no_wrap=True)
    table.add_column("seeds", justify="right", no_wrap=True)
    for _, heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for name, group in zip(labels(groups), groups, strict=True):
        table.add_row(name, str(len(group.outcomes)), *(cell(group, metric) for metric, _ in columns))
    output.print(table)


def markdown_table(groups: Sequence[Group], columns: Sequence[Column]) -> str:
    """The same table as Markdown."""
    lines = [
        "| method | seeds | " + " | ".join(heading for _, heading in columns) + " |",
        "|--|--|" + "--|" * len(columns),
    ]
    for name, group in zip(labels(groups), groups, strict=True):
        cells = [cell(group, metric) for metric, _ in columns]
        lines.append(f"| {name} | {len(group.outcomes)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw_bars(groups: Sequence[Group], columns: Sequence[Column], title: str, path: Path) -> None:
    """A panel per metric, a bar per group with its standard deviation."""
    figure_module = require("matplotlib.figure", "plots")
    figure = figure_module.Figure(figsize=(2.6 * len(columns) + 1.5, 3.4), layout="constrained")
    axes = figure.subplots(1, len(columns), squeeze=False)[0]
    summaries = [group.summary() for group in groups]
    colours = [f"C{index}" for index in range(len(groups))]
    names = [name.partition(".")[2] for name in labels(groups)]
    for axis, (metric, heading) in zip(axes, columns, strict=True):
        means = [summary.get(f"{metric}_mean", 0.0) for summary in summaries]
        spread = [summary.get(f"{metric}_std", 0.0) for summary in summaries]
        axis.bar(names, means, yerr=spread, capsize=4, color=colours)
        axis.set_title(heading, fontsize=10)
        axis.tick_params(axis="x", labelrotation=20, labelsize=8)
        axis.grid(axis="y", alpha=0.3)
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=120)
