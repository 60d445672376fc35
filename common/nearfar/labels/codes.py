"""Class codes as the tools here take them: integers from 0, one an item, as an array of the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nearfar.errors import DataError

Values: TypeAlias = Tensor | NDArray[Any] | Sequence[Any]


def class_codes(name: str, labels: Values, num_classes: int | None = None) -> NDArray[np.int64]:
    """Check codes, and bring them to the CPU.

    Args:
        name: What to call them.
        labels: Integers from 0, shape ``(n,)``.
        num_classes: All must be below it.

    Returns:
        Shape ``(n,)``.

    Raises:
        DataError: If they are anything else; names the row.

    Example:
        >>> class_codes("labels", [2, 0]).tolist()
        [2, 0]
    """
    codes = as_array(labels)
    if codes.ndim != 1 or (codes.size and codes.dtype.kind not in "iu"):
        raise DataError(
            f"{name}: class codes 0, 1, ... of shape (n,) expected, got {codes.dtype} of shape {codes.shape}; "
            "nearfar.labels.encode_labels makes codes of other labels"
        )
    above = codes >= (np.inf if num_classes is None else num_classes)
    if len(wrong := np.flatnonzero((codes < 0) | above)):
        bound = "" if num_classes is None else f" and below {num_classes}"
        raise DataError(
            f"{name}: class codes from 0{bound} expected, got {codes[wrong[0]]} in row {wrong[0]} "
            f"({len(wrong)} such rows)"
        )
    return codes.astype(np.int64)


def class_counts(labels: Values, num_classes: int | None = None) -> NDArray[np.int64]:
    """How many items each class has.

    Args:
        labels: Integers from 0, shape ``(n,)``.
        num_classes: K; by default one more than the largest code.

    Returns:
        Shape ``(K,)``.

    Raises:
        DataError: If they are no class codes.

    Example:
        >>> class_counts([0, 2, 2]).tolist()
        [1, 0, 2]
    """
    return np.bincount(class_codes("labels", labels, num_classes), minlength=num_classes or 0).astype(
        np.int64
    )


def as_array(values: Values) -> NDArray[Any]:
    """Tensors of any device, data frames' columns and sequences as arrays of numpy.

    Args:
        values: Shape ``(...,)``.
    """
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
