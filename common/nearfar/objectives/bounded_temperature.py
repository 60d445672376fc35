"""Learned temperatures that stay between two bounds, as the sigmoid of what is learned."""

from __future__ import annotations

import math

from torch import Tensor

LOWEST, HIGHEST = 1e-5, 2.0


def bounded_temperature(logit: Tensor) -> Tensor:
    """A temperature between 1e-5 and 2.

    Args:
        logit: Shape ``(...,)``; 0 is the middle.

    Returns:
        Same shape as ``logit``.

    Example:
        >>> import torch
        >>> round(bounded_temperature(torch.tensor(0.0)).item(), 4)
        1.0
    """
    return LOWEST + (HIGHEST - LOWEST) * logit.sigmoid()


def logit_of_temperature(name: str, temperature: float) -> float:
    """What :func:`bounded_temperature` makes a temperature of.

    Args:
        name: What to call it in an error.
        temperature: Between the bounds.

    Raises:
        ValueError: If it is not.

    Example:
        >>> logit_of_temperature("initial", 2.0)
        Traceback (most recent call last):
        ValueError: initial: a temperature between 1e-05 and 2.0 expected, got 2.0
    """
    if not LOWEST < temperature < HIGHEST:
        raise ValueError(f"{name}: a temperature between {LOWEST} and {HIGHEST} expected, got {temperature}")
    return math.log((temperature - LOWEST) / (HIGHEST - temperature))
