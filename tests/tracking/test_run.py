"""Runs in the store: values arrive once and finite, whatever is killed, repeated or torn."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST

from nearfar.errors import ConfigError, StorageError
from nearfar.pipelines.cli import run as command_line
from nearfar.tracking import (
    NullRun,
    Store,
    TrackedRun,
    check_metric_names,
    close_stale_runs,
    open_store,
    set_aside,
    stale_runs,
    start_local_run,
    sync,
)
from nearfar.tracking.curves import Curves
from nearfar.tracking.journal import Journal, operations, read

pytestmark = pytest.mark.usefixtures("own_store")

Begin = Callable[..., TrackedRun]
Rows = Callable[..., list[tuple[int, float]]]


def test_a_run_from_start_to_finish(tmp_path: Path, begin: Begin, warnings: list[str]) -> None:
    store = open_store()
    run = begin(store, tmp_path, params={"long": "x" * 7000, "optim.lr": 0.1})
    for step in range(1200):
        run.log({"train/loss": 1 / (step + 1), "bad": math.inf if step == 3 else 0.0}, step)
    run.dataset("toy", "d" * 40, "toy.inter")
    (tmp_path / "a.txt").write_text("a")
    run.artifact(tmp_path / "a.txt", "notes")
    run.tag({"nearfar.variant": "default"})
    run.finish("FINISHED")
    stored = store.client.get_run(run.run_id)
    assert stored.info.status == "FINISHED"
    assert stored.data.params["optim.lr"] == "0.1"
    assert len(stored.data.params["long"]) == 6000
    assert stored.data.tags["nearfar.kind"] == "train"
    assert stored.inputs.dataset_inputs[0].dataset.name == "toy"
    history = store.client.get_metric_history(run.run_id, "train/loss")
    assert sorted(m.step for m in history) == list(range(1200))
    bad = store.client.get_metric_history(run.run_id, "bad")
    assert len(bad) == 1199
    assert all(math.isfinite(m.value) for m in bad)
    assert [a.path for a in store.client.list_artifacts(run.run_id, "notes")] == ["notes/a.txt"]
    assert warnings == []
    assert sync(tmp_path, warnings.append).delivered == 0


def test_children_and_reasons(tmp_path: Path, begin: Begin) -> None:
    store = open_store()
    parent = begin(store, tmp_path / "parent")
    child = begin(store, tmp_path / "child", parent_run_id=parent.reference)
    child.finish("FAILED", "diverged: step 3")
    parent.finish("FINISHED")
    stored = store.client.get_run(child.run_id)
    assert stored.data.tags["mlflow.parentRunId"] == parent.run_id
    assert stored.data.tags["nearfar.status_reason"] == "diverged: step 3"
    assert stored.info.status == "FAILED"


def test_metric_names_mlflow_refuses(tmp_path: Path, begin: Begin) -> None:
    check_metric_names(["test/ndcg_at_10", "a.b-c d"])
    for name in ("ndcg@10", "50%", ""):
        with pytest.raises(ValueError, match="write ndcg_at_10"):
            check_metric_names([name])
    run = begin(open_store(), tmp_path)
    with pytest.raises(ValueError, match="write ndcg_at_10"):
        run.log({"ndcg@10": 1.0}, 0)
    run.finish("FINISHED")


def test_a_local_store_that_fails_at_the_start_is_an_error_at_once(tmp_path: Path, begin: Begin) -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise ConnectionError("nobody there")

    with pytest.raises(StorageError, match="cannot create a run in sqlite:///x: nobody there"):
        begin(Store("sqlite:///x", Broken(), None), tmp_path)
    assert not (tmp_path / "outbox.jsonl").exists()


def test_a_failing_artifact_does_not_stop_the_run(tmp_path: Path, begin: Begin, warnings: list[str]) -> None:
    store = open_store()
    run = begin(store, tmp_path)
    run.artifact(tmp_path / "absent.png")
    run.log({"a": 1.0}, 0)
    run.finish("FINISHED")
    assert "artifact absent.png could not be recorded" in warnings[0]
    stored = store.client.get_run(run.run_id)
    assert (stored.info.status, stored.data.metrics["a"]) == ("FINISHED", 1.0)


def test_two_runs_may_record_the_same_data_at_once(
    tmp_path: Path, begin: Begin, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow looks for the data set, then writes it; who comes between is refused once."""
    store = open_store()
    log_inputs, calls = store.client.log_inputs, []

    def beaten(run_id: str, datasets: Any) -> None:
        calls.append(run_id)
        if len(calls) == 1:
            other = store.client.create_run(store.experiment("other"))
            log_inputs(other.info.run_id, datasets=datasets)
            raise MlflowException("UNIQUE constraint failed", error_code=BAD_REQUEST)
        log_inputs(run_id, datasets=datasets)

    monkeypatch.setattr(store.client, "log_inputs", beaten)
    run = begin(store, tmp_path)
    run.dataset("toy", "d" * 40, "toy.inter")
    run.finish("FINISHED")
    assert store.client.get_run(run.run_id).inputs.dataset_inputs[0].dataset.name == "toy"
    assert warnings == []


def test_a_resumed_run_records_nothing_twice(
    tmp_path: Path, begin: Begin, rows: Rows, warnings: list[str]
) -> None:
    """Values of steps that are made again are the same bits, and are dropped."""
    store = open_store()
    first = begin(store, tmp_path)
    for step in range(10):
        first.log({"train/loss": step / 3}, step)
    first.finish("KILLED", "preempted: SIGTERM")
    again = begin(store, tmp_path, resume=True)
    for step in range(6, 15):  # the checkpoint was at step 6
        again.log({"train/loss": step / 3}, step)
    again.finish("FINISHED")
    assert again.run_id == first.run_id
    assert rows(store, again.run_id, "train/loss") == [(step, step / 3) for step in range(15)]
    stored = store.client.get_run(again.run_id)
    assert stored.info.status == "FINISHED"
    assert stored.data.tags["nearfar.resumed"] == "1"
    assert "nearfar.status_reason" not in stored.data.tags
    assert Curves.read(tmp_path / "outbox.jsonl").points["train/loss"] == [(s, s / 3) for s in range(15)]


def test_a_torn_last_line_is_cut(tmp_path: Path, begin: Begin, rows: Rows) -> None:
    store = open_store()
    first = begin(store, tmp_path)
    first.log({"a": 1.0}, 0)
    first.finish("KILLED", "killed")
    outbox = tmp_path / "outbox.jsonl"
    with outbox.open("ab") as file:
        file.write(b'{"op":"metrics","step":1,"ti')
    again = begin(store, tmp_path, resume=True)
    again.log({"a": 2.0}, 1)
    again.finish("FINISHED")
    assert rows(store, again.run_id, "a") == [(0, 1.0), (1, 2.0)]
    assert all(operation["op"] != "damaged" for operation, _ in operations(outbox))


@pytest.mark.row("C06")
def test_c06_replayed_three_times_there_is_one_row_a_value(
    tmp_path: Path, begin: Begin, rows: Rows, warnings: list[str]
) -> None:
    store = open_store()
    run = begin(store, tmp_path)
    for step in range(700):
        run.log({"a": float(step)}, step)
    run.finish("FINISHED")
    for _ in range(3):
        (tmp_path / "outbox.sent").unlink()
        report = sync(tmp_path, warnings.append)
        assert (report.left, report.run_id) == (0, run.run_id)
        assert report.delivered > 700
    assert rows(store, run.run_id, "a") == [(step, float(step)) for step in range(700)]
    assert len(store.client.search_runs([store.client.get_run(run.run_id).info.experiment_id])) == 1


REPLAY = """
import os, signal, sys
from pathlib import Path
from nearfar.tracking import courier, sync
left = int(sys.argv[2])
real = courier.Courier.remember
def remember(self, offset):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    real(self, offset)
courier.Courier.remember = remember
courier.BATCH_SIZE = 50
sync(Path(sys.argv[1]), print)
"""


@pytest.mark.row("C06")
def test_c06_killed_while_replaying(tmp_path: Path, begin: Begin, rows: Rows, warnings: list[str]) -> None:
    """Killed between doing and remembering: done again, in effect once."""
    store = open_store()
    run = begin(store, tmp_path)
    for step in range(300):
        run.log({"a": float(step)}, step)
    run.finish("FINISHED")
    (tmp_path / "outbox.sent").unlink()
    for calls in (0, 3):
        killed = subprocess.run([sys.executable, "-c", REPLAY, str(tmp_path), str(calls)], check=False)
        assert killed.returncode == -signal.SIGKILL
    assert sync(tmp_path, warnings.append).left == 0
    assert rows(store, run.run_id, "a") == [(step, float(step)) for step in range(300)]


def test_a_full_disk_is_said_once_and_made_up_for(
    tmp_path: Path,
    begin: Begin,
    rows: Rows,
    warnings: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = open_store()
    run = begin(store, tmp_path)
    real, full = os.write, [True]

    def write(file: int, data: bytes) -> int:
        if full[0] and b'"op":"metrics"' in data:
            real(file, data[:7])
            raise OSError(28, "No space left on device")
        return real(file, data)

    monkeypatch.setattr("nearfar.tracking.journal.os.write", write)
    for step in range(5):
        run.log({"a": float(step)}, step)
    assert [line for line in warnings if "No space left" in line] == warnings
    assert len(warnings) == 1
    full[0] = False
    run.log({"a": 5.0}, 5)
    run.finish("FINISHED")
    assert rows(store, run.run_id, "a") == [(step, float(step)) for step in range(6)]


def test_what_never_reached_the_disk_is_sent_from_memory(
    tmp_path: Path, begin: Begin, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    run = begin(store, tmp_path)

    def write(file: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nearfar.tracking.journal.os.write", write)
    run.log({"a": 1.0}, 0)
    run.finish("FINISHED")
    assert rows(store, run.run_id, "a") == [(0, 1.0)]
    assert store.client.get_run(run.run_id).info.status == "FINISHED"


def test_a_local_run_can_be_sent_later(tmp_path: Path, rows: Rows, warnings: list[str]) -> None:
    run = start_local_run(
        experiment="nearfar/toy/toy",
        name="toy-s0",
        params={"lr": 1},
        tags={"nearfar.kind": "train"},
        outbox=tmp_path / "outbox.jsonl",
        warn=warnings.append,
    )
    run.log({"a": 1.0}, 0)
    run.finish("FINISHED")
    assert run.run_id is None
    assert read(tmp_path / "outbox.jsonl") == [("a", 0, 1.0)]
    with pytest.raises(ConfigError, match="was not tracked"):
        sync(tmp_path, warnings.append)
    store = open_store()
    report = sync(tmp_path, warnings.append, store.uri)
    assert rows(store, report.run_id, "a") == [(0, 1.0)]
    assert NullRun().run_id is None


def test_an_undelivered_journal_is_not_overwritten(tmp_path: Path, begin: Begin, warnings: list[str]) -> None:
    run = begin(open_store(), tmp_path)
    run.finish("FINISHED")
    outbox = tmp_path / "outbox.jsonl"
    set_aside(outbox, warnings.append)
    assert outbox.exists()
    assert warnings == []
    (tmp_path / "outbox.sent").write_text("{}")
    set_aside(outbox, warnings.append)
    assert not outbox.exists()
    kept = list(tmp_path.glob("outbox-*.jsonl"))
    assert len(kept) == 1
    assert str(kept[0]) in warnings[0]


def test_the_journal_cuts_what_is_torn_and_refuses_what_cannot_be(
    tmp_path: Path, warnings: list[str]
) -> None:
    path = tmp_path / "deep" / "outbox.jsonl"
    journal = Journal(path, warnings.append)
    journal.append({"op": "metrics", "step": 0, "time": 1, "values": {"a": 1.0}})
    journal.close()
    whole = path.read_bytes()
    for length in range(1, len(whole)):
        path.write_bytes(whole + whole[:length])
        Journal(path, warnings.append).close()
        assert path.read_bytes() == whole
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        Journal(tmp_path / "file" / "outbox.jsonl", warnings.append)


def test_sync_command(
    tmp_path: Path, begin: Begin, capsys: pytest.CaptureFixture[str], server: Any, impatient: None
) -> None:
    run = begin(open_store(), tmp_path / "run")
    run.finish("FINISHED")
    (tmp_path / "run" / "run.json").write_text('{"status": "done", "run_id": null}')
    assert command_line(["sync", str(tmp_path / "run")]) == 0
    assert f"run {run.run_id}" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "run.json").read_text()) == {"status": "done", "run_id": run.run_id}
    server.stop()
    assert command_line(["sync", str(tmp_path / "run"), "--to", server.uri, "--json"]) == 6
    captured = capsys.readouterr()
    assert json.loads(captured.out)[0]["left"] > 0
    assert "the store does not answer" in captured.err
    assert command_line(["sync", str(tmp_path)]) == 2
    assert "holds no journal of a run" in capsys.readouterr().err


def test_doctor_closes_runs_without_a_process(
    tmp_path: Path, begin: Begin, capsys: pytest.CaptureFixture[str]
) -> None:
    import socket

    import psutil

    me = psutil.Process()
    here = {"nearfar.host": socket.gethostname(), "nearfar.pid": str(me.pid)}
    alive = here | {"nearfar.pid_started": str(me.create_time())}
    store = open_store()
    runs = {
        "alive": begin(store, tmp_path / "a", tags=alive),
        "recycled": begin(store, tmp_path / "b", tags=alive | {"nearfar.pid_started": "5.0"}),
        "gone": begin(store, tmp_path / "c", tags=here | {"nearfar.pid": "99999999"}),
        "elsewhere": begin(
            store, tmp_path / "d", tags=alive | {"nearfar.host": "x", "nearfar.pid": "99999999"}
        ),
    }
    stale = {run.info.run_id for run in stale_runs(store)}
    assert stale == {runs["recycled"].run_id, runs["gone"].run_id}
    assert command_line(["doctor"]) == 0
    assert "2 runs are RUNNING without a process: nearfar doctor --fix" in capsys.readouterr().out
    assert command_line(["doctor", "--fix"]) == 0
    assert "closed 2 stale runs and 0 stale trials" in capsys.readouterr().out
    closed = store.client.get_run(runs["gone"].run_id)
    assert closed.info.status == "KILLED"
    assert closed.data.tags["nearfar.status_reason"] == "stale: process 99999999 is gone"
    assert close_stale_runs(store) == 0
    for run in runs.values():
        run.finish("FINISHED")


def test_curves_are_drawn(tmp_path: Path) -> None:
    curves = Curves({"train/loss": [(step, 1 / (step + 1)) for step in range(300)], "val/mse": [(300, 0.5)]})
    curves.write_csv(tmp_path / "c.csv")
    assert len((tmp_path / "c.csv").read_text().splitlines()) == 302
    curves.draw(tmp_path / "c.png", "toy")
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    Curves({}).draw(tmp_path / "empty.png", "nothing")
    assert not (tmp_path / "empty.png").exists()
    assert Curves.read(tmp_path / "absent.jsonl").points == {}


def test_system_metrics_are_sampled(tmp_path: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearfar.tracking.system.FIRST_SECONDS", 0.05)
    store = open_store()
    run = begin(store, tmp_path, system_metrics=True)
    deadline = time.monotonic() + 20
    while not any(key.startswith("system/") for key, _, _ in read(tmp_path / "outbox.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    run.finish("FINISHED")
    names = store.client.get_run(run.run_id).data.metrics
    assert "system/cpu_utilization_percentage" in names
    assert Curves.read(tmp_path / "outbox.jsonl").points == {}, "the machine is not part of the curves"
