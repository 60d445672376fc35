"""Mixup of the rows of a batch (Zhang et al., ICLR 2018, equation 1): inputs, representations or soft labels."""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.runtime import to_device


def convex(x: Tensor, order: Tensor, share: Tensor) -> Tensor:
    """``share * x + (1 - share) * x[order]``, row by row.

    Args:
        x: Rows, floating point, shape ``(B, ...)``.
        order: The partner of every row, int64, shape ``(B,)``.
        share: Of the row itself, in [0, 1], a scalar or shape ``(B,)``; on any device.

    Returns:
        Shape ``(B, ...)``; NaN where either row is NaN.

    Raises:
        ValueError: If a shape or dtype does not fit.

    Example:
        >>> x = torch.tensor([[0.0], [1.0]])
        >>> convex(x, torch.tensor([1, 0]), torch.tensor(0.75)).flatten().tolist()
        [0.25, 0.75]
    """
    if x.dim() == 0 or not x.is_floating_point():
        raise ValueError(f"x: floating point of shape (B, ...) expected, got {x.dtype} of {tuple(x.shape)}")
    if order.shape != x.shape[:1] or order.dtype != torch.int64:
        raise ValueError(
            f"order: int64 of shape ({len(x)},) expected, got {order.dtype} of {tuple(order.shape)}"
        )
    if share.dim() > 1 or (share.dim() == 1 and share.shape != x.shape[:1]):
        raise ValueError(f"share: a scalar or shape ({len(x)},) expected, got {tuple(share.shape)}")
    kept: Tensor = to_device(share, x.device).to(x.dtype)
    if kept.dim() == 1:
        kept = kept.reshape(-1, *[1] * (x.dim() - 1))
    return kept * x + (1 - kept) * x.index_select(0, to_device(order, x.device))
