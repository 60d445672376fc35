"""So many rows of every class, drawn at random: what long tails, halves and parts to hold out are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearfar.labels.codes import Values, class_codes, class_counts


def rows_per_class(
    labels: Values, sizes: NDArray[Any] | Sequence[int], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Choose ``sizes[k]`` rows of class k, or all it has.

    Args:
        labels: Class codes below K, shape ``(n,)``.
        sizes: Rows wanted of each class, shape ``(K,)``.
        rng: Source of the choice; each class is put in an order of its own, of which the first rows are taken.

    Returns:
        Rows, ascending, shape ``(m,)``.

    Raises:
        DataError: If labels are no class codes, or not below K.

    Example:
        >>> from nearfar.runtime import numpy_generator
        >>> rows = rows_per_class([0, 0, 0, 1, 1], [2, 1], numpy_generator(0, "some"))
        >>> (rows < 3).sum().item(), (rows >= 3).sum().item()
        (2, 1)
    """
    codes = class_codes("labels", labels, len(sizes))
    of_class = np.split(np.argsort(codes, kind="stable"), np.cumsum(class_counts(codes, len(sizes)))[:-1])
    chosen = [rng.permutation(rows)[:size] for rows, size in zip(of_class, sizes, strict=True)]
    return np.sort(np.concatenate(chosen)).astype(np.int64)
