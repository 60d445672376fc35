r"""Hold the share of kept steps near a target by raising and lowering the price of keeping one.

.. math:: \log \beta \leftarrow \log \beta + \eta (\bar P - \rho), \qquad \beta \in [10^{-4}, 10]

Dual ascent on the constraint that the mean probability P of keeping a step is rho. Without it masks end at one of two
useless places: everything kept (beta too small against the divergence) or nothing. Ours, not the paper's.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

SMALLEST, LARGEST = 1e-4, 10.0


class KeepRate(nn.Module):
    """The price beta of a kept step; part of the checkpoint.

    Args:
        beta: At the start, not negative.
        target: rho in (0, 1); ``None`` leaves beta where it is.
        rate: eta.

    Attributes:
        log_beta: Its logarithm, a scalar.

    Example:
        >>> price = KeepRate(0.05, target=0.7, rate=1.0)
        >>> price.update(torch.tensor(0.9))  # too much is kept
        >>> round(price.beta.item(), 4)  # 0.05 e^0.2
        0.0611
    """

    log_beta: Tensor

    def __init__(self, beta: float, target: float | None, rate: float = 0.05) -> None:
        super().__init__()
        self.target, self.rate = target, rate
        self.register_buffer("log_beta", torch.tensor(math.log(beta) if beta > 0 else -math.inf))

    @property
    def beta(self) -> Tensor:
        """The price now, a scalar."""
        return self.log_beta.exp()

    @torch.no_grad()
    def update(self, kept: Tensor) -> None:
        """One step of dual ascent.

        Args:
            kept: Mean probability of keeping a step, a scalar.
        """
        if self.target is not None:
            moved = self.log_beta + self.rate * (kept.to(self.log_beta.dtype) - self.target)
            self.log_beta.copy_(moved.clamp(math.log(SMALLEST), math.log(LARGEST)))
