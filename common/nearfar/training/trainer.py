"""A run in progress: when it validates, saves and stops, and what becomes of a step that fails."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from nearfar.config import RunConfig
from nearfar.errors import DivergedError, OutOfMemoryError, PreemptedError
from nearfar.messages import warn
from nearfar.objectives.logsumexp import small_tiles
from nearfar.runtime import Runtime, to_device
from nearfar.training.checkpoint import CheckpointStore
from nearfar.training.diagnosis import diagnose, explain
from nearfar.training.guard import LogFunction, StepBuffer, ignore
from nearfar.training.memory import consumer, is_out_of_memory, ladder
from nearfar.training.method import BatchSource, Method, StepContext
from nearfar.training.optim import set_learning_rates
from nearfar.training.prefetch import Prefetch
from nearfar.training.progress import Progress
from nearfar.training.saver import Cadence, Progressed, Saver
from nearfar.training.selection import best_step, exhausted
from nearfar.training.step import seed_dropout, train_step

Validate = Callable[[], Mapping[str, float]]
OnValidation = Callable[[Mapping[str, float], int], None]
MOST_POINTS = 2000  # of each curve: a longer run logs every second step, every third, ...


@dataclass
class Trainer:
    """A run in progress.

    Attributes:
        method: What is trained, on the runtime's device.
        optimizers: By name.
        epoch: Steps of an epoch.
        total: Steps of the run.
        config: Settings.
        runtime: Device and processes.
        saver: To and from the checkpoints.
        log: Receives ``(metrics, step)``.
        validate: Measures ``val/*``.
        on_validation: Told of every validation.
        stop: Says why to stop.
        before_save: Called before a checkpoint is committed.
    """

    method: Method
    optimizers: Mapping[str, torch.optim.Optimizer]
    epoch: int
    total: int
    config: RunConfig
    runtime: Runtime
    saver: Saver
    log: LogFunction = ignore
    validate: Validate | None = None
    on_validation: OnValidation = ignore
    stop: Callable[[], str | None] = lambda: None
    before_save: Callable[[], None] = lambda: None

    @classmethod
    def of(
        cls,
        method: Method,
        source: BatchSource,
        config: RunConfig,
        runtime: Runtime,
        store: CheckpointStore | None = None,
        fingerprint: Mapping[str, str | int] | None = None,
    ) -> Trainer:
        """A run at its beginning; arguments as of :func:`nearfar.training.fit`."""
        optimizers = method.optimizers(config.optim)
        if config.compile:
            for module in method.children():
                module.compile()
        total = config.epochs * source.steps_per_epoch if method.updates(0) else 0
        saver = Saver(method, optimizers, store, fingerprint or {}, runtime)
        trainer = cls(method, optimizers, source.steps_per_epoch, total, config, runtime, saver)
        trainer.begin(Progressed())
        return trainer

    def begin(self, done: Progressed) -> None:
        """Stand where ``done`` says, with nothing pending."""
        self.done = done
        self.buffer = StepBuffer(self.log, self.runtime, max(1, self.total // MOST_POINTS))
        self.cadence = Cadence(self.config.checkpoint, self.total, done.step)
        self.started = time.monotonic() - done.seconds

    def run(self, batches: Prefetch, progress: Progress) -> None:
        """Train to the end, or to where patience runs out.

        Args:
            batches: By step number.
            progress: Told of every step.

        Raises:
            PreemptedError: If ``stop`` gave a reason.
        """
        done, selection = self.done, self.config.selection
        if done.step == 0 and not done.history:
            self.measure()  # the untrained method: the first baseline
            self.save()
        while done.step < self.total and not exhausted(done.history, selection):
            self.step(batches.batch(done.step))
            progress.advance()
            epoch_ends = done.step % self.epoch == 0
            measuring = epoch_ends and (
                (done.step // self.epoch) % selection.every == 0 or done.step == self.total
            )
            looking = measuring or done.step % self.config.log_every == 0
            if looking:
                progress.note(loss=self.buffer.flush().get("train/loss", math.nan))
            is_best = measuring and self.measure()
            asked, due = self.stop() is not None, self.cadence.due(done.step)
            if self.runtime.world_size > 1:
                # Saving is done together, so it is agreed on together, where the processes meet anyway.
                asked, due = self.runtime.agree(asked, due) if looking else (False, False)
            if is_best or done.step == self.total or due or asked:
                self.save()
            if asked and done.step < self.total:
                reason = self.stop() or "another process was asked to"
                raise PreemptedError(
                    f"stopped after step {done.step} of {self.total} ({reason}); "
                    "the same command with --resume goes on from there"
                )
        self.buffer.flush()
        done.seconds = time.monotonic() - self.started

    def step(self, batch: object) -> None:
        """One step and its terms."""
        done = self.done
        own = self.method.learning_rate_factor
        set_learning_rates(self.optimizers, self.config.optim, done.step, self.total, own)
        clip = self.config.optim.clip_norm
        with self._numerics():
            terms = train_step(self.method, self.optimizers, self._on_device(batch), self.context(), clip)
        self.buffer.add(done.step, terms)
        done.step += 1

    def context(self) -> StepContext:
        """Of the step about to be made."""
        plan = ladder(self.method.chunkable)[self.done.memory_level]
        return StepContext(self.config.seed, self.done.step, self.runtime, plan.chunks)

    def measure(self) -> bool:
        """Validate at the current step; whether it is the best so far."""
        if self.validate is None:
            return False
        done, metrics = self.done, dict[str, float]()
        if self.runtime.is_main:
            self.method.eval()
            with torch.no_grad():
                metrics = dict(self.validate())
            self.log(metrics, done.step)
        done.history.append({"step": float(done.step), **self.runtime.share(metrics)})
        self.report(done.history[-1])
        return best_step(done.history, self.config.selection) == done.step

    def report(self, entry: Mapping[str, float]) -> None:
        """Tell the first process's observer of a validation."""
        if self.runtime.is_main:
            metrics = {name: value for name, value in entry.items() if name != "step"}
            self.on_validation(metrics, int(entry["step"]) // self.epoch)

    def save(self) -> None:
        """Commit a checkpoint, unless anything since the last look was not finite: such weights are not kept."""
        self.buffer.flush()
        begun = time.monotonic()
        self.before_save()
        self.done.seconds = begun - self.started
        self.saver.save(self.done, best_step(self.done.history, self.config.selection))
        self.cadence.saved(self.done.step, time.monotonic() - begun)

    def explain(self, error: DivergedError, batches: Prefetch) -> None:
        """Repeat the run from its newest checkpoint to the bad step, and look at that closely.

        Args:
            error: Says which step.
            batches: By step number.

        Raises:
            DivergedError: Always: ``error``, with what was found.
        """
        if self.saver.store is None or error.step is None:
            raise error
        self.begin(self.saver.reload())
        begin, self.log = self.done.step, ignore
        while self.done.step < error.step:
            self.step(batches.batch(self.done.step))
        self.buffer.clear()
        seed_dropout(self.context(), 0)
        with self._numerics():
            report = diagnose(self.method, self._on_device(batches.batch(error.step)), self.context())
        report |= {"replayed_from": begin, "message": str(error)}
        cause = explain(report) or "repeated, the step was finite"
        raise DivergedError(f"{error}; {cause}", error.step, report) from error

    def cut_finer(self, error: Exception) -> None:
        """Go back to the newest checkpoint, and on with smaller pieces.

        Args:
            error: Raised again unless it is about memory.

        Raises:
            OutOfMemoryError: If the pieces cannot be smaller, or there is no checkpoint.
        """
        if not is_out_of_memory(error):
            raise error
        where, level = consumer(error), self.done.memory_level + 1
        plans = ladder(self.method.chunkable)
        alone = self.runtime.world_size == 1 and self.saver.store is not None and self.saver.store.steps()
        if level >= len(plans) or not alone:
            settings = ", ".join(self.method.memory_settings) or "the batch size of the method"
            raise OutOfMemoryError(
                f"step {self.done.step} does not fit in memory ({where}: {str(error).splitlines()[0][:200]}); "
                f"lower {settings}"
            ) from error
        error.__traceback__ = None  # it holds on to the tensors of the failed step
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        if self.runtime.device.type == "cuda":
            torch.cuda.empty_cache()
        self.begin(self.saver.reload())
        self.done.memory_level = level
        warn(
            f"out of memory in {where}: going on from step {self.done.step} with the same loss in smaller "
            f"pieces (contrast tiles of {plans[level].edge}, encoder in {plans[level].chunks})"
        )

    def _on_device(self, batch: object) -> object:
        return to_device(batch, self.runtime.device)

    @contextmanager
    def _numerics(self) -> Iterator[None]:
        with small_tiles(ladder(self.method.chunkable)[self.done.memory_level].edge):
            kind = self.runtime.device.type
            with torch.autocast(kind, torch.bfloat16, enabled=self.config.precision == "bf16"):
                yield
