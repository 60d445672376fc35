"""Methods side by side: mean and spread over seeds, and whether the differences are more than luck.

Rows are settings of a method (all runs with equal settings but the seed), columns are metrics. What the p-values can
and cannot show is said in :mod:`nearfar.pipelines.significance`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from nearfar.config import suggest
from nearfar.errors import ConfigError
from nearfar.pipelines.cases import over_cases
from nearfar.pipelines.comparison import Cell, Comparison, Row
from nearfar.pipelines.records import Pool, Record, read_records
from nearfar.pipelines.significance import correct, paired_difference
from nearfar.tracking import Store

__all__ = ["compare", "compare_pool", "higher_is_better"]

# Words in the name of a metric that is better when it is smaller.
_COSTS = {"error", "loss", "mae", "mape", "mem", "mse", "nll", "rmse", "seconds"}


def compare(
    store: Store, targets: Sequence[str], *, metrics: Sequence[str] = (), against: str | None = None
) -> tuple[Comparison, ...]:
    """Compare finished training runs, one comparison per experiment.

    Args:
        store: Opened store.
        targets: Experiment names, ids of runs, groups or searches, or output folders.
        metrics: What to compare, the one that orders the rows first; by default every ``test/*`` metric that all
            methods have, beginning with the one that picked the best epochs.
        against: Label or method that differences are taken to; the best on the first metric by default.

    Raises:
        ConfigError: If a target, a metric or the reference is unknown, nothing has finished, the runs have seen
            different data, or no metric is common.
        StorageError: If the store does not answer.
    """
    return tuple(
        over_cases(store, compare_pool(pool, metrics, against)) for pool in read_records(store, targets)
    )


def compare_pool(pool: Pool, metrics: Sequence[str] = (), against: str | None = None) -> Comparison:
    """Compare the runs of one experiment.

    Args:
        pool: The runs.
        metrics: As for :func:`compare`.
        against: As for :func:`compare`.

    Raises:
        ConfigError: As :func:`compare`.
    """
    _check_data(pool)
    rows, dropped = _rows(pool.records)
    metrics = _check_metrics(metrics, rows) if metrics else _shared_metrics(rows)
    cells = {
        (row.label, metric): _cell(list(values.values()))
        for row in rows
        for metric in metrics
        if (values := row.values(metric))
    }
    sign = 1 if higher_is_better(metrics[0], rows) else -1

    def score(row: Row) -> float:
        cell = cells.get((row.label, metrics[0]))
        return -math.inf if cell is None else sign * cell.mean

    rows = sorted(rows, key=score, reverse=True)
    reference = _reference(rows, against)
    for metric in metrics:
        found = {
            row.label: paired_difference(*_pairs(row, reference, metric))
            for row in rows
            if row is not reference
        }
        for label, difference in correct(found).items():
            cell = cells[label, metric]
            cells[label, metric] = Cell(cell.mean, cell.std, cell.n, difference)
    return Comparison(
        experiment=pool.experiment,
        dataset=pool.records[0].dataset,
        digest=pool.records[0].digest,
        metrics=tuple(metrics),
        rows=tuple(rows),
        reference=reference.label,
        cells=cells,
        notes=(*pool.notes, *dropped, *_warnings(rows, reference)),
    )


def higher_is_better(metric: str, rows: Sequence[Row] = ()) -> bool:
    """Whether more of a metric is better: as the runs selected by it, else by the words in its name.

    Args:
        metric: Its name.
        rows: Runs that may have picked their best epoch by it.

    Example:
        >>> higher_is_better("test/ndcg_at_10"), higher_is_better("perf/fit_seconds")
        (True, False)
    """
    name = metric.partition("/")[2]
    for row in rows:
        chosen, mode = row.records[0].selection
        if chosen.partition("/")[2] == name:
            return mode == "max"
    return not _COSTS & set(re.split(r"[/_]", metric))


def _check_data(pool: Pool) -> None:
    digests: dict[str, list[Record]] = {}
    for record in sorted(pool.records, key=lambda r: r.started):
        digests.setdefault(record.digest, []).append(record)
    if len(digests) > 1:
        parts = [
            f"{digest[:8] or 'unknown'}: {len(records)} ({', '.join(sorted({r.method for r in records}))}; "
            f"for example run {records[0].run_id})"
            for digest, records in digests.items()
        ]
        raise ConfigError(
            f"{pool.experiment}: the runs have not seen the same data, their numbers cannot be compared; "
            f"runs by data digest: {'; '.join(parts)}; name the runs, groups or folders to compare"
        )


def _rows(records: Sequence[Record]) -> tuple[list[Row], list[str]]:
    """Runs by method and settings, one per seed; and a note on runs that were made twice."""
    groups: dict[tuple[str, str], dict[int, Record]] = {}
    repeated: Counter[tuple[str, str]] = Counter()
    for record in sorted(records, key=lambda r: r.started):  # the newest comes last and stays
        key = (record.method, record.config_hash)
        seeds = groups.setdefault(key, {})
        repeated[key] += record.seed in seeds
        seeds[record.seed] = record
    labels = _labels({key: next(iter(seeds.values())) for key, seeds in groups.items()})
    rows = [
        # Several seeds of initial weights differ: such a row is paired by seed like any other.
        Row(
            labels[key],
            tuple(seeds[seed] for seed in sorted(seeds)),
            len(seeds) == 1 and all(r.fixed for r in seeds.values()),
        )
        for key, seeds in groups.items()
    ]
    notes = [
        f"{labels[key]}: {count} older run{'s' * (count > 1)} with the same settings and seed left out"
        for key, count in repeated.items()
        if count
    ]
    return rows, notes


def _labels(firsts: Mapping[tuple[str, str], Record]) -> dict[tuple[str, str], str]:
    """Method names; where one method has several settings, with the variant, or the hash if that is equal too."""
    methods = Counter(method for method, _ in firsts)
    variants = Counter((record.method, record.variant) for record in firsts.values())
    labels = {}
    for (method, digest), record in firsts.items():
        label = method
        if methods[method] > 1:
            same = variants[method, record.variant] > 1
            label += f" ({record.variant}, {digest[:6]})" if same else f" ({record.variant})"
        labels[method, digest] = label
    return labels


def _shared_metrics(rows: Sequence[Row]) -> list[str]:
    measured = {
        row.label: {name for r in row.records for name in r.metrics if name.startswith("test/")}
        for row in rows
    }
    shared = set.intersection(*measured.values())
    if not shared:
        parts = [f"{label}: {', '.join(sorted(names)[:4]) or 'none'}" for label, names in measured.items()]
        raise ConfigError(f"no test/* metric is common to all methods; {'; '.join(parts)}")
    chosen = Counter(row.records[0].selection[0].replace("val/", "test/", 1) for row in rows)
    first = [name for name, _ in chosen.most_common() if name in shared][:1]
    return [*first, *sorted(shared - set(first), key=_natural)]


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts hr_at_5 before hr_at_10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def _check_metrics(metrics: Sequence[str], rows: Sequence[Row]) -> list[str]:
    known = {name for row in rows for record in row.records for name in record.metrics}
    for metric in metrics:
        if metric not in known:
            tested = ", ".join(sorted(name for name in known if name.startswith("test/")))
            hint = suggest(metric, known, f"there are {tested}")
            raise ConfigError(f"no run has the metric '{metric}'; {hint}")
    return list(dict.fromkeys(metrics))


def _reference(rows: Sequence[Row], against: str | None) -> Row:
    if against is None:
        return rows[0]
    named = [row for row in rows if row.label == against] or [row for row in rows if row.method == against]
    if len(named) > 1:
        labels = [row.label for row in named]
        raise ConfigError(f"against: '{against}' has several settings; choose from {'; '.join(labels)}")
    if not named:
        labels = [row.label for row in rows]
        hint = suggest(against, labels, f"choose from {'; '.join(labels)}")
        raise ConfigError(f"against: nothing here is called '{against}'; {hint}")
    return named[0]


def _cell(values: Sequence[float]) -> Cell:
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return Cell(mean, None, 1)
    return Cell(mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1)), n)


def _pairs(row: Row, reference: Row, metric: str) -> tuple[list[float], list[float]]:
    """Values of the seeds both have; what does not depend on the seed goes with every seed of the other."""
    ours, theirs = row.values(metric), reference.values(metric)
    if not (ours and theirs):
        return [], []
    if row.fixed and not reference.fixed:
        ours = dict.fromkeys(theirs, next(iter(ours.values())))
    elif reference.fixed:
        theirs = dict.fromkeys(ours, next(iter(theirs.values())))
    common = sorted(ours.keys() & theirs.keys())
    return [ours[seed] for seed in common], [theirs[seed] for seed in common]


def _warnings(rows: Sequence[Row], reference: Row) -> list[str]:
    """What a reader of the table should know."""
    notes = []
    commits = sorted({record.commit[:7] for row in rows for record in row.records if record.commit})
    if len(commits) > 1:
        notes.append(f"the runs were made by {len(commits)} versions of the code: {', '.join(commits)}")
    seeds = {record.seed for record in reference.records}
    for row in rows:
        own = {record.seed for record in row.records}
        if row is not reference and not (row.fixed or reference.fixed) and own != seeds:
            notes.append(
                f"{row.label} has {len(own & seeds)} of its {len(own)} seeds in common with {reference.label}"
            )
    return notes
