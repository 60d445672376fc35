"""The next batches prepared while the current one is computed."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

from nearfar.training.method import BatchSource


class Prefetch:
    """Batches of a source in order, up to ``workers`` of them prepared ahead by threads.

    A batch is a function of its step alone, so who prepares it, and when, changes nothing.

    Args:
        source: Batches by step number; its ``batch`` is called from several threads when there are several.
        workers: Threads; 0 prepares each batch when it is asked for.
        stop: Step before which preparing ends.
    """

    def __init__(self, source: BatchSource, workers: int, stop: int) -> None:
        self._source, self._workers, self._stop = source, workers, stop
        self._pool = ThreadPoolExecutor(workers, "nearfar-batch") if workers else None
        self._ahead: deque[tuple[int, Future[Any]]] = deque()

    def batch(self, step: int) -> Any:
        """The batch of ``step``."""
        if self._pool is None:
            return self._source.batch(step)
        if self._ahead and self._ahead[0][0] != step:
            self._drop()  # the run went back to a checkpoint
        first = step + len(self._ahead)
        for later in range(first, min(step + self._workers + 1, self._stop)):
            self._ahead.append((later, self._pool.submit(self._source.batch, later)))
        return self._ahead.popleft()[1].result()

    def _drop(self) -> None:
        while self._ahead:
            self._ahead.popleft()[1].cancel()

    def __enter__(self) -> Prefetch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drop()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
