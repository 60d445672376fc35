"""BGRL: predict a slow copy's embedding of the other view, no negatives (Thakoor et al., ICLR 2022, eq. 1).

The copy is a moving average of the encoder (:class:`nearfar.training.EMA`), which the caller keeps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nearfar.graph.contrast.grace import linear
from nearfar.objectives.byol import byol_loss


class Predictor(nn.Module):
    """Two linear layers with a PReLU between, back to the width they came from.

    Args:
        dim: Width of the embeddings.
        hidden: Width between the layers.
        generator: Source of the initial weights.

    Example:
        >>> Predictor(8, 4)(torch.zeros(3, 8)).shape
        torch.Size([3, 8])
    """

    def __init__(self, dim: int, hidden: int, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.inner, self.outer = linear(dim, hidden, generator), linear(hidden, dim, generator)
        self.activation = nn.PReLU()

    def forward(self, z: Tensor) -> Tensor:
        """Predictions, shape ``(..., dim)``.

        Args:
            z: Embeddings, same shape.
        """
        p: Tensor = self.outer(self.activation(self.inner(z)))
        return p


def bgrl_loss(online1: Tensor, online2: Tensor, target1: Tensor, target2: Tensor) -> Tensor:
    """Mean over nodes and both directions of 2 - 2 cos(prediction, target of the other view), a scalar.

    Args:
        online1: Predictions from the first view, shape ``(n, d)``.
        online2: Predictions from the second view, same shape.
        target1: The copy's embeddings of the first view, same shape; no gradient reaches them.
        target2: The copy's embeddings of the second view, shape ``(n, d)``, likewise constant.

    Raises:
        ValueError: If the shapes or values do not fit.

    Example:
        >>> x = torch.eye(2)
        >>> bgrl_loss(x, -x, -x, x).item(), bgrl_loss(x, -x, x, -x).item()
        (0.0, 4.0)
    """
    return byol_loss(online1, target2, online2, target1)
