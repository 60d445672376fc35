"""Optimisers from config, and learning rates as pure functions of the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import nn

from nearfar.config import OptimConfig
from nearfar.training.lion import Lion

PEAK_LR = "peak_lr"


def build_optimizer(
    parameters: Iterable[nn.Parameter], config: OptimConfig, *, lr: float | None = None
) -> torch.optim.Optimizer:
    """The configured optimiser over ``parameters``; ``lr`` overrides the configured rate."""
    rate = config.lr if lr is None else lr
    # The rate travels in the group under a name of ours: `lr` itself is rewritten every step.
    groups = [{"params": list(parameters), PEAK_LR: rate}]
    if config.name == "sgd":
        return torch.optim.SGD(
            groups, lr=rate, momentum=config.momentum, weight_decay=config.weight_decay, fused=True
        )
    if config.name == "lion":
        return Lion(groups, lr=rate, weight_decay=config.weight_decay)
    kind: type[torch.optim.Adam] = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind(groups, lr=rate, weight_decay=config.weight_decay, fused=True)


def set_learning_rates(
    optimizers: Mapping[str, torch.optim.Optimizer],
    config: OptimConfig,
    step: int,
    total_steps: int,
    own: Callable[[str, int], float | None] = lambda name, step: None,  # noqa: ARG005
) -> None:
    """Give every optimiser the learning rate of this step.

    Args:
        optimizers: By name.
        config: The common schedule.
        step: About to be made.
        total_steps: Of the run.
        own: The factor of an optimiser with a schedule of its own, by name and step; ``None`` for one without.
    """
    common = lr_factor(config, step, total_steps)
    for name, optimizer in optimizers.items():
        factor = own(name, step)
        factor = common if factor is None else factor
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
