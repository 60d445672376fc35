"""Heads trained by gradient: one method for the training loop, and batches of row numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from nearfar.config import OptimConfig, RunConfig
from nearfar.longtail.heads.config import HeadConfig
from nearfar.longtail.heads.labelled_features import LabelledFeatures
from nearfar.longtail.heads.scaling import ColumnScaling
from nearfar.runtime import Runtime, generator, to_device
from nearfar.training import Method, StepContext, StepOutput, fit
from nearfar.training.optim import lr_factor

Loss: TypeAlias = Callable[[Tensor, Tensor, float], Tensor]
"""Of logits ``(B, K)``, classes ``(B,)`` and the share of the passes that is done."""
Order: TypeAlias = Callable[[int], Tensor]
"""Row numbers of a pass, ``(draws,)``."""


@dataclass(frozen=True)
class Plan:
    """Length of training, and the learning rate in the course of it.

    Attributes:
        epochs: Passes, unless the settings say otherwise.
        warmup: Share of them in which the rate rises.
        schedule: Of the rate after that.
        drops: Shares of the passes after each of which the rate falls to a tenth.
    """

    epochs: int
    warmup: float
    schedule: Literal["constant", "cosine"]
    drops: tuple[float, ...] = ()


class _Batches:
    """Which copy of which rows: a function of the step."""

    def __init__(self, order: Order, copies: int, batch_size: int) -> None:
        self._order, self._copies = lru_cache(maxsize=2)(order), copies
        self.steps_per_epoch = -(-len(self._order(0)) // batch_size)

    def batch(self, step: int) -> tuple[int, Tensor]:
        epoch, place = divmod(step, self.steps_per_epoch)
        return epoch % self._copies, self._order(epoch).tensor_split(self.steps_per_epoch)[place]


class _Training(Method):
    """Features stay where they are; batches are row numbers."""

    features: Tensor
    codes: Tensor

    def __init__(self, head: nn.Module, features: Tensor, codes: Tensor, loss: Loss) -> None:
        super().__init__()
        self.head, self.loss = head, loss
        self.register_buffer("features", features, persistent=False)
        self.register_buffer("codes", codes, persistent=False)

    def follow(self, plan: Plan, optim: OptimConfig, epochs: int, steps: int) -> None:
        self.plan, self.optim, self.epochs, self.steps = plan, optim, epochs, steps

    def done(self, step: int) -> float:
        return step // self.steps / self.epochs

    def learning_rate_factor(self, optimizer: str, step: int) -> float:  # noqa: ARG002 - there is one
        passed = sum(self.done(step) >= share for share in self.plan.drops)
        return lr_factor(self.optim, step, self.steps * self.epochs) * 0.1**passed

    def step(self, batch: tuple[int, Tensor], ctx: StepContext) -> StepOutput:
        copy, rows = batch
        logits = self.head(self.features[copy].index_select(0, rows))
        return StepOutput(self.loss(logits, self.codes[rows], self.done(ctx.step)))


def train_head(
    head: nn.Module,
    data: LabelledFeatures,
    loss: Loss,
    plan: Plan,
    config: HeadConfig,
    seed: int,
    order: Order | None = None,
) -> None:
    """Train a head in place: SGD with momentum, one copy of the rows a pass, in turn.

    Args:
        head: ``(B, m) -> (B, K)``, on the device of the features.
        data: What to learn from.
        loss: To descend.
        plan: How long, at which rates.
        config: ``epochs``, ``batch_size``, ``lr``, ``momentum``, ``weight_decay``.
        seed: Of the order.
        order: Rows of a pass; by default all, once, shuffled.

    Raises:
        DivergedError: If training stops being finite; a smaller ``lr`` helps.
    """
    rows, device = len(data.codes), data.features.device
    shuffled = order or (lambda epoch: torch.randperm(rows, generator=generator(seed, "order", epoch)))
    source = _Batches(shuffled, len(data.features), config.batch_size)
    optim = OptimConfig(
        name="sgd",
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        schedule=plan.schedule,
        warmup=plan.warmup,
    )
    run = RunConfig(
        data="features", seed=seed, epochs=config.epochs or plan.epochs, optim=optim, log_every=100
    )
    method = _Training(head, data.features, to_device(torch.from_numpy(data.codes), device), loss)
    method.follow(plan, optim, run.epochs, source.steps_per_epoch)
    # This process alone, also where there are others: a head is trained where features are.
    fit(method, source, config=run, runtime=Runtime(device), quiet=True)


def train_linear(
    data: LabelledFeatures,
    loss: Loss,
    plan: Plan,
    config: HeadConfig,
    seed: int,
    order: Order | None = None,
) -> nn.Linear:
    """Train a linear layer from zero weights, on standard scores if the settings say so.

    Args:
        data: What to learn from.
        loss: To descend.
        plan: How long, at which rates.
        config: As of :func:`train_head`, and ``standardize``.
        seed: Of the order.
        order: Rows of a pass; by default all, once, shuffled.

    Returns:
        Logits of features as they are; minus infinity for a class without rows.
    """
    x, classes = data.features, len(data.counts)
    scaling = ColumnScaling.of(x.flatten(0, 1), standardize=config.standardize)
    layer = nn.utils.skip_init(nn.Linear, x.shape[2], classes, dtype=x.dtype, device=x.device)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    scaled = LabelledFeatures(scaling.scaled(x), data.codes, data.counts)
    train_head(layer, scaled, loss, plan, config, seed, order)
    return scaling.folded(layer.weight.detach(), layer.bias.detach(), data.absent, x)


def cross_entropy_among(absent: Tensor) -> Loss:
    """Cross-entropy over the classes that have rows.

    Args:
        absent: Those that have none, bool, shape ``(K,)``.
    """

    def loss(logits: Tensor, target: Tensor, done: float) -> Tensor:  # noqa: ARG001 - the same throughout
        return nn.functional.cross_entropy(logits.masked_fill(absent, -torch.inf), target)

    return loss
