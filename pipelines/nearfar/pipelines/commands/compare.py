"""``nearfar compare``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from nearfar.pipelines.commands.options import Debug, Json


def compare(
    targets: Annotated[
        list[str], typer.Argument(help="Experiment such as recsys/ml-100k, run ids, or output folders.")
    ],
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric", "-m", help="Metric to compare (repeat for several); the first orders the rows."
        ),
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", help="Method or label to compare with; default: the best.")
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write one self-contained web page.")] = None,
    markdown: Annotated[Path | None, typer.Option("--markdown", help="Write Markdown.")] = None,
    uri: Annotated[str | None, typer.Option("--uri", help="MLflow store; default as for training.")] = None,
    log: Annotated[
        bool, typer.Option("--log/--no-log", help="Record tables and plots as a run of the experiment.")
    ] = True,
    json_line: Json = False,
    debug: Debug = False,
) -> None:
    """Compare finished runs: mean and spread over seeds, paired tests, plots.

    The p-values say whether other seeds would show the same difference, not whether other data or another split
    would. All runs of an experiment are taken unless runs, groups or folders are named.
    """
    from nearfar.pipelines.compare import compare as compare_runs
    from nearfar.pipelines.publication import draw, publish, write_text
    from nearfar.pipelines.records import open_recorded
    from nearfar.pipelines.report import console, page, print_comparison
    from nearfar.pipelines.report import markdown as as_markdown

    store = open_recorded(uri)
    comparisons = compare_runs(store, targets, metrics=metric or (), against=against)
    plots = [draw(store, comparison) if html or log else {} for comparison in comparisons]
    if html:
        write_text(html, page(list(zip(comparisons, plots, strict=True))))
    if markdown:
        write_text(markdown, "\n".join(as_markdown(comparison) for comparison in comparisons))
    run_ids = [publish(store, *pair) if log else None for pair in zip(comparisons, plots, strict=True)]
    if json_line:
        found = [
            comparison.to_dict() | {"run_id": run_id}
            for comparison, run_id in zip(comparisons, run_ids, strict=True)
        ]
        typer.echo(json.dumps({"comparisons": found}))
        return
    output = console()
    for comparison in comparisons:
        print_comparison(comparison, output)
    for what in (html, markdown):
        if what:
            output.print(f"written: {what}", soft_wrap=True, highlight=False)
