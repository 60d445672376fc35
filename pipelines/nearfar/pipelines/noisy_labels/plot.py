"""Bars of all baselines on one domain, with true labels and with wrong ones."""

from __future__ import annotations

import io
from typing import Any

from nearfar.optional import require
from nearfar.pipelines.mean_std import mean_std
from nearfar.pipelines.noisy_labels.experiment import DomainResult


def draw_bars(result: DomainResult) -> bytes:
    """A pair of bars per baseline, its standard deviation over seeds, and a dot per seed, as PNG.

    Args:
        result: What came out.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """
    figures: Any = require("matplotlib.figure", "drawing bars")
    figure = figures.Figure(figsize=(8, 0.45 * len(result.scores) + 1.6), layout="constrained")
    axis = figure.subplots()
    kinds = (("true labels", "clean", -0.2, "C7"), ("wrong labels", "noisy", 0.2, "C0"))
    for label, kind, shift, color in kinds:
        for place, scores in enumerate(result.scores.values()):
            found = mean_std(getattr(scores, kind))
            if found is None:
                axis.text(0.01, place + shift, "cannot run", va="center", fontsize=7, color=color)
                continue
            axis.barh(place + shift, found.mean, 0.36, xerr=found.std, capsize=3, color=color, alpha=0.75)
            values = [value for value in getattr(scores, kind) if value is not None]
            axis.plot(values, [place + shift] * len(values), "o", color="black", markersize=2)
        axis.barh([0], [0], color=color, alpha=0.75, label=label)
    axis.axvline(1 / len(result.counts), color="black", linewidth=0.8, linestyle=":", label="chance")
    axis.set_yticks(range(len(result.scores)), [scores.title for scores in result.scores.values()])
    axis.invert_yaxis()
    axis.set_xlabel("balanced accuracy")
    setting = result.setting
    title = f"{result.domain} ({result.data}): {100 * setting.rate:.0f} % wrong labels, {setting.seeds} seeds"
    axis.set_title(title, fontsize=10)
    axis.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    return picture.getvalue()
