"""The store: where it is, when it is refused, and many processes opening a fresh one at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nearfar.errors import ConfigError, StorageError
from nearfar.tracking import default_uri, experiment_name, open_store
from nearfar.tracking.store import _refuse_file_store


def test_default_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_uri() == f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    assert default_uri(Path("elsewhere")) == f"sqlite:///{tmp_path}/elsewhere/mlruns/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert default_uri() == "http://127.0.0.1:1"


def test_fresh_store_holds_everything_below_mlruns(tmp_path: Path) -> None:
    store = open_store()
    first = store.experiment(experiment_name("recsys", "ml 100k/x"))
    assert store.experiment("nearfar/recsys/ml-100k-x") == first
    experiment = store.client.get_experiment(first)
    assert experiment.artifact_location == (tmp_path / "mlruns/artifacts/nearfar-recsys-ml-100k-x").as_uri()
    assert {path.name for path in tmp_path.iterdir()} == {"mlruns"}


def test_deleted_experiment_comes_back(tmp_path: Path) -> None:
    store = open_store()
    number = store.experiment("nearfar/a/b")
    store.client.delete_experiment(number)
    assert store.experiment("nearfar/a/b") == number
    assert store.client.get_experiment(number).lifecycle_stage == "active"


def test_old_file_store_is_refused_with_the_command(tmp_path: Path) -> None:
    (tmp_path / "mlruns" / "0").mkdir(parents=True)
    (tmp_path / "mlruns" / "0" / "meta.yaml").touch()
    with pytest.raises(ConfigError, match="mlflow migrate-filestore --source .*mlruns --target sqlite:///"):
        open_store()
    assert not (tmp_path / "mlruns" / "mlflow.db").exists()
    _refuse_file_store(tmp_path / "other", "x")


@pytest.mark.parametrize("uri", ["mlruns", "file:///some/where", "./x"])
def test_folders_are_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match="no longer keeps runs in folders"):
        open_store(uri)


def test_store_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "mlruns").touch()
    with pytest.raises(
        StorageError, match=r"cannot be written: .*tracking.uri.*tracking.enabled=false"
    ) as caught:
        open_store()
    assert caught.value.exit_code == 6
    with pytest.raises(StorageError, match="cannot be written"):
        open_store("sqlite:////proc/nearfar/mlflow.db")


def test_store_that_is_not_a_database(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.write_text("this is a letter, not a database" * 100, encoding="utf-8")
    with pytest.raises(StorageError, match="cannot be used"):
        open_store(f"sqlite:///{path}")


@pytest.mark.row("C01")
def test_three_processes_open_a_fresh_store_together(tmp_path: Path) -> None:
    """Without the lock most of them crash inside each other's migration."""
    code = "from nearfar.tracking import open_store; print(open_store().experiment('nearfar/x/y'))"
    processes = [
        subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    answers = [process.communicate(timeout=120)[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(set(answers)) == 1
