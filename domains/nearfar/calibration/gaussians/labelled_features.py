"""Features, their labels and a mask of them, as people give them to :class:`ClassGaussians`."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.errors import DataError
from nearfar.labels.codes import Values
from nearfar.labels.encoded import encode_labels
from nearfar.neighbors import feature_rows


def given_features(features: Tensor | NDArray[Any]) -> tuple[Tensor, torch.dtype]:
    """Rows to compute with, not copied if they are float32 or float64, and the dtype of results.

    Args:
        features: Shape ``(N, m)``.

    Raises:
        DataError: If they are no matrix of finite numbers, or there is no row.
    """
    rows = feature_rows("features", features)
    if not len(rows):
        raise DataError("features: at least one row expected, got none")
    if isinstance(features, Tensor) and features.is_floating_point():
        return rows, features.dtype
    return rows, rows.dtype


def given_codes(
    labels: Values, count: int, classes: Sequence[Hashable] | None
) -> tuple[Tensor, tuple[Hashable, ...]]:
    """Codes 0, ..., K - 1 of labels, and what they stand for.

    Args:
        labels: Of any hashable type, shape ``(N,)``.
        count: N.
        classes: Labels by code; those that occur, in order, without it.

    Returns:
        Codes, int64 of the CPU, shape ``(N,)``; and labels by code.

    Raises:
        DataError: If there are more or fewer labels than items, or one is missing or not among ``classes``.
    """
    codes, names = encode_labels(labels, classes=classes)
    if len(codes) != count:
        raise DataError(f"labels: one for each of the {count} rows expected, got {len(codes)}")
    return torch.from_numpy(codes), tuple(names.tolist())


def given_mask(mask: Values, codes: Tensor, names: Sequence[Hashable]) -> Tensor:
    """Items to keep, at least one of every class that has any.

    Args:
        mask: bool, shape ``(N,)``.
        codes: Of the items, int64 of the CPU, shape ``(N,)``.
        names: Labels by code.

    Returns:
        bool of the CPU, shape ``(N,)``.

    Raises:
        DataError: If it is no mask of these items, or leaves nothing of a class.
    """
    kept = torch.as_tensor(mask).cpu()
    if kept.dtype != torch.bool or kept.shape != codes.shape:
        raise DataError(
            f"inliers: bool of shape {tuple(codes.shape)} expected, got {kept.dtype} of shape {tuple(kept.shape)}"
        )
    before = codes.bincount(minlength=len(names))
    lost = ((before > 0) & (codes[kept].bincount(minlength=len(names)) == 0)).nonzero()[:, 0]
    if len(lost):
        k = int(lost[0])
        raise DataError(
            f"inliers: none of the {int(before[k])} items of class {names[k]!r} is kept; keep one at least"
        )
    return kept
