"""All objectives in all domains, as one picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from nearfar.optional import require
from nearfar.pipelines.objectives.arenas import OWN, UNTRAINED
from nearfar.pipelines.objectives.comparison import ArenaResult
from nearfar.pipelines.objectives.tables import mean_ranks


def draw(results: Sequence[ArenaResult]) -> bytes:
    """A panel a domain, as PNG: every objective's mean, deviation and seeds; lines for own loss and no contrast.

    Args:
        results: Of every domain.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """
    figures: Any = require("matplotlib.figure", "drawing the comparison")
    order = [row for row, _ in sorted(mean_ranks(results).items(), key=lambda pair: pair[1])]
    figure = figures.Figure(figsize=(3 * len(results) + 1.5, 0.22 * len(order) + 1.2), layout="constrained")
    axes = figure.subplots(1, len(results), sharey=True, squeeze=False)[0]
    for axis, result in zip(axes, results, strict=True):
        for place, row in enumerate(order):
            if row not in result.values:
                axis.text(0.5, place, "-", transform=axis.get_yaxis_transform(), va="center", ha="center")
                continue
            values = [100 * value for value in result.values[row]]
            axis.errorbar(
                100 * result.mean(row), place, xerr=100 * result.std(row), fmt="o", color="C0", capsize=2
            )
            axis.plot(values, [place] * len(values), ".", color="black", markersize=2)
        for row, style, label in ((OWN, "-", result.own), (UNTRAINED, ":", "no contrast")):
            if row in result.values:
                axis.axvline(100 * result.mean(row), color="C3", linestyle=style, linewidth=1, label=label)
        axis.set_title(f"{result.domain}\n{result.metric.removeprefix('test/')}, %", fontsize=9)
        axis.legend(fontsize=6, loc="lower left")
        axis.grid(axis="x", alpha=0.3)
        axis.set_yticks(range(len(order)), order, fontsize=7)
    axes[0].invert_yaxis()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    return picture.getvalue()
