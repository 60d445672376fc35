r"""A copy of a module that follows it slowly: the target network of BYOL, the key encoder of MoCo.

.. math:: \theta_k \leftarrow m \theta_k + (1 - m) \theta_q

MoCo (He et al., CVPR 2020, eq. 2) holds m at 0.999; BYOL (Grill et al., NeurIPS 2020, section 3.3) raises it
from 0.996 to 1 by :func:`cosine_momentum`.

Differs from MoCo's official code: buffers follow too, as copies. There, the running statistics of batch
normalisation in the copy come only from what the copy itself sees.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn


class EMA(nn.Module):
    """Exponential moving average of a module's weights, callable like the module, without gradient.

    The copy is as the module is (training or evaluation mode) and follows ``train()`` and ``eval()`` like
    any part of a model. It is part of ``state_dict()``. Keep the weights in float32: in half precision steps of
    (1 - m) are rounded away.

    Args:
        module: What to follow; it is copied, not kept.
        momentum: Share m of the old value that stays at an update, in [0, 1].

    Attributes:
        module: The copy.
        momentum: Used where :meth:`update` is given none.

    Raises:
        ValueError: If ``momentum`` is outside [0, 1].

    Example:
        >>> source = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.ones_(source.weight)
        >>> target = EMA(source, momentum=0.75)
        >>> _ = nn.init.zeros_(source.weight)
        >>> target.update(source)
        >>> target.update(source)
        >>> target(torch.ones(1, 1)).item()  # 0.75 * 0.75
        0.5625
    """

    def __init__(self, module: nn.Module, momentum: float = 0.99) -> None:
        super().__init__()
        _check_momentum(momentum)
        self.module = copy.deepcopy(module).requires_grad_(False)
        self.momentum = momentum

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the copy without gradient, with whatever arguments it takes."""
        with torch.no_grad():
            return self.module(*args, **kwargs)

    @torch.no_grad()
    def update(self, module: nn.Module, momentum: float | None = None) -> None:
        """Move the copy's weights towards the module's; take over its buffers.

        Args:
            module: The one that was copied, or one with the same parameters and buffers.
            momentum: Instead of the momentum given at the start, for schedules.

        Raises:
            ValueError: If ``momentum`` is outside [0, 1] or the parameters and buffers are not the same.
        """
        momentum = self.momentum if momentum is None else momentum
        _check_momentum(momentum)
        for kind in ("parameters", "buffers"):
            mine, theirs = (_shapes(m, kind) for m in (self.module, module))
            if mine != theirs:
                names = ", ".join(sorted({name for name, _ in mine ^ theirs}))
                raise ValueError(f"module: the {kind} of the copied module expected, got others at {names}")
        averaged: list[tuple[Tensor, Tensor]] = []
        copied = list(zip(self.module.buffers(), module.buffers(), strict=True))
        for pair in zip(self.module.parameters(), module.parameters(), strict=True):
            (averaged if pair[0].is_floating_point() or pair[0].is_complex() else copied).append(pair)
        if averaged:
            torch._foreach_lerp_([old for old, _ in averaged], [new for _, new in averaged], 1 - momentum)
        if copied:
            torch._foreach_copy_([old for old, _ in copied], [new for _, new in copied])

    def extra_repr(self) -> str:
        """What ``repr`` shows in front of the copy."""
        return f"momentum={self.momentum}"


def _shapes(module: nn.Module, kind: str) -> set[tuple[str, torch.Size]]:
    named = module.named_parameters() if kind == "parameters" else module.named_buffers()
    return {(name, tensor.shape) for name, tensor in named}


def _check_momentum(momentum: float) -> None:
    if not 0 <= momentum <= 1:
        raise ValueError(f"momentum: a number in [0, 1] expected, got {momentum}")


def cosine_momentum(step: int, num_steps: int, start: float = 0.99, end: float = 1.0) -> float:
    r"""Momentum that rises along half a cosine, :math:`e - (e - s) (1 + \cos(\pi t / T)) / 2`.

    Args:
        step: Updates made so far, t, from 0 to ``num_steps``.
        num_steps: Updates in all, T.
        start: Momentum s at step 0.
        end: Momentum e at step T.

    Returns:
        The momentum at ``step``.

    Raises:
        ValueError: If ``step`` or ``num_steps`` is out of range, or a momentum outside [0, 1].

    Example:
        >>> [round(cosine_momentum(step, 4, start=0.5), 4) for step in (0, 2, 4)]
        [0.5, 0.75, 1.0]
    """
    if num_steps < 1:
        raise ValueError(f"num_steps: at least 1 expected, got {num_steps}")
    if not 0 <= step <= num_steps:
        raise ValueError(f"step: a number in [0, {num_steps}] expected, got {step}")
    _check_momentum(start)
    _check_momentum(end)
    return end - (end - start) * (1 + math.cos(math.pi * step / num_steps)) / 2
