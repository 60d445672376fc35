"""No encoder at all: the features are the representation."""

from __future__ import annotations

from torch import Tensor, nn


class Identity(nn.Module):
    """Rows as they are, all their dimensions in one.

    Args:
        dim: Numbers of a row.

    Attributes:
        dim: The same.

    Example:
        >>> import torch
        >>> Identity(6)(torch.zeros(5, 2, 3)).shape
        torch.Size([5, 6])
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """The rows.

        Args:
            x: Shape ``(B, ...)``.

        Returns:
            Shape ``(B, dim)``.
        """
        return x.flatten(1)
