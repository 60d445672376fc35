"""Signals become a wish to stop; a worker does not outlive its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from nearfar.interruption import Interruption


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_is_noted_and_the_handlers_are_given_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with Interruption() as interruption:
        os.kill(os.getpid(), number)
        assert interruption.reason == number.name
    assert signal.getsignal(number) is before


def test_the_second_interrupt_is_not_waited_for() -> None:
    with Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert interruption.reason == "SIGINT"


def test_outside_the_main_thread_nothing_is_changed() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []

    def work() -> None:
        with Interruption() as interruption:
            seen.extend([interruption.reason, signal.getsignal(signal.SIGTERM)])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [None, before]


CHILD = """
import sys, time
from nearfar.processes import follow_parent
follow_parent(grace_seconds=1.0)
if sys.argv[1] == "deaf":
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[2], "w").write("up")
time.sleep(60)
"""
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", *sys.argv[1:]])
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.row("S07")
@pytest.mark.parametrize("kind", ["plain", "deaf"])
def test_a_worker_follows_its_parent(tmp_path: Path, kind: str) -> None:
    """S07: SIGTERM when the parent was killed, the end soon after for a worker that does not listen."""
    up = tmp_path / "up"
    words = [sys.executable, "-c", PARENT, CHILD, kind, str(up)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        deadline = time.monotonic() + 30
        while not up.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        parent.kill()
    while time.monotonic() < deadline + 30:
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{child}/stat").exists() and ") Z " in Path(f"/proc/{child}/stat").read_text():
            return  # ended; nobody has asked for its exit code yet
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the worker outlived its parent")
