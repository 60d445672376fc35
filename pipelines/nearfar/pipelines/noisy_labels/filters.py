"""Which rows each filter of labels keeps, on features as the baselines see them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearfar.errors import MissingDependencyError
from nearfar.pipelines.noisy_labels.baselines import KEEP, CannotRunError, cleanlab_suspects, standardized


def filters(x: NDArray[Any], labels: NDArray[np.int64], seed: int) -> dict[str, NDArray[np.bool_] | None]:
    """Rows that are kept, by filter: ``none``, ``lof``, ``knn`` and ``cleanlab``.

    Args:
        x: Features, shape ``(n, m)``; they are scaled first.
        labels: Class codes as given, shape ``(n,)``.
        seed: Of cleanlab's folds.

    Returns:
        Masks, shape ``(n,)``; ``None`` for a filter that cannot run or is not installed.
    """
    from nearfar.calibration.gaussians import inliers

    rows, _ = standardized(x, x)
    kept: dict[str, NDArray[np.bool_] | None] = {
        "none": np.ones(len(labels), dtype=bool),
        "lof": inliers(rows, labels, "lof").numpy(),
        "knn": inliers(rows, labels, "knn", keep=KEEP).numpy(),
    }
    try:
        kept["cleanlab"] = ~cleanlab_suspects(rows, labels, seed)
    except (CannotRunError, MissingDependencyError):
        kept["cleanlab"] = None
    return kept
