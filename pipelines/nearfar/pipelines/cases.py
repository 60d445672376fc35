"""The second question of a comparison: would other users, nodes or series show the same difference?

Seeds say how much of a difference is luck in training; the cases of the test set say how much is luck in who was
tested. A run keeps what its test metrics are means of (:meth:`nearfar.training.Task.test`) as an artifact; here the
difference of two methods on each case, averaged over the seeds both have, is resampled over cases
(:mod:`nearfar.resampling`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nearfar.errors import first_line
from nearfar.pipelines.comparison import Comparison, Row
from nearfar.pipelines.records import Record
from nearfar.pipelines.registry import methods
from nearfar.pipelines.significance import Difference, correct
from nearfar.tracking import Store

if TYPE_CHECKING:
    from nearfar.training import Cases, Task

__all__ = ["over_cases"]

_SPLIT = "test/"


def over_cases(store: Store, comparison: Comparison) -> Comparison:
    """Add differences over the cases of the test set, where the runs have kept what they need.

    Rows without it, or measured on other cases than the reference, stay as they are, and a note says so.

    Args:
        store: Where the runs are.
        comparison: Its cells have no ``over_cases`` yet.
    """
    reader = _Reader(store, comparison)
    reference = next(row for row in comparison.rows if row.label == comparison.reference)
    others = [row for row in comparison.rows if row is not reference]
    pairs = {row.label: (reader.read(row, reference), reader.read(reference, row)) for row in others}
    notes = reader.notes
    if not any(ours and theirs for ours, theirs in pairs.values()):
        return replace(comparison, notes=(*comparison.notes, *notes))
    usable = {}
    for label, (ours, theirs) in pairs.items():
        if ours and theirs and len({cases.digest for cases in (*ours, *theirs)}) == 1:
            usable[label] = (ours, theirs)
        else:
            why = "measured on other cases" if ours and theirs else "not all runs have kept them"
            notes.append(
                f"{label}: no difference to {comparison.reference} over cases of the test set, {why}"
            )
    unit = next((ours[0].unit for ours, _ in usable.values()), comparison.cases)
    found = _bootstrap(usable, reader.metrics) if usable else {}
    cells = dict(comparison.cells)
    for metric in reader.metrics if usable else ():
        for label, difference in correct({label: found[label, metric] for label in usable}).items():
            cell = cells[label, _SPLIT + metric]
            cells[label, _SPLIT + metric] = replace(cell, over_cases=difference)
    return replace(comparison, cells=cells, notes=(*comparison.notes, *notes), cases=unit)


def _bootstrap(
    pairs: dict[str, tuple[list[Cases], list[Cases]]], metrics: Sequence[str]
) -> dict[tuple[str, str], Difference]:
    """By label and metric; everything from the same draws."""
    from nearfar.resampling import bootstrap

    keys = [(label, metric) for label in pairs for metric in metrics]
    columns = [_mean(pairs[label][0], metric) - _mean(pairs[label][1], metric) for label, metric in keys]
    found = bootstrap(np.stack(columns, axis=1))
    return {
        key: Difference(r.n, r.mean, r.low, r.high, r.p_value) for key, r in zip(keys, found, strict=True)
    }


def _mean(seeds: Sequence[Cases], metric: str) -> NDArray[np.float64]:
    mean: NDArray[np.float64] = np.mean([cases.values[metric] for cases in seeds], axis=0)
    return mean


class _Reader:
    """Fetches what runs have kept; each run once."""

    def __init__(self, store: Store, comparison: Comparison) -> None:
        self._store = store
        self._known: dict[str, Cases | None] = {}
        self.notes: list[str] = []
        self._tasks = {row.method: _task(row.method) for row in comparison.rows}
        measured = set.intersection(*(_of_cases(task) for task in self._tasks.values()))
        names = [name.removeprefix(_SPLIT) for name in comparison.metrics if name.startswith(_SPLIT)]
        self.metrics = [name for name in names if name in measured]

    def read(self, row: Row, other: Row) -> list[Cases]:
        """Of the seeds both rows have; empty unless every one has kept them."""
        seeds = {record.seed for record in (row if other.fixed else other).records}
        records = row.records if row.fixed else [r for r in row.records if r.seed in seeds]
        found = [cases for record in records if (cases := self._cases(record)) is not None]
        return found if len(found) == len(records) else []

    def _cases(self, record: Record) -> Cases | None:
        if record.run_id not in self._known:
            self._known[record.run_id] = self._fetch(record)
        return self._known[record.run_id]

    def _fetch(self, record: Record) -> Cases | None:
        task, client = self._tasks[record.method], self._store.client
        if not self.metrics or task is None or task.cases_file is None:
            return None
        try:
            if task.cases_file not in {entry.path for entry in client.list_artifacts(record.run_id)}:
                return None
            with tempfile.TemporaryDirectory() as folder:
                path = client.download_artifacts(record.run_id, task.cases_file, folder)
                return task.read_cases(Path(path), self.metrics)
        except (
            Exception
        ) as error:  # artifacts may lie elsewhere than the numbers; the table stands without them
            self.notes.append(f"{task.cases_file} of run {record.run_id} cannot be read: {first_line(error)}")
            return None


def _of_cases(task: type[Task] | None) -> set[str]:
    """Metrics that are means over cases."""
    if task is None:
        return set()
    return set(task.metrics if task.case_metrics is None else task.case_metrics)


def _task(method: str) -> type[Task] | None:
    """The method's task class; ``None`` for a method that this installation does not know or cannot load."""
    entry = methods().get(method)
    try:
        return None if entry is None else entry.load("task")
    except ImportError:
        return None
