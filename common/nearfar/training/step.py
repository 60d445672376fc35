"""One training step: every update of the method, with its own optimiser and nothing else moving."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from nearfar.runtime import stream_seed
from nearfar.training.method import Method, StepContext


def train_step(
    method: Method,
    optimizers: Mapping[str, torch.optim.Optimizer],
    batch: object,
    ctx: StepContext,
    clip_norm: float | None,
) -> dict[str, Tensor]:
    """All updates of one step.

    Args:
        method: What is trained.
        optimizers: By the names that its updates use.
        batch: On the device.
        ctx: Of the step.
        clip_norm: Largest global gradient norm; ``None`` leaves it alone.

    Returns:
        What to log, still on the device.
    """
    method.train()
    terms: dict[str, Tensor] = {}
    for index, update in enumerate(method.updates(ctx.step)):
        seed_dropout(ctx, index)
        optimizer = optimizers[update.optimizer]
        moved = [p for group in optimizer.param_groups for p in group["params"]]
        with _frozen_except(method, moved):
            optimizer.zero_grad(set_to_none=True)
            output = update.compute(batch, ctx)
            if not output.descended:
                with torch.autocast(ctx.runtime.device.type, enabled=False):
                    output.loss.backward()
        ctx.runtime.average_gradients(moved)
        norm = nn.utils.get_total_norm([p.grad for p in moved if p.grad is not None])
        if clip_norm is not None:
            nn.utils.clip_grads_with_norm_(moved, clip_norm, norm)
        optimizer.step()
        named = {"loss": output.loss, "grad_norm": norm, **output.terms}
        terms |= {f"train/{update.prefix}{name}": value for name, value in named.items()}
    method.after_step(ctx)
    ctx.runtime.broadcast(b for b in method.buffers() if b.is_floating_point())
    return terms


@contextmanager
def _frozen_except(method: nn.Module, moved: list[nn.Parameter]) -> Iterator[None]:
    """Let only ``moved`` require gradients: no wasted backward work, no stray gradients."""
    kept = {id(parameter) for parameter in moved}
    frozen = [p for p in method.parameters() if p.requires_grad and id(p) not in kept]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


def seed_dropout(ctx: StepContext, update: int) -> None:
    """Put the default generators, the only ones dropout can draw from, at the start of this update's stream.

    Args:
        ctx: Of the step.
        update: Its place among the updates of the step.
    """
    seed = stream_seed(ctx.seed, "dropout", ctx.step, update, ctx.runtime.rank)
    # Not torch.manual_seed: it keeps a stack trace for every kind of device that is not in use.
    torch.default_generator.manual_seed(seed)
    if ctx.runtime.device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif ctx.runtime.device.type == "mps":
        torch.mps.manual_seed(seed)
