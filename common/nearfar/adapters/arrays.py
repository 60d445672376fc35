"""Users' arrays as tensors in host memory, and where in them a number is not finite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nearfar.errors import DataError

# Squares of larger numbers leave float32: lengths and distances of rows would be infinite.
LARGEST = 1e18


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
            raise DataError(
                f"{name}: a rectangular block of numbers expected, got {error}; convert columns of text, and pad or "
                "leave out shorter rows"
            ) from None
    if found.is_complex() or found.dtype == torch.bool:
        raise DataError(f"{name}: real numbers expected, got {found.dtype}; convert them: .astype('float32')")
    return found


def check_finite(name: str, x: Tensor, axes: Sequence[str]) -> None:
    """Refuse NaN, infinity and numbers beyond ``LARGEST``, and say where the first one is.

    Args:
        name: What to call it.
        x: Floating point, shape ``(N, ...)``.
        axes: What an index of each dimension is called.

    Raises:
        DataError: If a number is not finite, or too large.

    Example:
        >>> check_finite("features", torch.tensor([[0.0, torch.nan]]), ("row", "column"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        nearfar.errors.DataError: features: nan in row 0, column 1; ...
    """
    if x.numel() == 0:
        return
    low, high = x.aminmax()  # NaN as soon as one number is; no second tensor
    if float(low) >= -LARGEST and float(high) <= LARGEST:
        return
    where = [int(place) for place in (~(x.abs() <= LARGEST)).nonzero()[0]]
    place = ", ".join(f"{axis} {number}" for axis, number in zip(axes, where, strict=True))
    value = x[tuple(where)].item()
    if value - value == 0:  # finite
        raise DataError(
            f"{name}: {value:g} in {place}, at most {LARGEST:g} expected, its square is no number of float32; "
            "correct it, or divide the column by a power of ten"
        )
    raise DataError(
        f"{name}: {value} in {place}; fill it or leave the row out, every number has to be finite"
    )
