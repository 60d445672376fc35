"""Embeddings in the plane, before and after training: whether what is inside a class falls apart or together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nearfar.atomic import replace_file
from nearfar.optional import require

SHOWN = 4000  # rows at most


def plane(z: Tensor) -> NDArray[np.float64]:
    """The two directions of unit features with the most variance, shape ``(n, 2)``.

    Args:
        z: Shape ``(n, m)``.
    """
    unit = F.normalize(z.double(), dim=1).numpy()
    centred = unit - unit.mean(0)
    _, _, ways = np.linalg.svd(centred, full_matrices=False)
    ways = np.pad(ways[:2], ((0, max(0, 2 - len(ways))), (0, 0)))
    # A singular vector has no sign of its own.
    ways *= np.where(ways[np.arange(2), np.abs(ways).argmax(1)] < 0, -1, 1)[:, None]
    found: NDArray[np.float64] = centred @ ways.T
    return found


def draw_embeddings(embeddings: Mapping[str, Tensor], fine: Tensor, coarse: Tensor, path: Path) -> None:
    """A panel for each, rows coloured by finer class, all of the largest class and those of others.

    Above, all classes, coloured by class; below, the largest class alone in a plane of its own, coloured by what is
    inside it.

    Args:
        embeddings: Features by name, shape ``(n, m)`` each.
        fine: Finer class of every row, or the class itself, shape ``(n,)``.
        coarse: Class of every row, shape ``(n,)``.
        path: Of the picture.
    """
    figure_class = require("matplotlib.figure", "plots").Figure
    figure: Any = figure_class(figsize=(4.6 * len(embeddings), 8), layout="constrained")
    grid = figure.subplots(2, len(embeddings), squeeze=False)
    step = -(-len(fine) // SHOWN)
    largest = int(coarse.bincount().argmax())
    inside = coarse == largest
    for column, (name, z) in enumerate(embeddings.items()):
        _scatter(grid[0, column], z[::step], coarse[::step], name)
        _scatter(
            grid[1, column], z[inside][::step], fine[inside][::step], f"{name}: inside the largest class"
        )
    replace_file(path, lambda file: figure.savefig(file, format="png", dpi=110))


def _scatter(axes: Any, z: Tensor, classes: Tensor, title: str) -> None:
    points = plane(z)
    axes.scatter(points[:, 0], points[:, 1], c=classes.numpy(), cmap="tab10", s=8)
    axes.set_title(title)
    axes.set_xticks([])
    axes.set_yticks([])
