"""Standard scores of the channels, in front of an encoder of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nearfar.errors import ConfigError


class Standardised(nn.Module):
    """An encoder that is given ``(x - mean) / std`` of every channel; what comes in stays in [0, 1].

    Args:
        encoder: Any encoder of images with an attribute ``dim``.
        mean: Of every channel.
        std: Of every channel, positive.

    Attributes:
        dim: Length of a representation.

    Raises:
        ConfigError: If the numbers do not fit each other, or one is not positive.

    Example:
        >>> from nearfar.encoders import SmallCNN
        >>> Standardised(SmallCNN(3), (0.49, 0.48, 0.45), (0.2, 0.2, 0.2))(torch.zeros(2, 3, 8, 8)).shape
        torch.Size([2, 64])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: Any, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if not mean or len(mean) != len(std) or not min(std) > 0:
            raise ConfigError(
                f"std: one positive number for each channel expected, as many as means, got {tuple(mean)} and "
                f"{tuple(std)}"
            )
        self.encoder, self.dim = encoder, int(encoder.dim)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32)[:, None, None])
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        """Representations of images.

        Args:
            images: Shape ``(B, C, H, W)``.

        Returns:
            Shape ``(B, dim)``.
        """
        found: Tensor = self.encoder((images - self.mean) / self.std)
        return found
