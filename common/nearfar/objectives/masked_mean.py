"""Means over what was observed: of a metric, a loss, a series with gaps."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor, dim: int | None = None) -> Tensor:
    """Mean of the values where the mask is true.

    Args:
        values: Floating point, shape ``(...,)``; what the mask hides may be NaN and has gradient zero.
        mask: Which count, bool, of a shape that broadcasts to that of ``values``, such as ``(N, 1)`` to ``(N, d)``.
        dim: Over which dimension; all of them by default.

    Returns:
        Scalar, or ``values`` without ``dim``; NaN where nothing counts, so that nobody takes it for a zero. Half
        precision is computed in float32.

    Raises:
        ValueError: If a shape or dtype does not fit.

    Example:
        >>> masked_mean(torch.tensor([1.0, 5.0, torch.nan]), torch.tensor([True, True, False])).item()
        3.0
    """
    if not values.is_floating_point():
        raise ValueError(f"values: floating point expected, got {values.dtype}")
    if mask.dtype != torch.bool:
        raise ValueError(f"mask: bool expected, got {mask.dtype}")
    try:
        there = mask.expand_as(values)
    except RuntimeError:
        raise ValueError(
            f"mask: a shape that broadcasts to {tuple(values.shape)} expected, got {tuple(mask.shape)}"
        ) from None
    kept = torch.where(there, values.to(torch.promote_types(values.dtype, torch.float32)), 0)
    if dim is None:
        return kept.sum() / there.sum()
    return kept.sum(dim) / there.sum(dim)
