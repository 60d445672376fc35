r"""The mean of all weights a module had, the initial ones included, with batch statistics that belong to it.

.. math:: \bar\theta_n = \frac{1}{n + 1} \sum_{i=0}^{n} \theta_i

What AutoTCL evaluates (Zheng et al., ICLR 2024, published program). Its own encoder has no normalisation layers, tsai's
have: running means and variances of the last weights are not those of the mean, so they are computed anew, as
stochastic weight averaging does (Izmailov et al., UAI 2018, section 3.2), from the batches of late.
"""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nearfar.training import EMA

BATCHES = 16


class MeanWeights:
    """Follows a module, and shows it with its mean weights and with its own in turn.

    Args:
        module: Followed. Its weights are replaced while :meth:`show` holds.
        batches: Inputs remembered for the statistics of normalisation.

    Attributes:
        count: Weights in the mean, less the initial ones.
        shown: Whether the module has the mean weights now.
    """

    def __init__(self, module: nn.Module, batches: int = BATCHES) -> None:
        self.count, self.shown = 0, False
        self._module = module
        self._mean = EMA(module)
        self._inputs: deque[Tensor] = deque(maxlen=batches)
        self._moving: list[bool] = []
        self._own: list[Tensor] = []

    def remember(self, x: Tensor) -> None:
        """An input of the module in training.

        Args:
            x: Shape ``(B, F, T)``.
        """
        self._inputs.append(x.detach())
        # Somebody may have frozen the statistics of some layers.
        self._moving = [part.training for part in self._module.modules()]

    def update(self) -> None:
        """The weights the module has now enter the mean."""
        self.count += 1
        self._mean.update(self._module, self.count / (self.count + 1))

    def show(self) -> None:
        """Give the module its mean weights; doing it again changes nothing."""
        if self.shown:
            return
        if self.count and self._inputs:
            self._renew_statistics()
        self._own = [tensor.detach().clone() for tensor in _tensors(self._module)]
        _copy(_tensors(self._mean.module), _tensors(self._module))
        self.shown = True

    def hide(self) -> None:
        """Give the module its own weights back, for training to go on; what it saw before is forgotten."""
        self._inputs.clear()
        if self.shown:
            _copy(self._own, _tensors(self._module))
            self._own, self.shown = [], False

    @torch.no_grad()
    def _renew_statistics(self) -> None:
        parts = list(self._mean.module.modules())
        norms = [
            part
            for part, moving in zip(parts, self._moving, strict=True)
            if moving and isinstance(part, _BatchNorm) and part.track_running_stats
        ]
        if not norms:
            return
        modes, momenta = [part.training for part in parts], [norm.momentum for norm in norms]
        self._mean.module.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over batches
            norm.train()
        for x in self._inputs:
            self._mean.module(x)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for part, mode in zip(parts, modes, strict=True):
            part.training = mode


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


@torch.no_grad()
def _copy(source: list[Tensor], target: list[Tensor]) -> None:
    for old, new in zip(source, target, strict=True):
        new.copy_(old)
