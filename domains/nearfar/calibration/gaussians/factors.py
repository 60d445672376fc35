r"""Covariances as thin factors: ``F`` of shape ``(r, m)`` with F^T F the unbiased covariance of a class.

A draw from N(0, F^T F) is F^T e with e ~ N(0, I_r), whatever the rank, so nothing is inverted, nothing of size m x m is
formed for a class of m items or fewer, and a singular covariance is no special case.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

# Rows that a triangular factor takes in at a time.
BLOCK = 4096


def factor_rank(count: int, dim: int) -> int:
    """Rows r of the factor of ``count`` items of ``dim`` features.

    Args:
        count: Items.
        dim: Features, m.

    Example:
        >>> [factor_rank(count, 3) for count in (0, 1, 2, 3, 100)]
        [0, 0, 2, 3, 3]
    """
    return 0 if count < 2 else min(count, dim)


def covariance_factor(rows: Tensor, mean: Tensor) -> Tensor:
    """A factor of the unbiased covariance of some rows: themselves, centred, or m rows where they are more.

    More than m rows are folded into the triangle of a QR decomposition, block by block. That is the factor of Cholesky
    without squaring the condition number, and it exists for a singular covariance too.

    Args:
        rows: Shape ``(n, m)``.
        mean: Their mean, float64, shape ``(m,)``.

    Returns:
        float64, shape ``(factor_rank(n, m), m)``; no rows, which is a covariance of zero, for n of 0 or 1.

    Example:
        >>> rows = torch.tensor([[0.0, 0.0], [2.0, 2.0], [1.0, 1.0]])
        >>> factor = covariance_factor(rows, rows.double().mean(0))
        >>> factor.shape, (factor.t() @ factor).round(decimals=9).tolist()
        (torch.Size([2, 2]), [[1.0, 1.0], [1.0, 1.0]])
    """
    count, dim = rows.shape
    if count < 2:
        return mean.new_zeros(0, dim)
    if count <= dim:
        return (rows.double() - mean) / math.sqrt(count - 1)
    triangle = mean.new_zeros(0, dim)
    for block in rows.split(max(BLOCK, dim)):
        stacked = torch.cat([triangle, block.double() - mean])
        triangle = torch.linalg.qr(stacked, mode="r").R
    # LAPACK leaves the signs open; with these the factor is that of Cholesky.
    signs = torch.where(triangle.diagonal() < 0, -1.0, 1.0).to(triangle)
    return triangle * (signs / math.sqrt(count - 1)).unsqueeze(1)


class CovarianceFactors:
    """The factor of every class, computed when it is first needed and kept from then on.

    Args:
        features: Shape ``(N, m)``; kept by reference, copied nowhere.
        rows_of: Rows of each class that count, int64 of the CPU, each of shape ``(n_k,)``.
        means: Means of these rows, float64, shape ``(K, m)``.
        dtype: Dtype of the factors.

    Attributes:
        ranks: Rows of each factor, int64 of the CPU, shape ``(K,)``.
    """

    def __init__(
        self, features: Tensor, rows_of: Sequence[Tensor], means: Tensor, dtype: torch.dtype
    ) -> None:
        self._features, self._rows_of, self._means, self._dtype = features, rows_of, means, dtype
        self._made: dict[int, Tensor] = {}
        dim = features.shape[1]
        self.ranks = torch.tensor([factor_rank(len(rows), dim) for rows in rows_of], dtype=torch.int64)

    def __getitem__(self, k: int) -> Tensor:
        """Factor of class ``k``, shape ``(ranks[k], m)``, on the device of the features."""
        if k not in self._made:
            self._made[k] = self.exact(k).to(self._dtype)
        return self._made[k]

    def exact(self, k: int) -> Tensor:
        """The same in float64, computed anew.

        Args:
            k: Class.

        Returns:
            Shape ``(ranks[k], m)``.
        """
        return covariance_factor(self._features[self._rows_of[k].to(self._features.device)], self._means[k])
