"""A tqdm bar on a terminal, a plain line now and then elsewhere; always on standard error."""

from __future__ import annotations

import sys
import time
from multiprocessing.queues import Queue
from multiprocessing.synchronize import RLock
from types import TracebackType
from typing import TextIO

from tqdm import tqdm

_terminal_line = 0


def share_terminal(lines: Queue[int], lock: RLock) -> None:
    """Give this process a line of the terminal of its own; for workers that train side by side.

    Args:
        lines: Holds the numbers of the free lines.
        lock: Shared by all processes that write to the terminal.
    """
    global _terminal_line
    _terminal_line = lines.get()
    tqdm.set_lock(lock)


class Progress:
    """Progress over ``total`` steps.

    Args:
        total: Steps of the whole run.
        label: What is being done.
        done: Steps already made by an earlier process.
        quiet: Show nothing.
        line_seconds: Time between lines where there is no terminal.
        stream: Where to write; standard error by default.
    """

    def __init__(
        self,
        total: int,
        label: str,
        *,
        done: int = 0,
        quiet: bool = False,
        line_seconds: float = 30.0,
        stream: TextIO | None = None,
    ) -> None:
        self._stream = stream or sys.stderr
        self._label, self._total, self._done = label, total, done
        self._quiet, self._line_seconds = quiet, line_seconds
        self._note = ""
        self._last_line = time.monotonic()
        terminal = self._stream.isatty() and not quiet
        self._bar = (
            tqdm(
                total=total,
                initial=done,
                desc=label,
                file=self._stream,
                leave=False,
                dynamic_ncols=True,
                position=_terminal_line,
            )
            if terminal
            else None
        )

    def advance(self, steps: int = 1) -> None:
        """Count finished steps."""
        self._done += steps
        if self._bar is not None:
            self._bar.update(steps)
        elif not self._quiet and time.monotonic() - self._last_line >= self._line_seconds:
            self._last_line = time.monotonic()
            self._stream.write(f"{self._label}: step {self._done}/{self._total}{self._note}\n")
            self._stream.flush()

    def note(self, **values: float) -> None:
        """Show the newest values beside the count."""
        text = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        self._note = f", {text}"
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
