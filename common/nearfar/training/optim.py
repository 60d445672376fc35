"""Optimisers from config, and learning rates as pure functions of the step."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from nearfar.config import OptimConfig


def build_optimizer(
    parameters: Iterable[nn.Parameter], config: OptimConfig, *, lr: float | None = None
) -> torch.optim.Optimizer:
    """The configured optimiser over ``parameters``; ``lr`` overrides the configured rate."""
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    rate = config.lr if lr is None else lr
    return kinds[config.name](parameters, lr=rate, weight_decay=config.weight_decay, fused=True)


def lr_factor(config: OptimConfig, step: int, total_steps: int) -> float:
    """What the base learning rate is multiplied by at ``step``, in (0, 1].

    A function of the step alone, so that a resumed run has no scheduler state to restore.

    Example:
        >>> lr_factor(OptimConfig(schedule="cosine"), 50, 100)
        0.5
    """
    warmup = int(config.warmup * total_steps)
    if step < warmup:
        return (step + 1) / warmup
    if config.schedule == "constant":
        return 1.0
    progress = (step - warmup) / max(total_steps - warmup, 1)
    return (1 + math.cos(math.pi * progress)) / 2
