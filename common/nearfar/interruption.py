"""Signals as a wish to stop, granted where stopping does no harm: after a step, between two trials."""

from __future__ import annotations

import os
import signal
import threading
from multiprocessing import active_children
from types import FrameType, TracebackType
from typing import Any

from nearfar.errors import PreemptedError

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)  # SIGUSR1 is what SLURM is asked to send


class Interruption:
    """While entered, SIGTERM, SIGUSR1 and SIGINT are noted instead of ending the process.

    A second SIGINT raises ``KeyboardInterrupt`` at once. Outside the main thread, where Python allows no
    handlers, nothing is noted. Workers started by this process are told to stop as well.

    Attributes:
        reason: Name of the first signal that came, ``None`` so far.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._interrupts = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Grant the wish.

        Raises:
            PreemptedError: If there is one.
        """
        if self.reason is not None:
            raise PreemptedError(f"stopped ({self.reason}); the same command goes on where it was")

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - what handlers are given
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1:
            raise KeyboardInterrupt
        self.reason = self.reason or signal.Signals(number).name
        for child in active_children():
            if child.pid is not None and child.is_alive():
                os.kill(child.pid, signal.SIGTERM)
