"""Bars of all methods on one source, a panel for everything that is measured."""

from __future__ import annotations

import io
from typing import Any

from nearfar.optional import require
from nearfar.pipelines.hidden_classes.experiment import METRICS, REFERENCE, DomainResult
from nearfar.pipelines.mean_std import mean_std


def draw_bars(result: DomainResult) -> bytes:
    """A bar per method and metric, its standard deviation over seeds, and a dot per seed, as PNG.

    Args:
        result: What came out.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """
    figures: Any = require("matplotlib.figure", "drawing bars")
    figure = figures.Figure(figsize=(11, 0.4 * len(result.scores) + 1.4), layout="constrained")
    for axis, (metric, title) in zip(
        figure.subplots(1, len(METRICS), sharey=True), METRICS.items(), strict=True
    ):
        for place, (name, scores) in enumerate(result.scores.items()):
            found = mean_std(scores.values[metric])
            if found is None:
                axis.text(0.01, place, "not measured", va="center", fontsize=7)
                continue
            color = "C0" if name == REFERENCE else "C7"
            axis.barh(place, found.mean, 0.7, xerr=found.std, capsize=3, color=color, alpha=0.75)
            values = [value for value in scores.values[metric] if value is not None]
            axis.plot(values, [place] * len(values), "o", color="black", markersize=2)
        axis.set_xlim(0, 1)
        axis.set_title(title, fontsize=9)
        axis.grid(axis="x", alpha=0.3)
        axis.set_yticks(range(len(result.scores)), [scores.title for scores in result.scores.values()])
    axis.invert_yaxis()
    figure.suptitle(
        f"{result.domain} ({result.data}): trained on coarse classes, {len(result.seeds)} seeds", fontsize=10
    )
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    return picture.getvalue()
