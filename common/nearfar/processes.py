"""Processes that belong together: is one alive, and what to do when the parent is gone."""

from __future__ import annotations

import os
import signal
import threading
import time

CHECK_SECONDS = 1.0
GRACE_SECONDS = 15.0
PREEMPTED = 75


def follow_parent(grace_seconds: float = GRACE_SECONDS) -> None:
    """Stop this process when its parent dies: SIGTERM first, the end after ``grace_seconds``.

    A worker whose parent was killed would otherwise train on for nobody, or wait for ever.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(CHECK_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace_seconds)
        os._exit(PREEMPTED)

    threading.Thread(target=watch, name="nearfar-parent", daemon=True).start()
