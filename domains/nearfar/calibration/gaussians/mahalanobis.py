"""Squared Mahalanobis distances through a thin factor: no m x m matrix for a class of few items."""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.checks import check_positive


def squared_mahalanobis(x: Tensor, mean: Tensor, factor: Tensor, ridge: float) -> Tensor:
    """``(x - mean) (F^T F + ridge I)^-1 (x - mean)`` of every row.

    The identity of Woodbury in the singular vectors of F: along each of them a variance, and the ridge on what is
    orthogonal to all. Written with an inverse instead, the two terms cancel where the ridge is small.

    Args:
        x: Shape ``(N, m)``.
        mean: Shape ``(m,)``.
        factor: F, shape ``(r, m)``; r may be zero.
        ridge: Variance added in every direction, positive.

    Returns:
        Shape ``(N,)``.

    Raises:
        ValueError: If ``ridge`` is not positive.

    Example:
        >>> x = torch.tensor([[2.0, 3.0]])
        >>> squared_mahalanobis(x, torch.zeros(2), torch.tensor([[1.0, 0.0]]), ridge=1.0)  # 4 / 2 + 9 / 1
        tensor([11.])
    """
    check_positive(ridge=ridge)
    apart = x - mean
    _, deviations, directions = torch.linalg.svd(factor, full_matrices=False)
    along = apart @ directions.t()
    across = apart - along @ directions
    distances: Tensor = (along.square() / (deviations.square() + ridge)).sum(1) + across.square().sum(
        1
    ) / ridge
    return distances
