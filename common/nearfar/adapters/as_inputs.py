"""Arrays, tensors and datasets of torch in the form of :class:`nearfar.adapters.Inputs`."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from nearfar.adapters.datasets import DatasetInputs
from nearfar.adapters.features import FeatureInputs
from nearfar.adapters.images import ImageInputs
from nearfar.adapters.inputs import Inputs
from nearfar.adapters.series import SeriesInputs
from nearfar.errors import DataError


def as_inputs(rows: Any) -> Inputs:
    """Rows of data in the form that trainers need.

    Args:
        rows: ``Inputs``; a map-style dataset of torch; or an array or tensor: features ``(N, m)``, series
            ``(N, T, F)``, images ``(N, C, H, W)``.

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
    x = rows if isinstance(rows, Tensor) else np.asarray(rows)
    kind: Any = kinds.get(x.ndim)
    if kind is None:
        raise DataError(
            f"rows: (N, m), (N, T, F), (N, C, H, W), a dataset or nearfar.adapters inputs expected, got {x.ndim} axes"
        )
    made: Inputs = kind(x)
    return made
