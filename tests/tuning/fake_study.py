"""A study with an objective of milliseconds, run by real processes that a test may kill.

``python fake_study.py '{"uri": ..., "study": ..., "trials": 40, "workers": 4}'``; a script and no test
module, because the workers it spawns must be able to import it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from nearfar.interruption import Interruption
from nearfar.tuning import (
    Attempt,
    Choice,
    Float,
    SearchSpace,
    StudyPlan,
    Work,
    open_storage,
    pruner,
    run_crew,
    work,
)

SPACE = SearchSpace({"optim.lr": Float(1e-4, 1e-1, log=True), "dropout": Choice(0.1, 0.3, 0.5)})
PLAN = StudyPlan("fake", SPACE.describe(), "val/score", "max")


@dataclass(frozen=True)
class Job:
    """What the script is told."""

    uri: str | None = None
    study: str = "s"
    trials: int = 40
    workers: int = 4
    seconds: float = 0.05
    pruned: int = 1  # trials the pruner is made for; below 15 it stops none

    def open(self) -> Work:
        """The study, registered."""
        store = open_storage(self.uri, self.study)
        with store.lock():
            study = store.create_study(
                direction=PLAN.direction, metric=PLAN.metric, pruner=pruner(self.pruned, 3, 1)
            )
            PLAN.register(study)
        return Work(store, study, SPACE, self.trials, PLAN.seed)


def score(words: Sequence[str]) -> float:
    """Depends on the settings alone."""
    values = dict(word.split("=") for word in words)
    return 1 - abs(float(values["optim.lr"]) - 0.01) - float(values["dropout"])


def worker(stop: Interruption, job: Job) -> None:
    """One process."""

    def objective(attempt: Attempt) -> float:
        for step in range(1, 4):
            time.sleep(job.seconds / 3)
            attempt.report(score(attempt.words) * step / 3, step)
        return score(attempt.words)

    work(job.open(), objective, stop)


def main(given: dict[str, Any]) -> None:
    """The whole study."""
    job = Job(**given)
    stop = Interruption()
    with stop:
        if job.workers == 1:
            worker(stop, job)
        else:
            run_crew(worker, job, num_workers=job.workers, stop=stop, progress=job.open().progress)


def launch(**job: Any) -> subprocess.Popen[str]:
    """The script in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, json.dumps(job)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def workers_of(pid: int) -> list[psutil.Process]:
    """Spawned workers of a process, without multiprocessing's own resource tracker."""
    try:
        return [child for child in psutil.Process(pid).children() if _is_worker(child)]
    except psutil.NoSuchProcess:
        return []


def _is_worker(process: psutil.Process) -> bool:
    try:
        return any("spawn_main" in word for word in process.cmdline())
    except psutil.NoSuchProcess:
        return False


def until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait until ``condition`` is true; an error when it never is."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"nothing happened within {seconds:.0f} s")


def kill_some_workers(parent: subprocess.Popen[str], job: Job, kills: int, every: int) -> int:
    """SIGKILL a worker each time ``every`` more trials were begun; returns how many were killed."""
    opened = job.open()
    for count in range(1, kills + 1):
        limit = count * every
        until(lambda: opened.progress()[0] >= limit)  # noqa: B023 - called at once
        victims = until(lambda: workers_of(parent.pid))
        victims[count % len(victims)].kill()
    return kills


def check_trials(trials: Sequence[Any], num_trials: int, kills: int) -> int:
    """C02: no trial lost, none double; returns how many trials the kills hit."""
    assert [trial.number for trial in trials] == list(range(len(trials))), "numbers have holes"
    states = [trial.state.name for trial in trials]
    assert set(states) <= {"COMPLETE", "FAIL"}, states
    originals = [trial for trial in trials if "retry_of" not in trial.user_attrs]
    assert len(originals) == num_trials
    failed = [trial.number for trial in trials if trial.state.name == "FAIL"]
    retried = [trial.user_attrs["retry_of"] for trial in trials if "retry_of" in trial.user_attrs]
    assert sorted(retried) == failed, "every trial cut short is tried once more, and no other"
    assert len(failed) <= kills
    done = [trial for trial in trials if trial.state.name == "COMPLETE"]
    assert len(done) == num_trials
    for trial in done:
        words = [f"{key}={value}" for key, value in trial.params.items()]
        assert trial.value == score(words)
    for trial in trials:
        if "retry_of" in trial.user_attrs:
            assert trial.params.items() >= trials[trial.user_attrs["retry_of"]].params.items()
    return len(failed)


if __name__ == "__main__":
    try:
        main(json.loads(sys.argv[1]))
    except Exception as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.exit(getattr(error, "exit_code", 1))
