"""Which classes are the head of a long tail (Zhang et al., ICCV 2023, section 3.2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nearfar.errors import ConfigError, DataError
from nearfar.labels.codes import Values, as_array


def head_classes(counts: Values, mass: float = 0.5) -> NDArray[np.int64]:
    """The fewest largest classes that together hold a share of all items; all others are the tail.

    Args:
        counts: Items of each class, shape ``(K,)``.
        mass: The share, in (0, 1].

    Returns:
        Classes by falling size, the smaller code first among equals, shape ``(heads,)``. A class without items is
        never one of them; without any item there are none.

    Raises:
        ConfigError: If ``mass`` is not in (0, 1].
        DataError: If a count is negative or not finite.

    Example:
        >>> head_classes([10, 40, 30, 20, 0]).tolist()
        [1, 2]
    """
    if not 0 < mass <= 1:
        raise ConfigError(f"mass: a share in (0, 1] expected, got {mass}")
    sizes = as_array(counts)
    if sizes.ndim != 1 or not np.all(np.isfinite(sizes) & (sizes >= 0)):
        raise DataError(f"counts: one number of items a class expected, at least 0, got {counts!r}")
    order = np.argsort(-sizes, kind="stable")
    held = np.cumsum(sizes[order])
    if not len(held) or held[-1] == 0:
        return np.empty(0, np.int64)
    # A share such as 0.3 of 10 is 3 and not the 3.0000000000000004 that floats make of it.
    needed = mass * held[-1] * (1 - 1e-12)
    return order[: int(np.searchsorted(held, needed)) + 1].astype(np.int64)
