"""Runs in the store: values arrive once and finite, trouble of the tracker stays the tracker's."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from nearfar.errors import StorageError
from nearfar.tracking import Store, TrackedRun, check_metric_names, open_store, start_run
from nearfar.tracking.curves import MOST_POINTS, Curves
from nearfar.tracking.sender import MetricSender, Value


def begin(store: Store, warnings: list[str], tmp_path: Path, **options: Any) -> TrackedRun:
    arguments: dict[str, Any] = {"params": {"optim.lr": 0.1}, "tags": {"nearfar.kind": "train"}} | options
    return start_run(
        store,
        experiment="nearfar/toy/toy",
        name="toy-s0",
        outbox=tmp_path / "outbox.jsonl",
        warn=warnings.append,
        **arguments,
    )


def test_a_run_from_start_to_finish(tmp_path: Path) -> None:
    store, warnings = open_store(), list[str]()
    run = begin(store, warnings, tmp_path, parent_run_id=None, params={"long": "x" * 7000, "optim.lr": 0.1})
    for step in range(1200):
        run.log({"train/loss": 1 / (step + 1), "bad": math.inf if step == 3 else 0.0}, step)
    run.dataset("toy", "d" * 40, "toy.inter")
    (tmp_path / "a.txt").write_text("a")
    run.artifact(tmp_path / "a.txt", "notes")
    run.tag({"nearfar.resumed": "1"})
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
    assert not (tmp_path / "outbox.jsonl").exists()


def test_children_and_reasons(tmp_path: Path) -> None:
    store = open_store()
    parent = begin(store, [], tmp_path)
    child = begin(store, [], tmp_path, parent_run_id=parent.run_id)
    child.finish("FAILED", "diverged: step 3")
    parent.finish("FINISHED")
    stored = store.client.get_run(child.run_id)
    assert stored.data.tags["mlflow.parentRunId"] == parent.run_id
    assert stored.data.tags["nearfar.status_reason"] == "diverged: step 3"
    assert stored.info.status == "FAILED"


def test_metric_names_mlflow_refuses() -> None:
    check_metric_names(["test/ndcg_at_10", "a.b-c d"])
    for name in ("ndcg@10", "50%", ""):
        with pytest.raises(ValueError, match="write ndcg_at_10"):
            check_metric_names([name])


def test_a_store_that_fails_at_the_start_is_an_error_at_once(tmp_path: Path) -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise ConnectionError("nobody there")

    with pytest.raises(StorageError, match="cannot create a run in x: nobody there"):
        begin(Store("x", Broken(), None), [], tmp_path)


def test_values_wait_for_a_server_that_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearfar.tracking.sender.BACK_OFF_SECONDS", (0.05,))
    received: list[Value] = []
    away = [True]

    def send(values: Sequence[Value]) -> None:
        if away[0]:
            raise ConnectionError("away")
        received.extend(values)

    warnings: list[str] = []
    sender = MetricSender(send, tmp_path / "outbox.jsonl", warnings.append, flush_seconds=0.01)
    for step in range(1300):
        sender.put(Value("a", float(step), 1, step))
    time.sleep(0.3)
    assert received == []
    away[0] = False
    assert sender.close() == 0
    assert [value.step for value in received] == list(range(1300))
    assert warnings == ["the tracking store does not answer (away); training goes on"]


def test_what_cannot_be_delivered_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearfar.tracking.sender.BACK_OFF_SECONDS", (0.05,))

    def send(values: Sequence[Value]) -> None:
        raise ConnectionError("gone")

    warnings: list[str] = []
    sender = MetricSender(send, tmp_path / "deep" / "outbox.jsonl", warnings.append, flush_seconds=0.01)
    for step in range(7):
        sender.put(Value("a", 0.5, 123, step))
    assert sender.close(drain_seconds=0.3) == 7
    lines = [json.loads(line) for line in (tmp_path / "deep" / "outbox.jsonl").read_text().splitlines()]
    assert lines[2] == {"key": "a", "value": 0.5, "timestamp": 123, "step": 2}
    assert "7 metric values could not be delivered" in warnings[-1]


def test_a_failing_artifact_does_not_stop_the_run(tmp_path: Path) -> None:
    store, warnings = open_store(), list[str]()
    run = begin(store, warnings, tmp_path)
    run.artifact(tmp_path / "absent.png")
    run.finish("FINISHED")
    assert "artifact absent.png could not be recorded" in warnings[0]
    assert store.client.get_run(run.run_id).info.status == "FINISHED"


def test_curves_stay_small_and_are_drawn(tmp_path: Path) -> None:
    curves = Curves()
    for step in range(20_000):
        curves.add({"train/loss": 1 / (step + 1)}, step)
    curves.add({"val/mse": 0.5}, 20_000)
    points = curves.points["train/loss"]
    assert MOST_POINTS / 2 <= len(points) < MOST_POINTS
    assert points[0] == (0, 1.0)
    gaps = {b[0] - a[0] for a, b in zip(points, points[1:], strict=False)}
    assert len(gaps) == 1
    curves.write_csv(tmp_path / "c.csv")
    assert len((tmp_path / "c.csv").read_text().splitlines()) == len(points) + 2
    curves.draw(tmp_path / "c.png", "toy")
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    Curves().draw(tmp_path / "empty.png", "nothing")
    assert not (tmp_path / "empty.png").exists()
