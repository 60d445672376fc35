"""One process of a study: takes trials, runs them, says how they ended, until all are done."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from nearfar.errors import (
    DivergedError,
    NearfarError,
    OutOfMemoryError,
    PreemptedError,
    PrunedError,
    first_line,
)
from nearfar.interruption import Interruption
from nearfar.messages import warn
from nearfar.optional import require
from nearfar.tuning.claims import (
    PREEMPTED,
    REASON,
    Claim,
    Watch,
    beat,
    claim,
    is_finished,
    reasons,
)
from nearfar.tuning.space import SearchSpace
from nearfar.tuning.storage import HEARTBEAT_SECONDS, StudyStore, quiet_optuna

POLL_SECONDS = 1.0
# A bug shows in the first trials; later, so many failures are bad luck.
FIRST_TRIALS = 2
TOLERATED = 0.1


class Attempt:
    """A trial as its objective sees it.

    Args:
        claim: The trial this process holds.
        stop: The worker's wish to stop.

    Attributes:
        number: Optuna's number of the trial.
        ordinal: Place among the trials that repeat no other; a retry has that of the trial it repeats.
        words: Settings to train with, as ``key=value``.
        stop: The worker's wish to stop.
    """

    def __init__(self, claim: Claim, stop: Interruption) -> None:
        self.number, self.ordinal, self.words = int(claim.trial.number), claim.ordinal, claim.words
        self.stop, self._trial = stop, claim.trial
        # What was reported before the trial was cut short need not be measured again to be compared.
        past = claim.previous.intermediate_values if claim.previous is not None else {}
        self._reported: dict[int, float] = {}
        for step, value in sorted(past.items()):
            self._send(step, value)

    def note(self, key: str, value: Any) -> None:
        """Store something plain with the trial.

        Args:
            key: Its name.
            value: Anything JSON can hold.
        """
        self._trial.set_user_attr(key, value)

    def report(self, value: float, step: int) -> None:
        """Say how the trial stands.

        Args:
            value: The optimised metric so far.
            step: Comparable between trials; a step reported before is not reported again.

        Raises:
            PrunedError: If it is not worth going on.
            PreemptedError: If the worker was asked to stop.
        """
        self.stop.check()
        if step not in self._reported and math.isfinite(value):
            self._send(step, value)
        if self._trial.should_prune():
            raise PrunedError(f"trial {self.number} is behind the others at step {step}")

    def _send(self, step: int, value: float) -> None:
        self._reported[step] = value
        self._trial.report(value, step)


Objective = Callable[[Attempt], float]


class Report(Protocol):
    """Told how a trial ended."""

    def __call__(self, attempt: Attempt, state: str, value: float | None, reason: str | None) -> None: ...


def _say_nothing(attempt: Attempt, state: str, value: float | None, reason: str | None) -> None:
    pass


@dataclass(frozen=True)
class Work:
    """What a worker needs to know.

    Attributes:
        store: The study's storage.
        study: Optuna's study, with its pruner.
        space: What to draw.
        num_trials: Trials wanted, retries not counted.
        seed: Of the study.
    """

    store: StudyStore
    study: Any
    space: SearchSpace
    num_trials: int
    seed: int

    def progress(self) -> tuple[int, bool]:
        """How many trials were begun, retries included, and whether all have come to their end."""
        trials = self.study.get_trials(deepcopy=False)
        return len(trials), is_finished(trials, self.num_trials)


def work(job: Work, objective: Objective, stop: Interruption, report: Report = _say_nothing) -> int:
    """Run trials until every trial of the study, here or elsewhere, has come to its end.

    Args:
        job: The study.
        objective: Trains with an attempt's settings and returns the value.
        stop: Checked between trials and at every report.
        report: Told how each trial of this process ended.

    Returns:
        Trials run here.

    Raises:
        PreemptedError: If asked to stop; the trial under way goes back to the queue.
        StorageError: If the storage fails.
    """
    watch = Watch()
    count = 0
    with job.store.readable_errors():
        while True:
            stop.check()
            taken = claim(
                job.store, job.study, job.space, num_trials=job.num_trials, seed=job.seed, watch=watch
            )
            if taken is not None:
                count += 1
                _run(job, taken, objective, stop, report)
            elif job.progress()[1]:
                return count
            else:  # others are at work; should one die, its trial is for us
                time.sleep(POLL_SECONDS)


def _run(job: Work, taken: Claim, objective: Objective, stop: Interruption, report: Report) -> None:
    exceptions = require("optuna.exceptions", "tuning")
    attempt = None
    with _heartbeat(job.store, taken.trial), quiet_optuna():
        try:
            attempt = Attempt(taken, stop)
            value = objective(attempt)
            if not math.isfinite(value):
                raise DivergedError(f"the value is {value}")
        except exceptions.UpdateFinishedTrialError:
            warn(
                f"trial {taken.trial.number} was given to somebody else meanwhile; its result here is dropped"
            )
            return
        except BaseException as error:
            state, reason = _verdict(error)
            _end(job.study, taken.trial, state, reason=reason)
            if attempt is not None:
                report(attempt, state, None, reason)
            if isinstance(error, PreemptedError) or not isinstance(error, Exception):
                raise
            if reason is not None and reason.startswith("error"):
                _raise_unless_tolerated(job, taken, error)
            return
        _end(job.study, taken.trial, "COMPLETE", value=value)
        report(attempt, "COMPLETE", value, None)


def _verdict(error: BaseException) -> tuple[str, str | None]:
    """State of the trial, and why."""
    if isinstance(error, PrunedError):
        return "PRUNED", None
    if isinstance(error, DivergedError):
        return "PRUNED", f"diverged: {first_line(error)}"
    if isinstance(error, OutOfMemoryError):
        return "FAIL", f"out of memory: {first_line(error)}"
    if isinstance(error, PreemptedError) or not isinstance(error, Exception):
        return "FAIL", PREEMPTED
    return "FAIL", f"error: {type(error).__name__}: {first_line(error)}"


def _end(
    study: Any, trial: Any, state: str, *, value: float | None = None, reason: str | None = None
) -> None:
    states = require("optuna.trial", "tuning").TrialState
    exceptions = require("optuna.exceptions", "tuning")
    try:
        if reason is not None:
            trial.set_user_attr(REASON, reason)
        study.tell(trial, value, state=states[state], skip_if_finished=True)
    except exceptions.UpdateFinishedTrialError:
        warn(f"trial {trial.number} was given to somebody else meanwhile; its result here is dropped")


def _raise_unless_tolerated(job: Work, taken: Claim, error: Exception) -> None:
    failed = reasons(job.study.get_trials(deepcopy=False)).get("error", 0)
    if taken.ordinal < FIRST_TRIALS or failed > TOLERATED * job.num_trials:
        raise error
    message = (
        str(error) if isinstance(error, NearfarError) else f"{type(error).__name__}: {first_line(error)}"
    )
    warn(f"trial {taken.trial.number} failed, the study goes on: {message}")


@contextmanager
def _heartbeat(store: StudyStore, trial: Any) -> Iterator[None]:
    done = threading.Event()

    def live() -> None:
        while not done.wait(HEARTBEAT_SECONDS):
            try:
                beat(store, trial)
            except Exception as error:  # the trial ended meanwhile, or the database is away for a moment
                if not done.is_set():
                    warn(f"no sign of life of trial {trial.number} could be given: {type(error).__name__}")

    thread = threading.Thread(target=live, name="nearfar-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(timeout=5)
