"""A graph of half a second for the conformance tests: three circles, told apart weakly by their features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nearfar.runtime import numpy_generator


def circles_untrained(folder: Path, *, size: int = 20, num_features: int = 12) -> list[str]:
    """Write ``circles.npz``: in each circle nodes know those up to two places further; a few edges lead elsewhere.

    Args:
        folder: Where to; made when new.
        size: Nodes of a circle.
        num_features: Width of the node features.

    Returns:
        Settings for an encoder on it.
    """
    rng = numpy_generator(0, "circles")
    circle, place = np.divmod(np.arange(3 * size), size)
    edges = [(circle * size + place, circle * size + (place + step) % size) for step in (1, 2)]
    edges.append((rng.integers(3 * size, size=10), rng.integers(3 * size, size=10)))
    source, target = (np.concatenate([pair[side] for pair in edges]) for side in (0, 1))
    different = source != target
    both = np.stack([source, target])[:, different]
    edge_index = np.unique(np.concatenate([both, both[::-1]], axis=1), axis=1)
    means = rng.random((3, num_features))
    x = (means[circle] + 0.5 * rng.random((3 * size, num_features))).astype(np.float32)
    order = rng.permutation(3 * size)
    masks = {name: np.isin(np.arange(3 * size), part) for name, part in _parts(order, size)}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "circles.npz"
    arrays: dict[str, Any] = {"x": x, "edge_index": edge_index, "y": circle, **masks}
    np.savez(path, **arrays)
    return [f"data={path}", "dim=8"]


def circles(folder: Path) -> list[str]:
    """The same with settings for a base model."""
    return [*circles_untrained(folder), "projection=8", "epochs=40", "selection.every=10", "optim.lr=5e-3"]


def circles_bounded(folder: Path) -> list[str]:
    """The same with settings for POT."""
    return [*circles(folder), "kappa=0.4", "compactness.mode=certified"]


def _parts(order: np.ndarray, size: int) -> list[tuple[str, np.ndarray]]:
    return [
        ("train_mask", order[:size]),
        ("val_mask", order[size : 2 * size]),
        ("test_mask", order[2 * size :]),
    ]
