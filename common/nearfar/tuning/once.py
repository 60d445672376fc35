"""Something done exactly once per study, by one process of all, on any machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from nearfar.interruption import Interruption
from nearfar.tuning.claims import Watch
from nearfar.tuning.owner import is_gone, this_process
from nearfar.tuning.storage import HEARTBEAT_SECONDS, STALE_SECONDS, StudyStore, quiet_optuna
from nearfar.tuning.worker import POLL_SECONDS

Result = Mapping[str, Any]


def once(
    store: StudyStore, study: Any, key: str, of: str, make: Callable[[], Result], stop: Interruption
) -> dict[str, Any]:
    """The result of ``make``, made by whoever comes first; the others wait for it.

    A maker that dies is replaced by one of those who wait.

    Args:
        store: The study's storage.
        study: Optuna's study.
        key: Attribute of the study that holds the claim and then the result.
        of: What the result is of; a stored result of something else is made anew.
        make: Makes it; plain values.
        stop: Checked while waiting.
    """
    watch = Watch()
    while True:
        with store.lock():
            record = study.user_attrs.get(key) or {}
            if record.get("of") == of and "result" in record:
                return dict(record["result"])
            silent = watch.silent_seconds(key, record)
            if not record or "result" in record or is_gone(record["owner"]) or silent > STALE_SECONDS:
                study.set_user_attr(key, _claim(of))
                break
        stop.check()
        time.sleep(POLL_SECONDS)
    try:
        with _beating(study, key, of), quiet_optuna():
            result = dict(make())
    except BaseException:
        with store.lock():
            study.set_user_attr(key, None)
        raise
    with store.lock():
        study.set_user_attr(key, {**_claim(of), "result": result})
    return result


def _claim(of: str) -> dict[str, Any]:
    return {"of": of, "owner": this_process(), "alive": time.time()}


@contextmanager
def _beating(study: Any, key: str, of: str) -> Iterator[None]:
    done = threading.Event()
    writing = threading.Lock()

    def live() -> None:
        while not done.wait(HEARTBEAT_SECONDS):
            with writing:
                if done.is_set():
                    return
                try:
                    study.set_user_attr(key, _claim(of))
                except Exception:  # the storage is away for a moment; the next one will do
                    continue

    thread = threading.Thread(target=live, name="nearfar-once", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        with writing:  # a late sign of life must not overwrite the result
            pass
