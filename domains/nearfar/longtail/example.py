"""Images of half a second for the conformance tests: a bright bar whose place is the finer class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nearfar.runtime import numpy_generator

SIDE, COARSE = 8, (0, 0, 1)


def bars(folder: Path, *, count: int = 16) -> list[str]:
    """Write ``bars.npz``, two places of the bar in one class and the third in another, and give settings.

    Args:
        folder: Where to; made when new.
        count: Training images of every place.

    Returns:
        Settings for a small model on it.
    """
    rng = numpy_generator(0, "bars")
    arrays: dict[str, Any] = {}
    for part, size in (("train", count), ("test", 10)):
        fine = np.repeat(np.arange(len(COARSE)), size)
        x = 0.3 * rng.random((len(fine), 1, SIDE, SIDE))
        for image, place in zip(x, fine, strict=True):
            image[0, 3 * place : 3 * place + 2] += 0.6
        coarse = np.array(COARSE)[fine]
        arrays |= {f"x_{part}": x.astype(np.float32), f"y_{part}": coarse, f"y_{part}_fine": fine}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "bars.npz"
    np.savez(path, **arrays)
    return [f"data={path}", "epochs=8", "batch_size=16", "selection.every=4"]


def subclasses(folder: Path) -> list[str]:
    """The same with settings for subclasses, of which the warm-up ends within an epoch.

    Args:
        folder: As of :func:`bars`.

    Returns:
        Settings for SBCL on it.
    """
    return [
        *bars(folder),
        "dim=8",
        "warmup_epochs=0.5",
        "subclasses.delta=4",
        "subclasses.every=3",
    ]


def contrast(folder: Path) -> list[str]:
    """The same for contrasts without subclasses.

    Args:
        folder: As of :func:`bars`.

    Returns:
        Settings for them.
    """
    return [*bars(folder), "dim=8"]
