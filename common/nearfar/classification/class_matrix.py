"""A picture of one number for every pair of classes, and the commonest of them: who is taken for whom."""

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
    draw_class_matrix(shares, classes, "predicted", "true", "share of the true class", path)


def draw_class_matrix(
    values: NDArray[np.float64], classes: Sequence[Any], x: str, y: str, told: str, path: Path
) -> None:
    """Numbers from 0 to 1 as shades.

    Args:
        values: Shape ``(K, K)``.
        classes: Their names.
        x: What columns are.
        y: What rows are.
        told: What the numbers are.
        path: Of the picture.
    """
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
