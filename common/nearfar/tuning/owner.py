"""Which process works on something, and whether it still does."""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Mapping

from nearfar.optional import require

# Start times are read from a clock that may be set meanwhile; process ids do not come back this fast.
CLOCK_SECONDS = 5.0


@functools.cache
def _started(pid: int) -> str:
    return str(require("psutil", "telling processes apart").Process(pid).create_time())


def this_process() -> dict[str, str]:
    """Host, process id and start time: together they name one process for ever."""
    return {"host": socket.gethostname(), "pid": str(os.getpid()), "pid_started": _started(os.getpid())}


def is_gone(owner: Mapping[str, str]) -> bool:
    """Whether a process of *this* host has ended; of other hosts nothing is known here, so ``False``.

    Args:
        owner: What :func:`this_process` said there.
    """
    if owner.get("host") != socket.gethostname():
        return False
    psutil = require("psutil", "telling processes apart")
    try:
        process = psutil.Process(int(owner["pid"]))
        if process.status() == psutil.STATUS_ZOMBIE:
            return True
        return bool(abs(process.create_time() - float(owner["pid_started"])) > CLOCK_SECONDS)
    except psutil.NoSuchProcess:
        return True
