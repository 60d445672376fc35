"""The curves of one run: kept thin while it trains, drawn and written as CSV at its end."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from nearfar.optional import require

MOST_POINTS = 2000


class Curves:
    """At most 2,000 points a metric; when full, every second point goes and the stride doubles."""

    def __init__(self) -> None:
        self.points: dict[str, list[tuple[int, float]]] = {}
        self._stride: dict[str, int] = {}
        self._seen: dict[str, int] = {}

    def add(self, metrics: Mapping[str, float], step: int) -> None:
        """Remember the values of one step."""
        for name, value in metrics.items():
            stride = self._stride.setdefault(name, 1)
            seen = self._seen.get(name, 0)
            self._seen[name] = seen + 1
            if seen % stride:
                continue
            points = self.points.setdefault(name, [])
            points.append((step, value))
            if len(points) >= MOST_POINTS:
                del points[1::2]
                self._stride[name] = 2 * stride

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
