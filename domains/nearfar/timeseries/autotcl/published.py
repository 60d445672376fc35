"""Settings of the published program per data set, from its configuration files; for ``variant=released``.

Nearly all of its runs make one step an epoch. The published booleans were given as ``type=bool`` options, so that
``--hard_mask False`` means true there; the values here are what was meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Row(NamedTuple):
    """One data set, univariate (S) or multivariate (M)."""

    batch_size: int
    lr: float
    lr_augmenter: float
    local: float
    beta: float
    smoothness: float
    hidden: int
    crop: int
    depth: int
    dim: int
    stretch: float
    bias: float
    hard: bool
    every: int
    epochs: int


PUBLISHED: Mapping[tuple[str, str], Row] = {
    ("etth1", "S"): Row(32, 3e-5, 1e-2, 0.3, 0.003, 0, 64, 257, 1, 16, 0.05, 0.05, True, 1, 115),
    ("etth1", "M"): Row(32, 1e-5, 1.2e-2, 0.3, 0.2, 0, 128, 257, 1, 16, 0.05, 0.05, True, 1, 35),
    ("etth2", "S"): Row(32, 1e-5, 1e-2, 0.1, 0.1, 0, 128, 512, 2, 16, 0.02, 0.05, False, 1, 80),
    ("etth2", "M"): Row(64, 3e-5, 0.1, 1e-6, 0, 1e-6, 8, 256, 5, 8, 0.0009, 0.01, False, 1, 15),
    ("ettm1", "S"): Row(32, 1e-5, 1e-2, 0.1, 0.1, 0, 128, 512, 1, 16, 0.02, 0.05, False, 1, 190),
    ("ettm1", "M"): Row(128, 1e-4, 3e-6, 1e-3, 1e-6, 3e-5, 32, 1024, 1, 128, 0.0006, 0.2, False, 2, 420),
    ("electricity", "S"): Row(64, 1e-5, 1e-2, 0.1, 0.1, 0, 128, 257, 2, 16, 0.02, 0.05, False, 1, 110),
    ("electricity", "M"): Row(128, 1e-6, 1e-3, 3e-6, 1e-4, 0.01, 32, 256, 1, 256, 0.0006, 0.1, True, 8, 10),
    ("wth", "S"): Row(256, 3e-3, 1e-2, 3e-4, 0.03, 3e-4, 128, 256, 1, 8, 0.499, 0.0006, True, 1, 20),
    ("wth", "M"): Row(64, 3e-3, 1e-6, 0.1, 3e-4, 0.3, 16, 512, 2, 256, 0.0009, 0.001, False, 32, 20),
}


def published(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of ``variant=released`` on ``data`` and ``features``, nested; empty where none were published.

    Args:
        given: Settings of the user.

    Example:
        >>> published({"variant": "released", "data": "ETTh1"})["optim"]
        {'lr': 3e-05}
        >>> published({"variant": "paper", "data": "ETTh1"})
        {}
    """
    if given.get("variant") != "released":
        return {}
    name = Path(str(given.get("data", ""))).stem.lower()
    row = PUBLISHED.get((name, str(given.get("features", "S"))))
    if row is None:
        return {}
    return {
        "batch_size": row.batch_size,
        "crop": row.crop,
        "epochs": row.epochs,
        "selection": {"every": row.epochs},
        "optim": {"lr": row.lr},
        "contrast": {"local": row.local},
        "augmenter": {
            "lr": row.lr_augmenter,
            "beta": row.beta,
            "smoothness": row.smoothness,
            "hidden": row.hidden,
            "depth": row.depth,
            "dim": row.dim,
            "stretch": row.stretch,
            "bias": row.bias,
            "hard": row.hard,
            "every": row.every,
        },
    }
