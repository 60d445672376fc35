"""Features and classes as probes take them: tensors or arrays, on any device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.errors import DataError

# Squares of larger numbers leave float64: distances and deviations of them are infinite.
LARGEST = float(np.finfo(np.float32).max)

Values = Tensor | NDArray[Any]


def probe_arrays(
    z_train: Values, y_train: Values, z_test: Values
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Arrays of the CPU, checked.

    Args:
        z_train: Features, shape ``(N, D)``.
        y_train: Classes, shape ``(N,)``.
        z_test: Features, shape ``(M, D)``.

    Raises:
        DataError: If shapes do not go together, nothing is there to learn from, all classes are equal, or a feature
            is not finite or beyond float32.
    """
    train, test = (_array(values).astype(np.float64) for values in (z_train, z_test))
    y = _array(y_train)
    if train.ndim != 2 or test.ndim != 2 or train.shape[1] != test.shape[1] or 0 in train.shape:
        raise DataError(
            f"z_train, z_test: shapes (N, D) and (M, D) expected, got {train.shape} and {test.shape}; pool series first"
        )
    if y.shape != (len(train),):
        raise DataError(
            f"y_train: shape ({len(train)},) expected, one class a row of z_train, got {y.shape}; give one for each"
        )
    if y.dtype.kind not in "biu":
        raise DataError(
            f"y_train: classes as whole numbers expected, got {y.dtype} such as {y[:1].tolist()[0]!r}; number them: "
            "numpy.unique(y, return_inverse=True)[1]"
        )
    for name, values in (("z_train", train), ("z_test", test)):
        wrong = np.flatnonzero(~np.isfinite(values).all(1))
        if len(wrong):
            raise DataError(
                f"{name}: row {wrong[0]} is not finite ({len(wrong)} such rows); look for series without a value"
            )
        if values.size and np.abs(values).max() > LARGEST:
            row = int((np.abs(values) > LARGEST).any(1).argmax())
            raise DataError(
                f"{name}: {np.abs(values[row]).max():g} in row {row} is beyond float32; divide by a power of ten"
            )
    if (y == y[0]).all():
        raise DataError(f"y_train: all {len(y)} rows are of class {y[0]}; a probe needs two classes")
    return train, y.astype(np.int64), test


def scaled_by(train: NDArray[np.float64], test: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Both less the means and over the deviations of the first; a constant column becomes zero.

    Args:
        train: Shape ``(N, D)``.
        test: Shape ``(M, D)``.

    Example:
        >>> scaled_by(np.array([[1.0, 5.0], [3.0, 5.0]]), np.array([[4.0, 6.0]]))[1].tolist()
        [[2.0, 0.0]]
    """
    constant = train.max(0) == train.min(0)
    scale = np.where(constant, np.inf, train.std(0))
    return tuple((values - train.mean(0)) / scale for values in (train, test))


def _array(values: Values) -> NDArray[Any]:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
