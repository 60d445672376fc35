"""Features as neighbour searches take them: one row an item, floating point, every number finite."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.errors import DataError


def feature_rows(name: str, x: Tensor | NDArray[Any]) -> Tensor:
    """Features as a float32 or float64 tensor, without gradient, where they lie.

    Args:
        name: What to call them.
        x: Shape ``(n, d)``. Half precision and integers become float32.

    Returns:
        Shape ``(n, d)``.

    Raises:
        DataError: If they are no matrix of numbers, have no column, or hold NaN or infinity; names the row.

    Example:
        >>> feature_rows("features", np.array([[1, 2]])).dtype
        torch.float32
    """
    if isinstance(x, Tensor):
        rows = x.detach()
    else:
        array = np.asarray(x)
        if array.dtype.kind not in "fiub":
            raise DataError(f"{name}: numbers of shape (n, d) expected, got an array of {array.dtype}")
        rows = torch.from_numpy(np.ascontiguousarray(array, array.dtype.newbyteorder("=")))
    if rows.dim() != 2 or rows.is_complex() or rows.shape[1] == 0:
        raise DataError(
            f"{name}: a matrix (n, d) with at least one column expected, got {rows.dtype} of shape {tuple(rows.shape)}"
        )
    if rows.dtype not in (torch.float32, torch.float64):
        rows = rows.float()
    # A finite sum proves finite terms without a mask as large as the matrix.
    if not rows.sum().isfinite() and len(wrong := (~rows.isfinite().all(1)).nonzero()):
        raise DataError(
            f"{name}: row {wrong[0].item()} is not finite ({len(wrong)} such rows); fill in or drop what is missing"
        )
    return rows
