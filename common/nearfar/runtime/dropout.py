"""Dropout whose masks are cheap on a CPU.

``torch.nn.functional.dropout`` draws one float64 for every element there, an eighth of a training step of a small
transformer. One 64-bit draw decides about eight elements here, by comparing its bytes with a threshold.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 256  # of a byte


def keep_probability(p: float) -> float:
    """What dropout with probability ``p`` keeps: a multiple of 1/256.

    Example:
        >>> keep_probability(0.5), round(keep_probability(0.3), 4)
        (0.5, 0.6992)
    """
    return 1 - round(p * LEVELS) / LEVELS


def dropout(x: Tensor, p: float, *, training: bool) -> Tensor:
    """Zero elements with probability ``p`` (to 1/512) and scale the others to keep the mean.

    Draws from the default generator of the device, like PyTorch's.

    Args:
        x: Any shape, ``(..., d)``.
        p: In [0, 1).
        training: ``False`` returns ``x``.
    """
    if not training or p == 0:
        return x
    if x.device.type != "cpu" or keep_probability(p) in (0, 1):
        return F.dropout(x, p)
    count = x.numel()
    words = torch.empty(-(-count // 8), dtype=torch.int64).random_(-(2**63), None)
    kept = words.view(torch.uint8)[:count].view(x.shape) >= round(p * LEVELS)
    return torch.ops.aten.native_dropout_backward(x, kept, 1 / keep_probability(p))  # type: ignore[no-any-return]


class Dropout(nn.Module):
    """Module of :func:`dropout`.

    Args:
        p: Probability of a zero, in [0, 1).
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """As :func:`dropout`, any shape, ``(..., d)``."""
        return dropout(x, self.p, training=self.training)

    def extra_repr(self) -> str:
        """Shown by ``print(module)``."""
        return f"p={self.p}"
