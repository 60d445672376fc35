"""A thread that brings the journal to the store while training goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from nearfar.errors import first_line
from nearfar.tracking.courier import Courier
from nearfar.tracking.journal import Journal

DRAIN_SECONDS = 30.0
LEAST_DRAIN_SECONDS = 5.0
CLOSING_PAUSE_SECONDS = 1.0
BACK_OFF_SECONDS = (2.0, 4.0, 8.0, 16.0, 32.0, 60.0)


class Delivery:
    """Flushes the journal to disk and sends what is new, every ``flush_seconds``; waits longer in an outage.

    Args:
        journal: Written by the training thread.
        courier: Sends.
        warn: Told once per outage.
        flush_seconds: Longest time a value waits.
    """

    def __init__(
        self, journal: Journal, courier: Courier, warn: Callable[[str], None], flush_seconds: float
    ) -> None:
        self._journal, self._courier, self._warn = journal, courier, warn
        self._flush_seconds = flush_seconds
        self._closing, self._abandoned = threading.Event(), threading.Event()
        self._deadline = float("inf")
        self._outage: float | None = None
        self._complete = False
        self._thread = threading.Thread(target=self._work, name="nearfar-delivery", daemon=True)
        self._thread.start()

    def close(self, drain_seconds: float | None = None) -> bool:
        """Send what is left and stop; never takes longer than ``drain_seconds``.

        A store that has been away for that long already is tried once more only.

        Args:
            drain_seconds: Time to wait for a store that does not answer; 30 by default.

        Returns:
            Whether everything was sent.
        """
        drain_seconds = DRAIN_SECONDS if drain_seconds is None else drain_seconds
        now = time.monotonic()
        waited = now - (self._outage or now)
        patience = max(min(LEAST_DRAIN_SECONDS, drain_seconds), drain_seconds - waited)
        self._deadline = now + patience
        self._closing.set()
        self._thread.join(patience)
        self._abandoned.set()
        return self._complete

    def _work(self) -> None:
        failures = 0
        while not self._abandoned.is_set():
            closing = self._closing.is_set()
            until = self._journal.persist()
            try:
                self._courier.deliver(until, self._abandoned.is_set)
                if closing:
                    self._send_unwritten()
                    self._complete = True
                    return
            except Exception as error:  # the run must not notice, whatever the tracker does
                failures += 1
                if self._outage is None:
                    self._outage = time.monotonic()
                    self._warn(f"the tracking store does not answer ({_short(error)}); training goes on")
            else:
                failures, self._outage = 0, None
            self._pause(failures)

    def _pause(self, failures: int) -> None:
        if self._closing.is_set():
            left = self._deadline - time.monotonic()
            if left > 0:
                self._abandoned.wait(min(CLOSING_PAUSE_SECONDS, left))
            else:
                self._abandoned.set()
        elif failures:
            self._closing.wait(BACK_OFF_SECONDS[min(failures, len(BACK_OFF_SECONDS)) - 1])
        else:
            self._closing.wait(self._flush_seconds)

    def _send_unwritten(self) -> None:
        """What a full disk has kept out of the journal goes from memory, as it cannot wait any longer."""
        for operation in self._journal.unwritten():
            self._courier.apply(operation)


def _short(error: Exception) -> str:
    text = first_line(error)
    return text if len(text) <= 160 else f"{text[:157]}..."
