"""Encoders by name, for settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn

from nearfar.config.suggest import suggest
from nearfar.encoders.identity import Identity
from nearfar.encoders.mlp import MLP
from nearfar.encoders.resnet import resnet18, resnet32
from nearfar.encoders.small_cnn import SmallCNN
from nearfar.errors import ConfigError

MLP_DIMS = (256, 64)
OF_IMAGES: dict[str, Callable[..., nn.Module]] = {
    "resnet32": resnet32,
    "resnet18": resnet18,
    "small_cnn": SmallCNN,
}
NAMES = (*OF_IMAGES, "mlp", "identity")


def build_encoder(name: str, shape: Sequence[int], *, generator: torch.Generator | None = None) -> nn.Module:
    """A fresh encoder for rows of one shape; its attribute ``dim`` is the length of a representation.

    Args:
        name: ``resnet32``, ``resnet18`` or ``small_cnn`` for images ``(C, H, W)``; ``mlp`` (256 and 64 wide) or
            ``identity`` for rows of any shape.
        shape: Of one row, without the batch.
        generator: Source of the initial weights; ``None`` is the default generator.

    Raises:
        ConfigError: If there is no such encoder, or it is not for such rows.

    Example:
        >>> build_encoder("small_cnn", (1, 8, 8)).dim
        64
    """
    if name not in NAMES:
        known = ", ".join(NAMES)
        raise ConfigError(f"encoder: there is no {name!r}; {suggest(name, NAMES, f'choose one of {known}')}")
    if not shape or min(shape) < 1:
        raise ConfigError(f"shape: sizes of at least 1 of one row expected, got {tuple(shape)}")
    if name in OF_IMAGES:
        if len(shape) != 3:
            raise ConfigError(
                f"encoder: {name} is for images (C, H, W), rows have shape {tuple(shape)}; take mlp or identity"
            )
        return OF_IMAGES[name](shape[0], generator=generator)
    size = math.prod(shape)
    return Identity(size) if name == "identity" else MLP(size, MLP_DIMS, generator=generator)
