"""Real processes on one study, some of them killed (reliability rows C02 and S07)."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from types import ModuleType
from typing import Any

import psutil
import pytest

Launch = Callable[..., subprocess.Popen[str]]


def finish(process: subprocess.Popen[str], seconds: float = 120) -> None:
    output, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0, output


def trials_of(fake: ModuleType, **job: Any) -> Any:
    return fake.Job(**job).open().study.get_trials(deepcopy=False)


@pytest.mark.row("C02")
@pytest.mark.parametrize(
    ("trials", "workers", "kills"), [(24, 4, 2), pytest.param(200, 8, 4, marks=pytest.mark.slow)]
)
def test_killed_workers_lose_nothing_and_double_nothing(
    fake: ModuleType,
    launch: Launch,
    trials: int,
    workers: int,
    kills: int,
    record_property: Callable[[str, object], None],
) -> None:
    parent = launch(trials=trials, workers=workers, seconds=0.3)
    fake.kill_some_workers(parent, fake.Job(trials=trials), kills, every=workers + 2)
    record_property("kills", kills)
    finish(parent, 300)
    found = trials_of(fake, trials=trials)
    fake.check_trials(found, trials, kills)
    best = fake.Job(trials=trials).open().study.best_value
    assert best == max(trial.value for trial in found if trial.value is not None)


def test_independent_processes_take_over_from_a_killed_one(fake: ModuleType, launch: Launch) -> None:
    """As on several machines: nobody supervises, the study alone decides."""
    processes = [launch(trials=12, workers=1, seconds=0.6) for _ in range(3)]
    opened = fake.Job(trials=12).open()
    fake.until(lambda: opened.progress()[0] >= 4)
    processes[0].kill()
    for process in processes[1:]:
        finish(process)
    assert fake.check_trials(opened.study.get_trials(deepcopy=False), 12, 1) == 1


@pytest.mark.row("S07")
def test_workers_follow_a_killed_parent_and_the_study_goes_on(fake: ModuleType, launch: Launch) -> None:
    parent = launch(trials=9, workers=3, seconds=3.0)
    workers = fake.until(lambda: found if len(found := fake.workers_of(parent.pid)) == 3 else None)
    opened = fake.Job(trials=9).open()
    fake.until(lambda: opened.progress()[0] >= 3)
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    finish(launch(trials=9, workers=1, seconds=0.01))
    fake.check_trials(opened.study.get_trials(deepcopy=False), 9, 3)


def test_a_stopped_study_puts_its_trials_back_at_no_cost(fake: ModuleType, launch: Launch) -> None:
    opened = fake.Job(trials=4).open()
    for stops in (1, 2, 3):
        parent = launch(trials=4, workers=1, seconds=1.0)
        fake.until(lambda count=stops: opened.progress()[0] >= count)
        parent.send_signal(signal.SIGTERM)
        output, _ = parent.communicate(timeout=30)
        assert parent.returncode == 75, output
        assert "goes on where it was" in output
        last = opened.study.get_trials(deepcopy=False)[-1]
        assert (last.state.name, last.user_attrs["reason"]) == ("FAIL", "preempted")
    finish(launch(trials=4, workers=1, seconds=0.01))
    trials = opened.study.get_trials(deepcopy=False)
    assert fake.check_trials(trials, 4, 3) == 3
    assert [trial.user_attrs.get("retry_of") for trial in trials[:4]] == [None, 0, 1, 2]


def test_a_crew_stops_as_one(fake: ModuleType, launch: Launch) -> None:
    parent = launch(trials=6, workers=2, seconds=1.0)
    opened = fake.Job(trials=6).open()
    fake.until(lambda: opened.progress()[0] >= 2)
    workers = fake.workers_of(parent.pid)
    parent.send_signal(signal.SIGINT)
    output, _ = parent.communicate(timeout=30)
    assert parent.returncode == 75, output
    assert not [process for process in workers if process.is_running()]
    assert {trial.state.name for trial in opened.study.get_trials(deepcopy=False)} <= {"COMPLETE", "FAIL"}
