"""A temperature that is learned, as the scale of CLIP (Radford et al., ICML 2021, section 2.5)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from nearfar.checks import check_positive


def inverse_temperature(temperature: float | Tensor, like: Tensor) -> float | Tensor:
    """What logits are multiplied by, in the precision and on the device that they are computed in.

    Args:
        temperature: A number or a tensor of one value, ``()`` or ``(1,)``, checked.
        like: Shape ``(...,)``; has the dtype and the device.

    Returns:
        A number, or a scalar tensor with the gradient of ``temperature``.

    Example:
        >>> inverse_temperature(0.5, torch.ones(2))
        2.0
    """
    if isinstance(temperature, float | int):
        return 1 / temperature
    return 1 / temperature.to(like).reshape(())


class LearnableTemperature(nn.Module):
    """exp(-s) for a learned s, so that steps are relative; not below ``lowest``.

    A step beyond the bound is taken back in the next call, as CLIP does after each step, so the gradient there is
    that of the bound and can lead away from it.

    Args:
        initial: First temperature; CLIP's is 0.07.
        lowest: Smallest temperature, 0.01 for CLIP's largest scale of 100.

    Raises:
        ValueError: If ``initial`` is below ``lowest``.

    Example:
        >>> round(LearnableTemperature(0.5)().item(), 4)
        0.5
    """

    def __init__(self, initial: float = 0.07, lowest: float = 0.01) -> None:
        check_positive(initial=initial, lowest=lowest)
        if initial < lowest:
            raise ValueError(f"initial: a temperature of at least {lowest} expected, got {initial}")
        super().__init__()
        self.lowest = lowest
        self.log_scale = nn.Parameter(torch.tensor(-math.log(initial)))

    def forward(self) -> Tensor:
        """The temperature, a scalar."""
        with torch.no_grad():
            self.log_scale.clamp_(max=-math.log(self.lowest))
        return torch.exp(-self.log_scale)

    def extra_repr(self) -> str:
        """What ``repr`` shows between the brackets."""
        return f"lowest={self.lowest}"
