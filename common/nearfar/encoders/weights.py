"""Initial weights for layers followed by ReLU (He et al., ICCV 2015, equation 10)."""

from __future__ import annotations

import torch
from torch import nn


def draw_weights(module: nn.Module, generator: torch.Generator | None = None) -> None:
    """Draw all convolutions and linear layers from N(0, 2 / fan-in), with zero biases; norms start as identities.

    Args:
        module: Changed in place.
        generator: Source of the draws; ``None`` is the default generator, as for torch's own layers (see
            :func:`nearfar.runtime.initial_weights`).
    """
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, (nn.BatchNorm2d, nn.GroupNorm)):
            layer.reset_parameters()
