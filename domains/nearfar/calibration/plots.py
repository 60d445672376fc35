"""Who borrows from whom, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nearfar.classification.class_matrix import draw_class_matrix


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
    draw_class_matrix(weights, classes, "donor", "class", "weight", path)
