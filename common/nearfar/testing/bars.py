"""Images that a network learns in half a second: a bright bar whose place is the class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nearfar.runtime import numpy_generator

SIDE, PLACES = 8, 3


def write_bars(folder: Path, count: int, merged: Mapping[int, int] | None = None) -> Path:
    """Write ``bars.npz``: images of 8 x 8 pixels with a bar in one of three places, ten of each to test on.

    Args:
        folder: Where to; made when new.
        count: Training images of every place.
        merged: Class of every place, whose places are then the finer classes; ``None`` makes a class of each.

    Returns:
        The file.
    """
    rng = numpy_generator(0, "bars")
    arrays: dict[str, Any] = {}
    for part, size in (("train", count), ("test", 10)):
        place = np.repeat(np.arange(PLACES), size)
        x = 0.3 * rng.random((len(place), 1, SIDE, SIDE))
        for image, at in zip(x, place, strict=True):
            image[0, 3 * at : 3 * at + 2] += 0.6
        arrays |= {f"x_{part}": x.astype(np.float32), f"y_{part}": place}
        if merged is not None:
            coarse = np.array([merged[at] for at in range(PLACES)])[place]
            arrays |= {f"y_{part}": coarse, f"y_{part}_fine": place}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "bars.npz"
    np.savez(path, **arrays)
    return path
