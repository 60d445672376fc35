"""Series of half a second for the conformance tests: noise with a bump that is narrow or wide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearfar.runtime import numpy_generator


def bumps_untrained(folder: Path, *, count: int = 24, steps: int = 40) -> list[str]:
    """Write ``bumps.npz``: two classes, one channel with a bump, one with noise, some steps missing.

    Args:
        folder: Where to; made when new.
        count: Series in each part.
        steps: Of a series.

    Returns:
        Settings for an encoder on it.
    """
    rng = numpy_generator(0, "bumps")
    arrays: dict[str, Any] = {}
    for part in ("train", "test"):
        x, y = _bumps(rng, count, steps)
        arrays |= {f"x_{part}": x, f"y_{part}": y}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "bumps.npz"
    np.savez(path, **arrays)
    sizes = ("encoder.dim=8", "encoder.hidden=8", "encoder.depth=2", "encoder.dropout=0")
    return [f"data={path}", *sizes]


def bumps(folder: Path) -> list[str]:
    """The same with settings for AutoTCL.

    Masks are soft and the divergence has no constant in it, so that the gradient is that of the loss.
    """
    return [
        *bumps_untrained(folder),
        "epochs=40",
        "selection.every=10",
        "crop=32",
        "batch_size=12",
        "augmenter.hidden=8",
        "augmenter.dim=4",
        "augmenter.hard=false",
        "augmenter.divergence=mean",
    ]


def _bumps(rng: np.random.Generator, count: int, steps: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    y = np.arange(count) % 2
    place = np.arange(steps)
    centre = rng.integers(steps // 4, 3 * steps // 4, size=count)
    width = np.where(y == 1, 5.0, 1.5)
    bump = 3 * np.exp(-(((place - centre[:, None]) / width[:, None]) ** 2))
    x = 0.3 * rng.standard_normal((count, steps, 2))
    x[:, :, 0] += bump
    x[0, 3] = np.nan
    x[1, -5:] = np.nan
    return x.astype(np.float32), y
