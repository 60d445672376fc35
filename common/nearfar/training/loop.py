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

import torch
from torch import Tensor, nn

from nearfar.config import CheckpointConfig, RunConfig
from nearfar.runtime import Runtime, isolated_rng, stream_seed
from nearfar.training.checkpoint import Checkpoint, CheckpointStore
from nearfar.training.guard import LogFunction, StepBuffer, ignore
from nearfar.training.method import BatchSource, Method, StepContext
from nearfar.training.optim import set_learning_rates
from nearfar.training.progress import Progress
from nearfar.training.selection import best_step, exhausted

Validate = Callable[[], Mapping[str, float]]


@dataclass(frozen=True)
class FitResult:
    """How training ended.

    Attributes:
        steps: Steps made.
        epochs: Whole epochs made.
        best_step: Step of the best validation, whose weights the method now has if there was a store;
            ``None`` without validation.
        stopped_early: Whether patience ran out.
        seconds: Wall time of this process.
        history: Validations in order, each with its ``step``; step 0 is the untrained method.
    """

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
    log: LogFunction = ignore,
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
        ConfigError: If ``selection.metric`` is not among the metrics measured.
        DivergedError: If a loss or gradient norm is not finite.
        CheckpointError: If ``resume`` finds only damaged checkpoints or those of another run.
        StorageError: If a checkpoint cannot be written.
    """
    started = time.monotonic()
    optimizers = method.optimizers(config.optim)
    epoch = source.steps_per_epoch
    total = config.epochs * epoch if method.updates(0) else 0
    saver = _Saver(method, optimizers, store if runtime.is_main else None, dict(fingerprint or {}))
    step, history = saver.start(resume)
    cadence = _Cadence(config.checkpoint, total, step)
    buffer = StepBuffer(log)

    def measure() -> bool:
        """Validate at the current step; whether it is the best so far."""
        if validate is None:
            return False
        method.eval()
        with torch.no_grad():
            metrics = dict(validate())
        log(metrics, step)
        history.append({"step": float(step), **metrics})
        return best_step(history, config.selection) == step

    def save(is_best: bool) -> None:
        buffer.flush()  # raises if anything since the last look was not finite: such weights are not kept
        saver.save(step, history, is_best)
        cadence.saved(step)

    with isolated_rng(runtime.device), Progress(total, label, done=step, quiet=quiet) as progress:
        if not history and measure():
            save(is_best=True)  # the untrained method: the first baseline
        while step < total and not exhausted(history, config.selection):
            set_learning_rates(optimizers, config.optim, step, total)
            ctx = StepContext(config.seed, step, runtime)
            buffer.add(step, _step(method, optimizers, source.batch(step), ctx, config.optim.clip_norm))
            step += 1
            progress.advance()
            epoch_ends = step % epoch == 0 and (
                (step // epoch) % config.selection.every == 0 or step == total
            )
            if epoch_ends or step % config.log_every == 0:
                progress.note(loss=buffer.flush().get("train/loss", math.nan))
            is_best = epoch_ends and measure()
            if is_best or step == total or cadence.due(step):
                save(is_best)
        buffer.flush()

    best = best_step(history, config.selection)
    saver.restore(best, step)
    runtime.broadcast(method.state_dict().values())
    return FitResult(
        steps=step,
        epochs=step // epoch,
        best_step=best,
        stopped_early=step < total,
        seconds=time.monotonic() - started,
        history=history,
    )


def _step(
    method: Method,
    optimizers: Mapping[str, torch.optim.Optimizer],
    batch: object,
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


@dataclass(frozen=True)
class _Saver:
    """Method and optimisers to and from the store; does nothing without one."""

    method: Method
    optimizers: Mapping[str, torch.optim.Optimizer]
    store: CheckpointStore | None
    fingerprint: Mapping[str, str | int]

    def start(self, resume: bool) -> tuple[int, list[dict[str, float]]]:
        """Step and history to begin with."""
        checkpoint = None
        if self.store is not None and resume:
            checkpoint = self.store.load_latest(self.fingerprint)
        elif self.store is not None:
            self.store.clear()
        if checkpoint is None:
            return 0, []
        self.method.load_state_dict(checkpoint.method)
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(checkpoint.optimizers[name])
        return checkpoint.step, checkpoint.history

    def save(self, step: int, history: list[dict[str, float]], is_best: bool) -> None:
        if self.store is None:
            return
        checkpoint = Checkpoint(
            step=step,
            fingerprint=self.fingerprint,
            method=self.method.state_dict(),
            optimizers={name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            history=history,
            environment={"torch": str(torch.__version__), "num_threads": torch.get_num_threads()},
        )
        self.store.save(checkpoint, is_best=is_best)

    def restore(self, best: int | None, current: int) -> None:
        """Give the method the weights of its best validation."""
        if self.store is not None and best is not None and best != current:
            self.method.load_state_dict(self.store.load(best).method)


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
