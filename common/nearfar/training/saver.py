"""When a run saves itself, and what happens when it cannot."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from nearfar.config import CheckpointConfig
from nearfar.errors import CheckpointError, StorageError
from nearfar.messages import warn
from nearfar.runtime import Runtime
from nearfar.training.checkpoint import Checkpoint, CheckpointStore
from nearfar.training.method import Method

FAILURES_ALLOWED = 2  # in a row; a full disk may be somebody's for a moment
SHARE_OF_TIME = 0.02
WORTH_A_WORD = 0.5  # seconds


@dataclass
class Progressed:
    """How far a run has come: all that a checkpoint holds beside the method and its optimisers.

    Attributes:
        step: Steps made.
        history: Validations in order, each with its ``step``.
        memory_level: Rung of the memory ladder in use.
        seconds: Training time of all processes so far.
    """

    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    memory_level: int = 0
    seconds: float = 0.0


class Saver:
    """Method and optimisers to and from the store; without one, nothing is saved.

    Args:
        method: What is trained.
        optimizers: Its optimisers.
        store: Used by the first process only.
        fingerprint: What the run is; a checkpoint of another run is refused.
        runtime: Hands what the first process loads to the others.
    """

    def __init__(
        self,
        method: Method,
        optimizers: Mapping[str, torch.optim.Optimizer],
        store: CheckpointStore | None,
        fingerprint: Mapping[str, str | int],
        runtime: Runtime,
    ) -> None:
        self.store = store
        self._method, self._optimizers = method, optimizers
        self._fingerprint, self._runtime = dict(fingerprint), runtime
        self._failures = 0
        self._unsaved_best: tuple[int, dict[str, Any]] | None = None

    @property
    def _own(self) -> CheckpointStore | None:
        return self.store if self._runtime.is_main else None

    def start(self, *, resume: bool) -> Progressed:
        """Where to begin: at the newest checkpoint, or at nothing with the store emptied.

        Args:
            resume: Whether to go on.

        Raises:
            CheckpointError: If all checkpoints are damaged, or the newest belongs to another run.
        """
        if self._own is not None and not resume:
            self._own.clear()
        found = self._own.load_latest(self._fingerprint) if self._own is not None and resume else None
        found = self._runtime.share(found)
        if found is None:
            return Progressed()
        self._method.load_state_dict(found.method)
        for name, optimizer in self._optimizers.items():
            optimizer.load_state_dict(found.optimizers[name])
        changed = [
            f"{key} {found.environment.get(key)} then, {value} now"
            for key, value in self.environment().items()
            if found.environment.get(key) not in (None, value)
        ]
        if changed and self._runtime.is_main:
            warn(f"going on elsewhere ({'; '.join(changed)}): the last bits may differ from a straight run")
        return Progressed(found.step, list(found.history), found.memory_level, found.seconds)

    def environment(self) -> dict[str, str | int]:
        """What may change the last bits without being part of the run's identity."""
        return {
            "torch": str(torch.__version__),
            "num_threads": torch.get_num_threads(),
            "device": self._runtime.device.type,
        }

    def save(self, done: Progressed, best: int | None) -> None:
        """Commit a checkpoint; a failure is reported and forgiven twice in a row.

        Args:
            done: Where the run is.
            best: Step of the best validation, whose checkpoint is kept.

        Raises:
            StorageError: At the third failure in a row.
        """
        if self._own is None:
            return
        checkpoint = Checkpoint(
            step=done.step,
            fingerprint=self._fingerprint,
            method=self._method.state_dict(),
            optimizers={name: optimizer.state_dict() for name, optimizer in self._optimizers.items()},
            history=done.history,
            memory_level=done.memory_level,
            seconds=done.seconds,
            environment=self.environment(),
        )
        try:
            self._own.save(checkpoint, best=best)
        except StorageError as error:
            self._failures += 1
            if best == done.step:
                copies = {name: value.detach().clone() for name, value in checkpoint.method.items()}
                self._unsaved_best = (done.step, copies)
            if self._failures > FAILURES_ALLOWED:
                raise
            warn(f"{error}; training goes on ({self._failures} of {FAILURES_ALLOWED + 1} failures in a row)")
        else:
            self._failures = 0

    def restore(self, best: int | None, current: int) -> None:
        """Give the method, on every process, the weights of its best validation.

        Args:
            best: Its step, ``None`` without validation.
            current: The step whose weights the method has.
        """
        if self.store is None or best is None or best == current:
            return
        found: Mapping[str, Any] = {}
        if self._unsaved_best is not None and self._unsaved_best[0] == best:
            found = self._unsaved_best[1]
        elif self._own is not None:
            found = self._own.load(best).method
        self._method.load_state_dict(self._runtime.share(found))

    def reload(self) -> Progressed:
        """Back to the newest checkpoint.

        Raises:
            CheckpointError: If there is none.
        """
        if self.store is None or (self._own is not None and not self._own.steps()):
            raise CheckpointError("there is no checkpoint to go back to")
        return self.start(resume=True)


class Cadence:
    """When the next checkpoint is due: a share of the run or some minutes, whichever comes first.

    Args:
        config: Both intervals.
        total: Steps of the whole run.
        step: Where the run is.
    """

    def __init__(self, config: CheckpointConfig, total: int, step: int) -> None:
        self._seconds = 60 * config.every_minutes
        self._steps = max(1, math.ceil(config.every_fraction * total))
        self._multiple = config.every_steps
        self._stretched = False
        self.saved(step, 0.0)

    def due(self, step: int) -> bool:
        """Whether to save now; never so often that saving takes more than 2 % of the time."""
        if self._multiple is not None and step % self._multiple == 0:
            return True
        waited = time.monotonic() - self._time
        due = step - self._step >= self._steps or waited >= self._seconds
        if due and waited < self._cost / SHARE_OF_TIME:
            if not self._stretched and self._cost > WORTH_A_WORD:
                self._stretched = True
                warn(f"a checkpoint takes {self._cost:.1f} s: they are made less often than configured")
            return False
        return due

    def saved(self, step: int, cost: float) -> None:
        """Begin to wait anew.

        Args:
            step: Of the checkpoint.
            cost: Seconds it took.
        """
        self._step, self._time, self._cost = step, time.monotonic(), cost
