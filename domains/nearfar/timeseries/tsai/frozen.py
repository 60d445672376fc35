"""A model that gradients pass through and nothing changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn


@contextmanager
def held_fixed(module: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients of weights for a while; modes and flags come back one by one.

    A user may have frozen some layers, or put some normalisation in evaluation mode.

    Args:
        module: Changed inside the scope.

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> with held_fixed(layer):
        ...     print(layer.training, layer.weight.requires_grad)
        False False
        >>> print(layer.training, layer.weight.requires_grad)
        True True
    """
    modes = [(part, part.training) for part in module.modules()]
    wanted = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    with ExitStack() as stack:
        if any(isinstance(part, nn.RNNBase) and part.training for part in module.modules()):
            # cuDNN's recurrent layers have no backward pass in evaluation mode.
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        module.eval().requires_grad_(False)
        try:
            yield
        finally:
            for part, mode in modes:
                part.training = mode
            for parameter, flag in wanted:
                parameter.requires_grad_(flag)
