"""``make demo``: train on the MovieLens data inside RecBole's wheel, compare with honest baselines, recommend."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nearfar.errors import NearfarError
from nearfar.messages import warn
from nearfar.pipelines.report import Column, console, draw_bars, markdown_table, print_table
from nearfar.pipelines.seeds import Group, Job, run_jobs
from nearfar.recsys import Recommender
from nearfar.tracking import default_uri, open_store, start_run

COLUMNS: tuple[Column, ...] = (
    ("test/hr_at_10", "HR@10"),
    ("test/ndcg_at_10", "NDCG@10"),
    ("test/hr_at_10_filtered", "HR@10 filtered"),
    ("test/ndcg_at_10_filtered", "NDCG@10 filtered"),
)
TITLE = "ml-100k, leave-one-out, all items ranked (filtered: seen items removed)"
USERS = ("1", "42", "405")
EXPERIMENT = "nearfar/recsys/ml-100k"


def demo(seeds: int, workers: int) -> None:
    """Run it.

    Args:
        seeds: Seeds of each trained method.
        workers: Processes at a time.
    """
    started = time.monotonic()
    output = console()
    jobs = [
        Job("recsys.popularity", ("data=ml-100k",)),
        Job("recsys.sasrec", ("data=ml-100k",), seeds=seeds),
        Job("recsys.mclrec", ("data=ml-100k",), seeds=seeds),
    ]
    runs = sum(job.seeds for job in jobs)
    output.print(f"training {runs} recommenders on ml-100k (943 users, 1,682 films), {workers} at a time")
    groups = run_jobs(jobs, workers=workers)
    output.print()
    print_table(groups, COLUMNS, TITLE, output)
    _record(groups)
    _recommend(groups[-1], output)
    output.print(f"\nall runs are in {default_uri()}", soft_wrap=True, highlight=False)
    output.print(f"`make ui` opens them at http://127.0.0.1:5000, experiment {EXPERIMENT}", highlight=False)
    output.print(f"demo finished in {time.monotonic() - started:.0f} s")


def _record(groups: Sequence[Group]) -> None:
    """The table and the plot as artifacts of a run of their own, beside the runs they compare."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw_bars(groups, COLUMNS, TITLE, folder / "comparison.png")
        (folder / "comparison.md").write_text(markdown_table(groups, COLUMNS), encoding="utf-8")
        run = start_run(
            open_store(),
            experiment=EXPERIMENT,
            name="comparison",
            params={"methods": ", ".join(group.job.name for group in groups)},
            tags={"nearfar.kind": "eval", "nearfar.domain": "recsys", "nearfar.dataset": "ml-100k"},
            outbox=Path("outputs") / "comparison.outbox.jsonl",
            warn=warn,
        )
        run.artifact(folder)
        run.finish("FINISHED")


def _recommend(group: Group, output: Console) -> None:
    """What the trained model would show a few users next."""
    recommender = Recommender.load(Path(group.outcomes[0].output_dir) / "model")
    names = recommender.titles
    frame = recommender.recommend(USERS, k=5)
    for user, rows in frame.groupby("user", sort=False):
        last = [names.get(item, item) for item in recommender.history(user)[-3:]]
        table = Table(show_edge=False)
        for heading in ("rank", "recommended next", "score"):
            table.add_column(heading)
        for row in rows.itertuples():
            table.add_row(str(row.rank), names.get(row.item, row.item), f"{row.score:.2f}")
        output.print(f"\nuser {user}, last seen: {'; '.join(last)}", highlight=False)
        output.print(table)


def main() -> int:
    """Command-line entry of the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each trained method")
    parser.add_argument(
        "--workers", type=int, default=min(4, os.cpu_count() or 1), help="processes at a time"
    )
    arguments = parser.parse_args()
    try:
        demo(arguments.seeds, arguments.workers)
    except NearfarError as error:
        sys.stderr.write(f"nearfar: error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
