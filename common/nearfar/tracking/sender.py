"""A thread that sends metric values in batches, so that logging costs the training thread an append."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nearfar.errors import first_line

BATCH_SIZE = 500
DRAIN_SECONDS = 30.0
BACK_OFF_SECONDS = (2.0, 4.0, 8.0, 16.0, 32.0, 60.0)


@dataclass(frozen=True)
class Value:
    """One point of a metric; the timestamp is fixed here, which makes sending it twice harmless."""

    key: str
    value: float
    timestamp: int
    step: int


class MetricSender:
    """Sends what it is given, every ``flush_seconds`` or 500 values, retrying while the server is away.

    Args:
        send: Delivers one batch; may raise.
        outbox: File that receives what could not be delivered by the end, one JSON object a line.
        warn: Told once when delivery starts to fail, and at the end if values were left over.
        flush_seconds: Longest time a value waits.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Value]], None],
        outbox: Path,
        warn: Callable[[str], None],
        flush_seconds: float = 2.0,
    ) -> None:
        self._send, self._outbox, self._warn, self._flush_seconds = send, outbox, warn, flush_seconds
        self._queue: queue.SimpleQueue[Value] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._deadline = float("inf")
        self._left: list[Value] = []
        self._thread = threading.Thread(target=self._work, name="nearfar-metrics", daemon=True)
        self._thread.start()

    def put(self, value: Value) -> None:
        """Queue one value; never blocks, never raises."""
        self._queue.put(value)

    def close(self, drain_seconds: float = DRAIN_SECONDS) -> int:
        """Deliver what is queued within the time given; returns how many values went to the outbox."""
        self._deadline = time.monotonic() + drain_seconds
        self._closing.set()
        self._thread.join(drain_seconds + 5)
        left = [*self._left, *self._drain()]
        if left:
            self._outbox.parent.mkdir(parents=True, exist_ok=True)
            with self._outbox.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(vars(value)) + "\n" for value in left)
            self._warn(f"{len(left)} metric values could not be delivered; they are kept in {self._outbox}")
        return len(left)

    def _work(self) -> None:
        failures = 0
        while not (self._closing.is_set() and self._queue.empty() and not self._left):
            self._closing.wait(self._flush_seconds if failures == 0 else self._pause(failures))
            self._left += self._drain()
            while self._left:
                try:
                    self._send(self._left[:BATCH_SIZE])
                except Exception as error:  # the run must not notice, whatever the tracker does
                    failures += 1
                    if failures == 1:
                        self._warn(
                            f"the tracking store does not answer ({first_line(error)}); training goes on"
                        )
                    break
                failures = 0
                del self._left[:BATCH_SIZE]
            if failures and time.monotonic() > self._deadline:
                return
            if failures and self._closing.is_set():
                time.sleep(min(1.0, self._pause(failures)))

    def _drain(self) -> list[Value]:
        values = []
        while not self._queue.empty():
            values.append(self._queue.get())
        return values

    @staticmethod
    def _pause(failures: int) -> float:
        return BACK_OFF_SECONDS[min(failures, len(BACK_OFF_SECONDS)) - 1]
