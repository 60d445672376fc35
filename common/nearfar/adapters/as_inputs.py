"""Arrays, tensors and datasets of torch in the form of :class:`nearfar.adapters.Inputs`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from nearfar.adapters.datasets import DatasetInputs
from nearfar.adapters.features import FeatureInputs
from nearfar.adapters.images import ImageInputs
from nearfar.adapters.inputs import Inputs
from nearfar.adapters.series import SeriesInputs
from nearfar.errors import DataError


def as_inputs(rows: Any, like: Inputs | None = None) -> Inputs:
    """Rows of data in the form that trainers need.

    Args:
        rows: ``Inputs``; a map-style dataset of torch; or an array or tensor: features ``(N, m)``, series
            ``(N, T, F)``, images ``(N, C, H, W)``.
        like: Rows that an encoder was made for: arrays of another kind or width are refused.

    Raises:
        DataError: If it is none of these.

    Example:
        >>> type(as_inputs(np.zeros((3, 2)))).__name__
        'FeatureInputs'
    """
    if isinstance(rows, Inputs):
        return rows
    if isinstance(rows, Dataset):
        return DatasetInputs(rows)
    kinds: dict[int, type[Inputs]] = {2: FeatureInputs, 3: SeriesInputs, 4: ImageInputs}
    try:
        x = rows if isinstance(rows, Tensor) else np.asarray(rows)
    except ValueError as error:  # lists of different lengths
        raise DataError(
            f"rows: a rectangular array expected: {error}; pad or leave out shorter rows"
        ) from None
    kind: Any = kinds.get(x.ndim)
    if kind is None:
        raise DataError(
            f"rows: (N, m), (N, T, F), (N, C, H, W), a dataset or nearfar.adapters inputs expected, got {x.ndim} axes; "
            "reshape it: one row alone is x[None]"
        )
    made: Inputs = kind(x)
    if like is not None:
        _check_width(made, like)
    return made


# Features, channels of series, channels of images: what weights of an encoder are as many as.
WIDTHS: dict[type[Inputs], tuple[str, int]] = {
    FeatureInputs: ("features", 1),
    SeriesInputs: ("channels", 2),
    ImageInputs: ("channels", 1),
}


def _check_width(rows: Inputs, like: Inputs) -> None:
    if type(like) not in WIDTHS:
        return
    what, axis = WIDTHS[type(like)]
    first = torch.zeros(1, dtype=torch.int64)
    wanted, found = (one.rows(first).shape for one in (like, rows))
    if len(wanted) != len(found) or wanted[axis] != found[axis]:
        shapes = [", ".join(["N", *map(str, shape[1:])]) for shape in (wanted, found)]
        raise DataError(
            f"rows: {wanted[axis]} {what} a row as in training expected, shape ({shapes[0]}), got ({shapes[1]}); give "
            "the same columns in the same order"
        )
