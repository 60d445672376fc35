r"""The activation of a 2-layer encoder, and the pair of lines that encloses it on an interval.

:math:`\mathrm{act}(x) = \max(x, 0) + a \min(x, 0)`; for a pre-activation in [l, u] and :math:`0 \le a \le 1`

.. math:: s x \le \mathrm{act}(x) \le s x + t, \qquad
          s = \frac{u - a l}{u - l}, \quad t = \frac{(a - 1) u l}{u - l} \quad (l < 0 < u)

and s = 1 or a, t = 0 where the sign is known (POT's table of alpha and beta, written so that a dead ReLU is not 0/0).
Both lines have one slope: that is what lets the minimum over a graph fall apart into its edges.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nearfar.errors import ConfigError

Slope = float | Tensor


def activation(x: Tensor, slope: Slope) -> Tensor:
    """PReLU of one slope for all channels; 0 is ReLU, 1 the identity.

    Args:
        x: Shape ``(n, d)``.
        slope: Number, or scalar tensor.
    """
    return torch.where(x >= 0, x, slope * x)


class Lines(NamedTuple):
    """Lines around the activations of a layer, each of shape ``(n, d)``.

    Attributes:
        middle: Of the interval of every argument.
        slope: Of both lines.
        offset: Of the upper one.
    """

    middle: Tensor
    slope: Tensor
    offset: Tensor


def relax(low: Tensor, high: Tensor, slope: Slope) -> tuple[Tensor, Tensor]:
    """Slope s of both lines, and offset t of the upper one.

    Args:
        low: Smallest pre-activation, shape ``(n, d)``.
        high: Largest, same shape.
        slope: Of the activation, in [0, 1].

    Example:
        >>> s, t = relax(torch.tensor([[-1.0, 1.0, -2.0]]), torch.tensor([[3.0, 2.0, -1.0]]), 0.0)
        >>> s.tolist(), t.tolist()
        ([[0.75, 1.0, 0.0]], [[0.75, 0.0, 0.0]])
    """
    crossing = (low < 0) & (high > 0)
    # Where nothing crosses the value is not used, but its gradient must stay finite.
    span = torch.where(crossing, high - low, 1)
    s = torch.where(crossing, (high - slope * low) / span, torch.where(low >= 0, 1.0, slope))
    t = torch.where(crossing, (slope - 1) * high * low / span, 0)
    return s, t


def slope_value(slope: Slope) -> float:
    """A slope as a number, without gradient.

    Args:
        slope: Number, or a tensor of one element, shape ``(1,)`` or scalar.
    """
    return float(slope.detach()) if isinstance(slope, Tensor) else slope


def check_slope(name: str, slope: Slope) -> None:
    """Refuse slopes for which the lines are not bounds.

    Args:
        name: Of the argument, for the message.
        slope: Number, or a tensor of one element, shape ``(1,)`` or scalar.

    Raises:
        ConfigError: If it is not one number in [0, 1].
    """
    if isinstance(slope, Tensor) and slope.numel() != 1:
        raise ConfigError(f"{name}: one slope for all channels expected, got shape {tuple(slope.shape)}")
    value = slope_value(slope)
    if not 0 <= value <= 1:
        raise ConfigError(
            f"{name}: the bounds hold for activation slopes in [0, 1], got {value:g}; clamp the PReLU weight in "
            "training, e.g. prelu.weight.data.clamp_(0, 1)"
        )
