"""The curves of one run, read from its journal, written as CSV and drawn."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from nearfar.optional import require
from nearfar.tracking.journal import read
from nearfar.tracking.system import PREFIX


class Curves:
    """The points of every metric but those of the machine, by name, in order of steps.

    Args:
        points: ``(step, value)`` by metric.
    """

    def __init__(self, points: Mapping[str, Sequence[tuple[int, float]]]) -> None:
        self.points = {name: sorted(values) for name, values in points.items()}

    @classmethod
    def read(cls, outbox: Path) -> Curves:
        """Those of a run with all its resumptions.

        Args:
            outbox: Its journal; one that does not exist has no curves.
        """
        points: dict[str, dict[int, float]] = {}
        for name, step, value in read(outbox):
            if not name.startswith(PREFIX):
                points.setdefault(name, {})[step] = value
        return cls({name: list(values.items()) for name, values in points.items()})

    def write_csv(self, path: Path) -> None:
        """All points, one line each: metric, step, value."""
        with path.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["metric", "step", "value"])
            for name, points in self.points.items():
                rows.writerows([name, step, value] for step, value in points)

    def draw(self, path: Path, title: str, validation: str = "val/") -> None:
        """Loss terms above, validation below, as PNG; nothing when nothing was logged.

        Args:
            path: File to write.
            title: Above the curves.
            validation: Draw the validation metrics whose names begin like this.
        """
        figure_module = require("matplotlib.figure", "plots")
        groups = [
            {n: p for n, p in self.points.items() if n.startswith("train/") and "norm" not in n},
            {n: p for n, p in self.points.items() if n.startswith(validation)},
        ]
        groups = [group for group in groups if group]
        if not groups:
            return
        figure = figure_module.Figure(figsize=(8, 3.2 * len(groups)), layout="constrained")
        axes = figure.subplots(len(groups), 1, squeeze=False, sharex=True)[:, 0]
        for axis, group in zip(axes, groups, strict=True):
            for name, points in sorted(group.items()):
                steps, values = zip(*points, strict=True)
                dense = len(points) > 100
                axis.plot(
                    steps, values, label=name, marker=None if dense else ".", linewidth=0.8 if dense else 1.5
                )
            axis.legend(fontsize=8, ncols=2)
            axis.grid(alpha=0.3)
        axes[0].set_title(title)
        axes[-1].set_xlabel("step")
        figure.savefig(path, dpi=110)
