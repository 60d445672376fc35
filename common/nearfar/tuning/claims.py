"""Who runs which trial: none is lost and none is done twice, whatever dies.

Everything here happens under the study's lock and is a function of the trials as stored, so it can be
repeated from any point at which a process may have died:

* a RUNNING trial whose process is gone becomes FAIL;
* a FAIL without a reason (its process died), or with the reason ``preempted``, is put back into the
  queue with the same parameters and the attribute ``retry_of``, unless that was done already;
* a waiting trial is taken first; a new one is asked for only while the originals (trials that are no
  retries) are fewer than planned.

A trial that dies gets one more chance, then it stays failed. Being preempted costs no chance.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nearfar.optional import require
from nearfar.tuning.owner import is_gone, this_process
from nearfar.tuning.plan import sampler_seed
from nearfar.tuning.space import SearchSpace
from nearfar.tuning.storage import STALE_SECONDS, StudyStore, quiet_optuna

OWNER, RETRY_OF, REASON, ALIVE = "nearfar.owner", "retry_of", "reason", "nearfar.alive"
PREEMPTED = "preempted"
CHANCES = 2


class Watch:
    """Notices values that stand still, by this process's own clock: those of machines differ."""

    def __init__(self) -> None:
        self._seen: dict[Any, tuple[Any, float]] = {}

    def silent_seconds(self, key: Any, value: Any) -> float:
        """How long ``value`` has been the same here.

        Args:
            key: What is watched.
            value: Its state now.
        """
        now = time.monotonic()
        known = self._seen.get(key)
        if known is None or known[0] != value:
            self._seen[key] = (value, now)
            return 0.0
        return now - known[1]


@dataclass(frozen=True)
class Claim:
    """A trial that this process alone may run.

    Attributes:
        trial: Optuna's trial.
        ordinal: Place among the originals, from 0; a retry has that of the trial it repeats.
        words: The settings drawn, as ``key=value``.
        previous: The trial this one repeats.
    """

    trial: Any
    ordinal: int
    words: tuple[str, ...]
    previous: Any = None


def claim(
    store: StudyStore, study: Any, space: SearchSpace, *, num_trials: int, seed: int, watch: Watch
) -> Claim | None:
    """Take the next trial; ``None`` when there is nothing to take now.

    Args:
        store: The study's storage.
        study: Optuna's study.
        space: What to draw.
        num_trials: Originals wanted.
        seed: Of the study.
        watch: Of this worker, kept between calls.
    """
    samplers = require("optuna.samplers", "tuning")
    with store.lock(), quiet_optuna():
        bury(store, study, watch)
        requeue(study)
        trials = study.get_trials(deepcopy=False)
        waiting = next((trial for trial in trials if _state(trial) == "WAITING"), None)
        if waiting is None and len(originals(trials)) >= num_trials:
            return None
        ordinal = ordinal_of(trials, waiting) if waiting is not None else len(originals(trials))
        study.sampler = samplers.TPESampler(seed=sampler_seed(seed, ordinal))
        trial = study.ask()
        # The sign of life first: a trial with an owner on another machine and no sign of life would
        # never be missed. (One without an owner is, at once: nobody else can be at this point.)
        beat(store, trial)
        trial.set_user_attr(OWNER, this_process())
        words = space.suggest(trial)
        number = trial.user_attrs.get(RETRY_OF)
        previous = None if number is None else trials[number]
        return Claim(trial, ordinal, tuple(words), previous)


def beat(store: StudyStore, trial: Any) -> None:
    """Say that the trial's process is alive.

    Args:
        store: The study's storage.
        trial: Optuna's trial.
    """
    if store.place.kind == "postgresql":
        store.storage.record_heartbeat(trial._trial_id)
    else:
        trial.set_user_attr(ALIVE, time.time())


def bury(store: StudyStore, study: Any, watch: Watch | None = None) -> int:
    """Fail the RUNNING trials whose process is gone; returns how many. Call under the lock.

    Args:
        store: The study's storage.
        study: Optuna's study.
        watch: Finds the dead of other machines; without one, only those of this host are found.
    """
    optuna = require("optuna", "tuning")
    if store.place.kind == "postgresql":
        optuna.storages.fail_stale_trials(study)
    buried = 0
    for trial in study.get_trials(deepcopy=False):
        if _state(trial) == "RUNNING" and _is_dead(trial, watch):
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL, skip_if_finished=True)
            buried += 1
    return buried


def _is_dead(trial: Any, watch: Watch | None) -> bool:
    owner = trial.user_attrs.get(OWNER)
    if owner is None or is_gone(owner):
        return True
    alive = trial.user_attrs.get(ALIVE)
    return (
        watch is not None and alive is not None and watch.silent_seconds(trial.number, alive) > STALE_SECONDS
    )


def requeue(study: Any) -> int:
    """Put trials that did not end by themselves back into the queue; returns how many. Call under the lock.

    Args:
        study: Optuna's study.
    """
    trials = study.get_trials(deepcopy=False)
    cut_short = [trial for trial in last_attempts(trials) if needs_retry(trials, trial)]
    for trial in cut_short:
        study.enqueue_trial(dict(trial.params), user_attrs={RETRY_OF: trial.number})
    return len(cut_short)


def needs_retry(trials: Sequence[Any], trial: Any) -> bool:
    """Whether a trial was cut short and still has a chance.

    Args:
        trials: All of the study, in order.
        trial: One of them.
    """
    if _state(trial) != "FAIL":
        return False
    reason = trial.user_attrs.get(REASON)
    if reason == PREEMPTED:
        return True
    deaths = sum(_died(entry) for entry in _chain(trials, trial))
    return reason is None and deaths < CHANCES


def _died(trial: Any) -> bool:
    return _state(trial) == "FAIL" and trial.user_attrs.get(REASON) is None


def _chain(trials: Sequence[Any], trial: Any) -> list[Any]:
    """A trial and those it repeats, the original last."""
    chain = [trial]
    while (number := chain[-1].user_attrs.get(RETRY_OF)) is not None:
        chain.append(trials[number])
    return chain


def originals(trials: Sequence[Any]) -> list[Any]:
    """Trials that repeat no other.

    Args:
        trials: All of a study.
    """
    return [trial for trial in trials if RETRY_OF not in trial.user_attrs]


def last_attempts(trials: Sequence[Any]) -> list[Any]:
    """Trials that no other repeats: one for each original, its last.

    Args:
        trials: All of a study.
    """
    repeated = {trial.user_attrs.get(RETRY_OF) for trial in trials}
    return [trial for trial in trials if trial.number not in repeated]


def ordinal_of(trials: Sequence[Any], trial: Any) -> int:
    """Place of a trial among the originals; that of the trial it repeats, for a retry.

    Args:
        trials: All of the study, in order.
        trial: One of them.
    """
    root = _chain(trials, trial)[-1].number
    return sum(entry.number < root for entry in originals(trials))


def is_finished(trials: Sequence[Any], num_trials: int) -> bool:
    """Whether every planned trial came to its end, retries included.

    Args:
        trials: All of a study.
        num_trials: Originals wanted.
    """
    if len(originals(trials)) < num_trials or any(not trial.state.is_finished() for trial in trials):
        return False
    return not any(needs_retry(trials, trial) for trial in last_attempts(trials))


def reasons(trials: Sequence[Any]) -> Mapping[str, int]:
    """How many trials failed for which kind of reason: ``error``, ``out of memory``, ``died``, ...

    Args:
        trials: All of a study.
    """
    counts: dict[str, int] = {}
    for trial in trials:
        reason = trial.user_attrs.get(REASON) or ("died" if _died(trial) else None)
        if reason is not None:
            kind = str(reason).partition(":")[0]
            counts[kind] = counts.get(kind, 0) + 1
    return counts


def _state(trial: Any) -> str:
    return str(trial.state.name)
