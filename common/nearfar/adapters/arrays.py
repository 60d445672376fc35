"""Users' arrays as tensors in host memory, and where in them a number is not finite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nearfar.errors import DataError


def as_tensor(name: str, values: Any) -> Tensor:
    """Numbers as a tensor on the CPU, without gradient; the memory is shared where it can be.

    Args:
        name: What to call them.
        values: Tensor, array, data frame or nested list of numbers.

    Raises:
        DataError: If they are no rectangular block of real numbers.

    Example:
        >>> as_tensor("x", [[1, 2], [3, 4]]).shape
        torch.Size([2, 2])
    """
    if isinstance(values, Tensor):
        found = values.detach().cpu()
    else:
        try:
            array = np.asarray(values)
            # Fine for NumPy, not for torch: foreign byte orders, negative strides, memory that cannot be written.
            native = array.astype(array.dtype.newbyteorder("="), copy=not array.flags.writeable)
            found = torch.from_numpy(np.ascontiguousarray(native).reshape(array.shape))
        except (TypeError, ValueError) as error:
            raise DataError(f"{name}: a rectangular block of numbers expected, got {error}") from None
    if found.is_complex() or found.dtype == torch.bool:
        raise DataError(f"{name}: real numbers expected, got {found.dtype}")
    return found


def check_finite(name: str, x: Tensor, axes: Sequence[str]) -> None:
    """Refuse NaN and infinity, and say where the first one is.

    Args:
        name: What to call it.
        x: Floating point, shape ``(N, ...)``.
        axes: What an index of each dimension is called.

    Raises:
        DataError: If a number is not finite.

    Example:
        >>> check_finite("features", torch.tensor([[0.0, torch.nan]]), ("row", "column"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        nearfar.errors.DataError: features: nan in row 0, column 1; ...
    """
    # A finite sum proves finite terms and needs no second tensor.
    if bool(x.sum().isfinite()):
        return
    finite = x.isfinite()
    if bool(finite.all()):
        return
    where = [int(place) for place in (~finite).nonzero()[0]]
    place = ", ".join(f"{axis} {number}" for axis, number in zip(axes, where, strict=True))
    raise DataError(
        f"{name}: {x[tuple(where)].item()} in {place}; fill it or leave the row out, every number has to be finite"
    )
