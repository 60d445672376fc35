"""A linear layer of directions: logits are cosines."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CosineLinear(nn.Module):
    """``scale * cos(features, weight of the class)``: how long features or weights are does not matter.

    Args:
        weight: A direction for each class, shape ``(K, m)``.
        absent: Classes that are never to be predicted, bool, shape ``(K,)``: their logit is minus infinity.
        scale: Of the logits.

    Attributes:
        weight: Shape ``(K, m)``.

    Example:
        >>> head = CosineLinear(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), scale=10.0)
        >>> head(torch.tensor([[3.0, 4.0], [0.0, 0.0]])).round().tolist()
        [[6.0, 8.0], [0.0, 0.0]]
    """

    absent: Tensor

    def __init__(self, weight: Tensor, absent: Tensor | None = None, *, scale: float = 30.0) -> None:
        super().__init__()
        self.weight, self.scale = nn.Parameter(weight.detach().clone()), scale
        nobody = torch.zeros(len(weight), dtype=torch.bool, device=weight.device)
        self.register_buffer("absent", nobody if absent is None else absent)

    def forward(self, features: Tensor) -> Tensor:
        """Logits.

        Args:
            features: Shape ``(B, m)``; a row of zeros has cosine 0 to every class.

        Returns:
            Shape ``(B, K)``.
        """
        cosine = F.linear(F.normalize(features, dim=1), F.normalize(self.weight, dim=1))
        return (self.scale * cosine).masked_fill(self.absent, -torch.inf)
