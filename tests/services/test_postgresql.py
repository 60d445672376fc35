"""The study of the tuning tests on a real PostgreSQL, as several machines would share it."""

from __future__ import annotations

import subprocess
from types import ModuleType

import pytest

from nearfar.errors import ConfigError
from nearfar.tuning import check_place, find_place, open_storage

pytestmark = pytest.mark.services


def finish(process: subprocess.Popen[str]) -> None:
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 0, output


@pytest.mark.row("C02")
def test_two_of_four_workers_killed(postgresql: str, fake: ModuleType) -> None:
    """No trial lost, none double, the best value the greatest of all."""
    job = {"uri": postgresql, "study": "kills", "trials": 24, "workers": 4, "seconds": 0.4}
    parent = fake.launch(**job)
    fake.kill_some_workers(parent, fake.Job(**job), 2, every=6)
    finish(parent)
    study = fake.Job(**job).open().study
    trials = study.get_trials(deepcopy=False)
    fake.check_trials(trials, 24, 2)
    assert study.best_value == max(trial.value for trial in trials if trial.value is not None)


def test_machines_that_know_nothing_of_each_other(postgresql: str, fake: ModuleType) -> None:
    """Three separate processes begin the same fresh study at once; one of them is killed."""
    job = {"uri": postgresql, "study": "apart", "trials": 12, "workers": 1, "seconds": 0.6}
    processes = [fake.launch(**job) for _ in range(3)]
    opened = fake.Job(**job).open()
    fake.until(lambda: opened.progress()[0] >= 4)
    processes[0].kill()
    for process in processes[1:]:
        finish(process)
    fake.check_trials(opened.study.get_trials(deepcopy=False), 12, 1)


def test_a_changed_space_is_refused(postgresql: str, fake: ModuleType) -> None:
    store = open_storage(postgresql, "kept")
    with store.lock():
        study = store.create_study(direction="maximize", metric="val/score", pruner=None)
        fake.PLAN.register(study)
    changed = type(fake.PLAN)("fake", {"dropout": [0.1, 0.9]}, "val/score", "max")
    with store.lock(), pytest.raises(ConfigError, match=r"space\.optim\.lr"):
        changed.register(study)


def test_mlflow_must_not_share_the_database(postgresql: str) -> None:
    """C08."""
    with pytest.raises(ConfigError, match="is where MLflow keeps its runs"):
        check_place(find_place(postgresql, "s"), postgresql, 4)
