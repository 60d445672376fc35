"""Several workers on one study: started, replaced when they die, stopped together."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from nearfar.errors import NearfarError, PreemptedError
from nearfar.interruption import Interruption
from nearfar.messages import warn
from nearfar.processes import follow_parent

LOOK_SECONDS = 0.2
# Deaths in a row without a new trial in between: these are not the trials' fault.
FRUITLESS = 3

Target = Callable[[Interruption, Any], object]


def run_crew(
    target: Target,
    argument: Any,
    *,
    num_workers: int,
    stop: Interruption,
    progress: Callable[[], tuple[int, bool]],
) -> None:
    """Run ``target(stop, argument)`` in several processes until all of them return.

    A worker that dies without a word (killed, crashed) is replaced as long as there is work; one that
    raises stops the others.

    Args:
        target: A module-level function: the workers are new interpreters that import it.
        argument: Handed to it; must be picklable.
        num_workers: Processes.
        stop: Wish to stop, passed on to the workers.
        progress: How many trials were begun so far, and whether all are finished.

    Raises:
        PreemptedError: If asked to stop, after the workers have.
        NearfarError: The first error of a worker, or that they die before they begin a trial.
    """
    crew = _Crew(target, argument)
    fruitless, begun = 0, progress()[0]
    try:
        for _ in range(num_workers):
            crew.start()
        while crew.workers:
            if stop.reason is not None:
                crew.stop_all()
            died = crew.look(ignore=stop.reason is not None)
            for _ in range(died if stop.reason is None else 0):
                now, finished = progress()
                fruitless = fruitless + 1 if now == begun else 0
                begun = now
                if fruitless >= FRUITLESS:
                    raise NearfarError(
                        f"{fruitless} workers died before they began a trial; run with --workers 1 to see why"
                    )
                if not finished:
                    warn("a worker died; another one takes its place")
                    crew.start()
            time.sleep(LOOK_SECONDS)
        stop.check()
    finally:
        crew.end()


class _Crew:
    def __init__(self, target: Target, argument: Any) -> None:
        self._target, self._argument = target, argument
        # A fork would copy a torch that already has threads.
        self._context = multiprocessing.get_context("spawn")
        self._stopping = False
        self.workers: list[tuple[BaseProcess, Connection]] = []

    def start(self) -> None:
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_enter, args=(self._target, self._argument, theirs))
        process.start()
        theirs.close()
        self.workers.append((process, ours))

    def look(self, ignore: bool) -> int:
        """Take leave of the workers that ended; returns how many died without a word."""
        died = 0
        for worker in list(self.workers):
            process, words = worker
            if process.is_alive():
                continue
            process.join()
            self.workers.remove(worker)
            error = _last_word(words)
            if isinstance(error, PreemptedError):
                # Somebody stopped this worker and not us: that is as good as a death.
                died += 1
            elif error is not None and not ignore:
                raise error
            elif process.exitcode != 0:
                died += 1
        return died

    def stop_all(self) -> None:
        """Ask once; they save themselves first."""
        if not self._stopping:
            self._stopping = True
            for process, _ in self.workers:
                if process.is_alive():
                    process.terminate()

    def end(self) -> None:
        """Nobody is left behind, whatever happened here."""
        self.stop_all()
        deadline = time.monotonic() + 15
        for process, _ in self.workers:
            process.join(max(0.1, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()


def _last_word(words: Connection) -> BaseException | None:
    try:
        return words.recv() if words.poll() else None
    except (EOFError, OSError):
        return None
    finally:
        words.close()


def _enter(target: Target, argument: Any, words: Connection) -> None:
    follow_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent passes it on
    stop = Interruption()
    with stop:
        try:
            target(stop, argument)
        except BaseException as error:
            try:
                words.send(error)
            except Exception:  # an error that cannot be pickled
                words.send(NearfarError(f"{type(error).__name__}: {error}"))
            raise SystemExit(getattr(error, "exit_code", 1)) from None
