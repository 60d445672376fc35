"""A multilayer perceptron: an encoder of features, or the head that a contrast is computed behind."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from nearfar.encoders.weights import draw_weights
from nearfar.errors import ConfigError
from nearfar.runtime import isolated_rng


class MLP(nn.Module):
    """Linear layers with ReLU between them, none behind the last: ``MLP(64, (64, 128))`` is a projection head.

    Args:
        in_features: Numbers of one input, all its dimensions together.
        dims: Width of every layer; the last one is that of the output.
        last_relu: Whether the output goes through a ReLU as well.
        generator: Source of the initial weights.

    Attributes:
        dim: Width of the output.

    Raises:
        ConfigError: If there is no layer, or one without width.

    Example:
        >>> MLP(3, (8, 2))(torch.zeros(5, 3)).shape
        torch.Size([5, 2])
    """

    def __init__(
        self,
        in_features: int,
        dims: Sequence[int],
        *,
        last_relu: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        widths = [in_features, *dims]
        if len(widths) < 2 or min(widths) < 1:
            raise ConfigError(
                f"dims: one or more widths of at least 1 expected, got {in_features} -> {tuple(dims)}"
            )
        self.in_features, self.dim = in_features, widths[-1]
        layers: list[nn.Module] = []
        with isolated_rng():
            for before, after in pairwise(widths):
                layers += [nn.Linear(before, after), nn.ReLU()]
        self.layers = nn.Sequential(*(layers if last_relu else layers[:-1]))
        draw_weights(self, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of a batch.

        Args:
            x: Shape ``(B, ...)`` with ``in_features`` numbers a row; taken to the precision of the weights.

        Returns:
            Shape ``(B, dim)``.
        """
        weight = next(self.parameters())
        found: Tensor = self.layers(x.flatten(1).to(weight.dtype))
        return found
