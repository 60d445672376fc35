"""Standard scores of features for the time of training, and the way back: weights of the features as they were."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ColumnScaling:
    """Mean and deviation of columns.

    Attributes:
        center: What becomes 0, float64, shape ``(m,)``.
        scale: What becomes 1, float64, positive, shape ``(m,)``.

    Example:
        >>> scaling = ColumnScaling.of(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
        >>> scaling.scaled(torch.tensor([[4.0, 6.0]])).tolist()
        [[2.0, 1.0]]
    """

    center: Tensor
    scale: Tensor

    @classmethod
    def of(cls, rows: Tensor, *, standardize: bool = True) -> ColumnScaling:
        """Measure columns.

        Args:
            rows: Shape ``(n, m)``.
            standardize: If not, nothing is changed by it.

        Returns:
            A column that is constant is only centred.
        """
        wide = rows.double()
        if not standardize:
            return cls(torch.zeros_like(wide[0]), torch.ones_like(wide[0]))
        scale, center = torch.std_mean(wide, 0, correction=0)
        # A constant column is rounding away from its mean.
        return cls(center, torch.where(scale > 1e-12 * center.abs(), scale, 1))

    def scaled(self, rows: Tensor) -> Tensor:
        """Standard scores, in the precision of the rows.

        Args:
            rows: Shape ``(..., m)``.
        """
        # Differences first, in float64: features far from 0 lose their digits otherwise.
        return ((rows.double() - self.center) / self.scale).to(rows.dtype)

    def folded(self, weight: Tensor, bias: Tensor, absent: Tensor, like: Tensor) -> nn.Linear:
        """The layer that makes of features what ``weight`` and ``bias`` make of standard scores.

        Args:
            weight: Shape ``(K, m)``.
            bias: Shape ``(K,)``.
            absent: Classes that are never to be predicted, bool, shape ``(K,)``; their logit is minus infinity.
            like: Of the precision and on the device that the layer is to have, shape ``(..., m)``.
        """
        kept = (weight.double() / self.scale).masked_fill(absent[:, None], 0)
        offset = (bias.double() - kept @ self.center).masked_fill(absent, -torch.inf)
        # Without initial weights, which would be drawn from the caller's random numbers.
        layer: nn.Linear = nn.utils.skip_init(
            nn.Linear, kept.shape[1], kept.shape[0], dtype=like.dtype, device=like.device
        )
        with torch.no_grad():
            layer.weight.copy_(kept)
            layer.bias.copy_(offset)
        return layer
