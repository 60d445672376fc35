"""Pictures of a run: who is taken for whom, and who borrows from whom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nearfar.atomic import replace_file
from nearfar.optional import require

NAMED = 20  # classes up to which every one is written out


def draw_confusion(y: Tensor, predicted: Tensor, classes: Sequence[Any], path: Path) -> None:
    """Share of every class that is taken for every other.

    Args:
        y: True classes, shape ``(M,)``.
        predicted: Shape ``(M,)``.
        classes: Their names.
        path: Of the picture.
    """
    matrix = np.zeros((len(classes), len(classes)))
    np.add.at(matrix, (y.numpy(), predicted.numpy()), 1)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    _draw(shares, classes, "predicted", "true", "share of the true class", path)


def draw_donors(gaussians: Any, classes: Sequence[Any], path: Path) -> None:
    """Weights with which every class borrows from heads.

    Args:
        gaussians: Fitted.
        classes: Their names.
        path: Of the picture.
    """
    weights = np.zeros((len(classes), len(classes)))
    for row in gaussians.donor_table():
        for donor, weight in zip(row["donors"], row["weights"], strict=True):
            weights[int(row["class"]), int(donor)] = float(weight)
    _draw(weights, classes, "donor", "class", "weight", path)


def _draw(values: NDArray[np.float64], classes: Sequence[Any], x: str, y: str, told: str, path: Path) -> None:
    figure_class = require("matplotlib.figure", "plots").Figure
    figure: Any = figure_class(figsize=(5.5, 4.6), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(values, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label=told)
    if len(classes) <= NAMED:
        axes.set_xticks(range(len(classes)), [str(name) for name in classes], rotation=90)
        axes.set_yticks(range(len(classes)), [str(name) for name in classes])
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    replace_file(path, lambda file: figure.savefig(file, format="png", dpi=110))
