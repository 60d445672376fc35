"""C05, C07: servers that are away, die, fail or hang, and a locked database, stop no training and lose nothing."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nearfar.tracking import Store, TrackedRun, open_store, sync

pytestmark = pytest.mark.usefixtures("own_store")

Whole = Callable[..., TrackedRun]


@pytest.mark.row("C05", outages=1)
@pytest.mark.parametrize("trouble", ["absent", "dies", "error", "hang"])
def test_c05_an_outage_changes_nothing_in_the_end(
    server: Any,
    trouble: str,
    tmp_path: Path,
    warnings: list[str],
    whole_run: Whole,
    content: Callable[..., Any],
    impatient: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Training is not delayed, the journal holds everything, ``sync`` makes the store what it would have been."""
    undisturbed = whole_run(open_store(), tmp_path / "undisturbed")
    monkeypatch.setattr("nearfar.tracking.delivery.DRAIN_SECONDS", 0.3)

    def begin_trouble(run: TrackedRun) -> None:
        if trouble != "absent":
            wait_for(lambda: run.run_id is not None)
        if trouble == "dies":
            server.stop()
        elif trouble != "absent":
            server.trouble = trouble

    if trouble == "absent":
        server.stop()
    store = open_store(server.uri)
    folder = tmp_path / "run"
    loop_began = time.monotonic()
    run = whole_run(store, folder, begin_trouble)
    assert time.monotonic() - loop_began < 10  # seconds would be tens if anything waited for the server
    assert (run.run_id is None) == (trouble == "absent")
    said = len([line for line in warnings if "does not answer" in line])
    assert said == 1 or (trouble == "hang" and said == 0)  # the run may end before the first call gives up
    assert warnings[-1].endswith(f"nearfar sync {folder}")

    away = sync(folder, warnings.append)
    assert away.left > 0
    assert away.reason

    server.recover()
    report = sync(folder, warnings.append)
    assert report.left == 0
    assert report.run_id is not None
    assert content(store, report.run_id) == content(open_store(), undisturbed.run_id)
    assert sync(folder, warnings.append).delivered == 0


def test_a_server_that_comes_back_while_the_run_goes_on(
    server: Any, tmp_path: Path, begin: Whole, rows: Callable[..., Any], warnings: list[str], impatient: None
) -> None:
    """One warning an outage, everything there at the end."""
    store = open_store(server.uri)
    server.trouble = "error"
    run = begin(store, tmp_path)
    run.log({"a": 1.0}, 0)
    wait_for(lambda: bool(warnings))
    server.recover()
    wait_for(lambda: run.run_id is not None and run._delivery._outage is None)
    server.trouble = "error"
    run.log({"a": 2.0}, 1)
    wait_for(lambda: len(warnings) == 2)
    server.recover()
    run.finish("FINISHED")
    assert rows(store, run.run_id, "a") == [(0, 1.0), (1, 2.0)]
    assert ["does not answer" in line for line in warnings] == [True, True]


def test_a_group_the_store_hears_of_after_its_members(
    server: Any, tmp_path: Path, begin: Whole, warnings: list[str], impatient: None
) -> None:
    """Members are linked whichever of the two is recorded first."""
    server.stop()
    store = open_store(server.uri)
    group = begin(store, tmp_path / "group", tags={"nearfar.kind": "group"})
    members = [begin(store, tmp_path / f"m{i}", parent_run_id=group.reference) for i in range(2)]
    for run in (*members, group):
        run._delivery.close(0.1)
        run._journal.close()
    server.recover()
    ids = [sync(tmp_path / name, warnings.append).run_id for name in ("m0", "group", "m1")]
    for member in (ids[0], ids[2]):
        assert store.client.get_run(member).data.tags["mlflow.parentRunId"] == ids[1]


@pytest.mark.row("C07", outages=1)
def test_c07_a_locked_database_delays_delivery_only(
    tmp_path: Path, begin: Whole, rows: Callable[..., Any], warnings: list[str], impatient: None
) -> None:
    """A short lock, met with MLflow's busy time-out of 20 s lowered to nothing."""
    store = open_store()
    lower_busy_timeout(store)
    locked_for(1.0, store, tmp_path, begin, rows, warnings)
    assert len(warnings) == 1
    assert "locked" in warnings[0]


@pytest.mark.row("C07", outages=1)
@pytest.mark.slow
def test_c07_a_database_locked_for_25_seconds(
    tmp_path: Path, begin: Whole, rows: Callable[..., Any], warnings: list[str]
) -> None:
    """Longer than MLflow waits."""
    locked_for(25.0, open_store(), tmp_path, begin, rows, warnings)


def locked_for(
    seconds: float,
    store: Store,
    tmp_path: Path,
    begin: Whole,
    rows: Callable[..., Any],
    warnings: list[str],
) -> None:
    run = begin(store, tmp_path)
    other = sqlite3.connect(store.uri.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    began, slowest, step = time.monotonic(), 0.0, 0
    while time.monotonic() - began < seconds:
        before = time.monotonic()
        run.log({"train/loss": float(step)}, step)
        slowest = max(slowest, time.monotonic() - before)
        step += 1
        time.sleep(0.01)
    assert slowest < 1  # a log call that waited for the lock would take all the time there is
    other.execute("ROLLBACK")
    other.close()
    run.finish("FINISHED")
    assert rows(store, run.run_id, "train/loss") == [(i, float(i)) for i in range(step)]
    assert store.client.get_run(run.run_id).info.status == "FINISHED"


def lower_busy_timeout(store: Store) -> None:
    """MLflow sets it with a statement at the beginning of every session; this changes that statement."""
    import sqlalchemy

    engine = store.client._tracking_client.store.engine

    @sqlalchemy.event.listens_for(engine, "before_cursor_execute", retval=True)
    def _(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> Any:
        return statement.replace("busy_timeout = 20000", "busy_timeout = 50"), parameters


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.02)
