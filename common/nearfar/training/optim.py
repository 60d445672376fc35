"""Optimisers from config, and learning rates as pure functions of the step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import nn

from nearfar.config import OptimConfig

PEAK_LR = "peak_lr"


def build_optimizer(
    parameters: Iterable[nn.Parameter], config: OptimConfig, *, lr: float | None = None
) -> torch.optim.Optimizer:
    """The configured optimiser over ``parameters``; ``lr`` overrides the configured rate."""
    kind: type[torch.optim.Adam] = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    rate = config.lr if lr is None else lr
    # The rate travels in the group under a name of ours: `lr` itself is rewritten every step.
    groups = [{"params": list(parameters), PEAK_LR: rate}]
    return kind(groups, lr=rate, weight_decay=config.weight_decay, fused=True)


def set_learning_rates(
    optimizers: Mapping[str, torch.optim.Optimizer], config: OptimConfig, step: int, total_steps: int
) -> None:
    """Give every optimiser the learning rate of this step."""
    factor = lr_factor(config, step, total_steps)
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault(PEAK_LR, group["lr"]) * factor


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
