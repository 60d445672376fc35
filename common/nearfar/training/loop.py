"""The training loop of every domain: step, terms, optimisers, log, validation, checkpoint, stop.

Nothing here remembers anything between steps but the method, its optimisers and the list of past
validations: the batch, the augmentations, dropout and the learning rate of step s are functions of
(seed, s). That is why a checkpoint is small and a resumed run repeats the uninterrupted one bit by bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from nearfar.config import CheckpointConfig, RunConfig, SelectionConfig
from nearfar.runtime import Runtime, isolated_rng, stream_seed
from nearfar.training.checkpoint import Checkpoint, CheckpointStore
from nearfar.training.guard import LogFunction, StepBuffer
from nearfar.training.method import BatchSource, Method, StepContext
from nearfar.training.optim import lr_factor
from nearfar.training.progress import Progress
from nearfar.training.selection import best_index, exhausted

Validate = Callable[[], Mapping[str, float]]


@dataclass(frozen=True)
class FitResult:
    """How training ended."""

    steps: int
    epochs: int
    best_step: int | None
    stopped_early: bool
    seconds: float
    history: list[dict[str, float]] = field(default_factory=list)


def fit(
    method: Method,
    source: BatchSource,
    *,
    config: RunConfig,
    runtime: Runtime,
    log: LogFunction = lambda metrics, step: None,
    validate: Validate | None = None,
    store: CheckpointStore | None = None,
    fingerprint: Mapping[str, str | int] | None = None,
    resume: bool = False,
    label: str = "train",
    quiet: bool = False,
) -> FitResult:
    """Train ``method`` in place and leave it with the weights of its best validation.

    Args:
        method: What to train, already on ``runtime.device``.
        source: Batches by step number.
        config: Epochs, optimiser, selection, checkpoint cadence and seed.
        runtime: Device and process group.
        log: Receives ``(metrics, step)``; called from the training thread, so it must return at once.
        validate: Measures ``val/*`` metrics; the module is in evaluation mode meanwhile.
        store: Where checkpoints go; without one nothing is saved and the last weights stay.
        fingerprint: What this run is; a checkpoint of another run is refused on resume.
        resume: Go on from the newest checkpoint in ``store``; otherwise its folder is emptied first.
        label: Name in front of the progress bar.
        quiet: No progress output.

    Returns:
        Counts, the best step and the validations.

    Raises:
        DivergedError: If a loss or gradient norm is not finite.
        CheckpointError: If ``resume`` finds only damaged checkpoints or those of another run.
        StorageError: If a checkpoint cannot be written.
    """
    started = time.monotonic()
    optimizers = method.optimizers(config.optim)
    base_rates = {name: [g["lr"] for g in o.param_groups] for name, o in optimizers.items()}
    total = config.epochs * source.steps_per_epoch if method.updates(0) else 0
    state = _start(method, optimizers, store, fingerprint or {}, resume)
    if store is not None:
        store.best_step = state.best_step(config.selection)
    cadence = _Cadence(config.checkpoint, total, state.step)
    buffer = StepBuffer(log)
    stopped_early = exhausted(state.history, config.selection)

    with isolated_rng(runtime.device), Progress(total, label, done=state.step, quiet=quiet) as progress:
        while state.step < total and not stopped_early:
            ctx = StepContext(config.seed, state.step, runtime)
            for name, optimizer in optimizers.items():
                factor = lr_factor(config.optim, state.step, total)
                for group, rate in zip(optimizer.param_groups, base_rates[name], strict=True):
                    group["lr"] = rate * factor
            terms = _step(method, optimizers, source.batch(state.step), ctx, config.optim.clip_norm)
            buffer.add(state.step, terms)
            state.step += 1
            progress.advance()

            validation_due = validate is not None and state.step % source.steps_per_epoch == 0 and (
                (state.step // source.steps_per_epoch) % config.selection.every == 0 or state.step == total
            )
            if state.step % config.log_every == 0 or validation_due or state.step == total:
                progress.note(loss=buffer.flush().get("train/loss", math.nan))
            if validation_due and validate is not None:
                metrics = _measure(method, validate)
                log(metrics, state.step)
                state.history.append({"step": float(state.step), **metrics})
                stopped_early = exhausted(state.history, config.selection)
            is_best = state.best_step(config.selection) == state.step
            if store is not None and (is_best or cadence.due(state.step) or state.step == total):
                buffer.flush()
                if is_best:
                    store.best_step = state.step
                if runtime.is_main:
                    store.save(state.checkpoint(method, optimizers, fingerprint or {}))
                cadence.saved(state.step)

    best_step = state.best_step(config.selection)
    if store is not None and best_step is not None and best_step != state.step:
        runtime.barrier()
        method.load_state_dict(store.load(best_step).method)
    return FitResult(
        steps=state.step,
        epochs=state.step // source.steps_per_epoch,
        best_step=best_step,
        stopped_early=stopped_early,
        seconds=time.monotonic() - started,
        history=state.history,
    )


@dataclass
class _State:
    """All that the future of a run depends on, beside the weights and the optimisers."""

    step: int
    history: list[dict[str, float]]

    def best_step(self, selection: SelectionConfig) -> int | None:
        best = best_index(self.history, selection)
        return None if best is None else int(self.history[best]["step"])

    def checkpoint(
        self,
        method: Method,
        optimizers: Mapping[str, torch.optim.Optimizer],
        fingerprint: Mapping[str, str | int],
    ) -> Checkpoint:
        return Checkpoint(
            step=self.step,
            fingerprint=dict(fingerprint),
            method=method.state_dict(),
            optimizers={name: optimizer.state_dict() for name, optimizer in optimizers.items()},
            history=self.history,
            environment={"torch": str(torch.__version__), "num_threads": torch.get_num_threads()},
        )


def _start(
    method: Method,
    optimizers: Mapping[str, torch.optim.Optimizer],
    store: CheckpointStore | None,
    fingerprint: Mapping[str, str | int],
    resume: bool,
) -> _State:
    if store is None:
        return _State(0, [])
    if not resume:
        store.clear()
        return _State(0, [])
    checkpoint = store.load_latest(fingerprint)
    if checkpoint is None:
        return _State(0, [])
    method.load_state_dict(checkpoint.method)
    for name, optimizer in optimizers.items():
        optimizer.load_state_dict(checkpoint.optimizers[name])
    return _State(checkpoint.step, checkpoint.history)


def _step(
    method: Method,
    optimizers: Mapping[str, torch.optim.Optimizer],
    batch: Any,
    ctx: StepContext,
    clip_norm: float | None,
) -> dict[str, Tensor]:
    """All updates of one step; returns what to log, still on the device."""
    method.train()
    terms: dict[str, Tensor] = {}
    for index, update in enumerate(method.updates(ctx.step)):
        # Dropout can only draw from the default generator.
        torch.manual_seed(stream_seed(ctx.seed, "dropout", ctx.step, index, ctx.runtime.rank))
        optimizer = optimizers[update.optimizer]
        moved = [p for group in optimizer.param_groups for p in group["params"]]
        with _frozen_except(method, moved):
            optimizer.zero_grad(set_to_none=True)
            output = update.compute(batch, ctx)
            output.loss.backward()
        ctx.runtime.average_gradients(moved)
        norm = nn.utils.get_total_norm([p.grad for p in moved if p.grad is not None])
        if clip_norm is not None:
            nn.utils.clip_grads_with_norm_(moved, clip_norm, norm)
        optimizer.step()
        named = {"loss": output.loss, "grad_norm": norm, **output.terms}
        terms |= {f"train/{update.prefix}{name}": value for name, value in named.items()}
    method.after_step(ctx)
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


def _measure(method: Method, validate: Validate) -> dict[str, float]:
    method.eval()
    with torch.no_grad():
        return dict(validate())


class _Cadence:
    """When the next checkpoint is due: a share of the run or some minutes, whichever comes first."""

    def __init__(self, config: CheckpointConfig, total: int, step: int) -> None:
        self._seconds = 60 * config.every_minutes
        self._steps = max(1, math.ceil(config.every_fraction * total))
        self._multiple = config.every_steps
        self.saved(step)

    def due(self, step: int) -> bool:
        if self._multiple is not None and step % self._multiple == 0:
            return True
        return step - self._step >= self._steps or time.monotonic() - self._time >= self._seconds

    def saved(self, step: int) -> None:
        self._step, self._time = step, time.monotonic()
