"""Where studies are kept, and what is refused (reliability rows C03 and C08)."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from types import ModuleType

import pytest

from nearfar.errors import ConfigError, MissingDependencyError, StorageError
from nearfar.interruption import Interruption
from nearfar.optional import installed
from nearfar.tuning import check_place, close_stale, find_place, heal_journal, open_storage, work
from nearfar.tuning import storage as storage_module
from nearfar.tuning.owner import is_gone, this_process
from nearfar.tuning.storage import Place, _storage_error


def run_study(fake: ModuleType, path: Path, trials: int) -> list[float]:
    """Values of a study of so many trials, done here at once."""
    opened = fake.Job(uri=str(path), trials=trials).open()
    work(opened, lambda attempt: fake.score(attempt.words), Interruption())
    return [trial.value for trial in opened.study.get_trials() if trial.state.name == "COMPLETE"]


def test_the_default_is_a_journal_named_after_the_study(tmp_path: Path) -> None:
    place = find_place(None, "recsys.sasrec.a/b.0123")
    assert place == Place("journal", tmp_path / "mlruns" / "optuna" / "recsys.sasrec.a-b.0123.journal")
    assert find_place("here/s.journal", "s").path == tmp_path / "here" / "s.journal"


@pytest.mark.row("C03")
def test_a_journal_cut_at_every_byte_of_its_last_line(
    fake: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.journal"
    dead = {**this_process(), "pid": str(2**22 + 1)}
    with monkeypatch.context() as patch:
        patch.setattr("nearfar.tuning.claims.this_process", lambda: dead)
        values = run_study(fake, path, 3)
    whole = path.read_bytes()
    start = whole.rstrip(b"\n").rfind(b"\n") + 1
    assert json.loads(whole[start:])["state"] == 1, "the last record is the end of the last trial"
    for cut in range(start, len(whole) + 1):
        path.write_bytes(whole[:cut])
        lost = 0 if cut == len(whole) else cut - start
        assert heal_journal(path) == lost
        assert path.read_bytes() == (whole if cut == len(whole) else whole[:start])
    # The study goes on: the trial whose end was lost is done again, and no other.
    path.write_bytes(whole[: start + 9])
    assert sorted(run_study(fake, path, 4)[:3]) == sorted(values)
    trials = fake.Job(uri=str(path), trials=4).open().study.get_trials()
    assert fake.check_trials(trials, 4, 1) == 1


def test_a_torn_line_is_cut_before_the_next_record_is_written(fake: ModuleType, tmp_path: Path) -> None:
    """Somebody else dies in mid-write while this process has the journal open."""
    path = tmp_path / "s.journal"
    opened = fake.Job(uri=str(path), trials=2).open()
    with path.open("ab") as file:
        file.write(b'{"op_code":8,"worker_id":"x","trial_')
    opened.study.set_user_attr("after", 1)
    work(opened, lambda attempt: fake.score(attempt.words), Interruption())
    assert fake.Job(uri=str(path)).open().study.user_attrs["after"] == 1
    assert all(json.loads(line) for line in path.read_text("utf-8").splitlines())


def test_healing_what_is_long_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "s.journal"
    assert heal_journal(path) == 0
    assert not path.exists()
    path.write_bytes(b"{}\n" + b"x" * 200_000)
    assert heal_journal(path) == 200_000
    assert path.read_bytes() == b"{}\n"
    path.write_bytes(b"x" * 70_000)
    assert heal_journal(path) == 70_000
    assert path.read_bytes() == b""


def test_a_journal_damaged_in_its_middle_is_refused(fake: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "s.journal"
    run_study(fake, path, 1)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"\0\0\0\n", *lines[2:]]))
    with pytest.raises(StorageError, match="is damaged"):
        open_storage(str(path), "s")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StorageError, match="cannot be created"):
        open_storage(str(tmp_path / "file" / "s.journal"), "s")


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "s.journal").mkdir()
    with pytest.raises(StorageError, match=r"s\.journal cannot be written"):
        open_storage(str(tmp_path / "s.journal"), "s")


@pytest.mark.row("C08")
@pytest.mark.parametrize(
    ("storage", "tracking"),
    [
        ("sqlite:///{0}/mlruns/mlflow.db", "sqlite:///{0}/mlruns/mlflow.db"),
        ("sqlite:///mlruns/mlflow.db", "sqlite:///{0}/mlruns/mlflow.db"),
        ("sqlite:///{0}/mlruns/../mlruns/mlflow.db", "sqlite:///{0}/mlruns/mlflow.db"),
        ("postgresql://a:b@db/runs", "postgresql+psycopg2://c@db:5432/runs"),
    ],
)
def test_one_database_for_mlflow_and_the_study_is_refused(
    tmp_path: Path, storage: str, tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_module, "installed", lambda module: True)
    place = find_place(storage.format(tmp_path), "s")
    with pytest.raises(ConfigError, match="is where MLflow keeps its runs"):
        check_place(place, tracking.format(tmp_path), 1)
    check_place(place, None, 1)
    check_place(place, "http://server:5000", 1)
    check_place(place, "sqlite:////elsewhere/mlflow.db", 1)


def test_sqlite_serves_one_worker_only(fake: ModuleType, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 's.db'}"
    check_place(find_place(uri, "s"), None, 1)
    with pytest.raises(ConfigError, match="SQLite cannot serve 2 workers; leave --storage out"):
        check_place(find_place(uri, "s"), None, 2)
    opened = fake.Job(uri=uri, trials=3).open()
    work(opened, lambda attempt: fake.score(attempt.words), Interruption())
    assert fake.check_trials(opened.study.get_trials(), 3, 0) == 0


@pytest.mark.parametrize("uri", ["mysql://u@h/d", "http://h/d", "sqlite://", "redis://h"])
def test_storages_that_are_none(uri: str) -> None:
    with pytest.raises(ConfigError, match="--storage"):
        find_place(uri, "s")


def test_a_missing_driver_comes_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_module, "installed", lambda module: False)
    with pytest.raises(MissingDependencyError, match=r'pip install "psycopg\[binary\]"'):
        find_place("postgresql://u:secret@h/d", "s")
    with pytest.raises(MissingDependencyError, match="pip install psycopg2-binary"):
        find_place("postgresql+psycopg2://u:secret@h/d", "s")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_postgresql_takes_the_installed_driver_and_hides_the_password(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_module, "installed", lambda module: module == "psycopg")
    place = find_place(f"{scheme}://me:secret@db:99/studies?sslmode=require&password=secret", "s")
    assert place.url is not None
    assert place.url.startswith("postgresql+psycopg://me:secret@db:99/studies")
    for text in (place.shown(), str(place), repr(place)):
        assert "secret" not in text
        assert "postgresql://db:99/studies" in text
    error = _storage_error(
        place, ValueError("cannot connect to postgresql+psycopg://me:secret@db with secret")
    )
    assert "secret" not in str(error)


@pytest.mark.skipif(not installed("psycopg"), reason="psycopg is not installed")
def test_a_database_that_does_not_answer_is_one_line() -> None:
    with pytest.raises(StorageError) as caught:
        open_storage("postgresql://me:secret@127.0.0.1:9/studies", "s")
    assert "postgresql://127.0.0.1:9/studies cannot be used" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_owners() -> None:
    here = this_process()
    assert not is_gone(here)
    assert is_gone({**here, "pid": str(2**22 + 1)})
    assert is_gone({**here, "pid_started": "1.5"}), "the process id came back"
    assert not is_gone({**here, "host": "elsewhere", "pid": str(2**22 + 1)})


def test_stale_trials_are_closed(fake: ModuleType, tmp_path: Path) -> None:
    assert close_stale() == 0
    opened = fake.Job().open()
    dead = {**this_process(), "pid": str(2**22 + 1)}
    for owner in (dead, this_process(), {**dead, "host": "elsewhere"}):
        opened.study.ask().set_user_attr("nearfar.owner", owner)
    journal = tmp_path / "mlruns" / "optuna" / "s.journal"
    with journal.open("ab") as file:
        file.write(b'{"torn')
    assert close_stale() == 1
    assert close_stale() == 0
    assert [trial.state.name for trial in opened.study.get_trials()] == ["FAIL", "RUNNING", "RUNNING"]
    assert stat.S_ISREG(os.stat(journal).st_mode)
