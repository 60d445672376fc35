"""A comparison of methods, as values: rows of runs, cells of numbers, and what a reader should know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from nearfar.pipelines.records import Record
from nearfar.pipelines.significance import Difference

__all__ = ["Cell", "Comparison", "Row"]


@dataclass(frozen=True)
class Row:
    """The runs of one method with one choice of settings.

    Attributes:
        label: Method, and in brackets what tells it from other settings of the same method.
        records: One per seed, in order of the seeds.
        fixed: Whether the seed decides nothing, so that one run says everything.
    """

    label: str
    records: tuple[Record, ...]
    fixed: bool = False

    @property
    def method(self) -> str:
        """Registered name."""
        return self.records[0].method

    def values(self, metric: str) -> dict[int, float]:
        """Value by seed; seeds without the metric are missing."""
        return {r.seed: r.metrics[metric] for r in self.records if metric in r.metrics}


@dataclass(frozen=True)
class Cell:
    """One method on one metric.

    Attributes:
        mean: Over the seeds.
        std: Sample standard deviation (n - 1), ``None`` for one run.
        n: Number of seeds.
        difference: To the reference; ``None`` for the reference itself and without common seeds.
        over_cases: The same over the cases of the test set (users), seeds averaged; its ``n`` counts cases.
    """

    mean: float
    std: float | None
    n: int
    difference: Difference | None = None
    over_cases: Difference | None = None


@dataclass(frozen=True)
class Comparison:
    """One experiment's methods side by side.

    Attributes:
        experiment: Its name.
        dataset: The data of every run in it.
        digest: Of the data's content.
        metrics: Names, the one that orders the rows first.
        rows: Best first.
        reference: Label of the row that differences are taken to.
        cells: By label and metric; none where a method lacks a metric.
        notes: What was left out, and what may mislead.
        cases: What ``over_cases`` counts, in the plural.
    """

    experiment: str
    dataset: str
    digest: str
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]
    reference: str
    cells: Mapping[tuple[str, str], Cell] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    cases: str = "cases"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "experiment": self.experiment,
            "dataset": self.dataset,
            "digest": self.digest,
            "reference": self.reference,
            "rows": [
                {
                    "label": row.label,
                    "method": row.method,
                    "variant": row.records[0].variant,
                    "config_hash": row.records[0].config_hash,
                    "runs": {str(record.seed): record.run_id for record in row.records},
                    "metrics": {
                        metric: asdict(self.cells[row.label, metric])
                        for metric in self.metrics
                        if (row.label, metric) in self.cells
                    },
                }
                for row in self.rows
            ],
            "notes": list(self.notes),
        }
