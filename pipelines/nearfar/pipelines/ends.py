"""The ends a run can have: done, failed, diverged, out of time, behind the others. It gets exactly one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from nearfar.atomic import write_atomically
from nearfar.errors import (
    DivergedError,
    NearfarError,
    OutOfMemoryError,
    PreemptedError,
    PrunedError,
    StorageError,
    first_line,
)
from nearfar.pipelines.output import OutputFolder
from nearfar.tracking import Run
from nearfar.training.memory import is_out_of_memory


@contextmanager
def one_end(run: Run, folder: OutputFolder) -> Iterator[None]:
    """Whatever happens inside, the run gets an end in the store and in ``run.json``.

    The end ``done`` is not written here, since it comes with the metrics.

    Raises:
        Exception: What happened inside, as the error that carries an exit code.
    """
    try:
        yield
    except DivergedError as error:
        if error.report is not None:
            folder.diverged.mkdir(exist_ok=True)
            write_atomically(folder.diverged / "report.json", json.dumps(error.report, indent=2))
            run.artifact(folder.diverged, "diverged")
        _close(run, folder, "FAILED", "diverged", str(error))
        raise
    except PrunedError as error:
        _close(run, folder, "KILLED", "pruned", str(error))
        raise
    except PreemptedError as error:
        _close(run, folder, "KILLED", "preempted", str(error))
        raise
    except KeyboardInterrupt:
        _close(run, folder, "KILLED", "preempted", "interrupted twice")
        raise
    except Exception as error:
        translated = translate(error)
        _close(run, folder, "FAILED", "failed", str(translated) or type(error).__name__)
        raise translated from error


def _close(run: Run, folder: OutputFolder, status: str, state: str, reason: str) -> None:
    # The file first: it is there even if the store takes its time.
    folder.write_status(state, run_id=run.run_id, reason=reason)
    run.finish(status, f"{state}: {reason}")  # type: ignore[arg-type]


def translate(error: Exception) -> Exception:
    """Errors of torch and the system as the errors that carry an exit code."""
    if isinstance(error, NearfarError):
        return error
    if is_out_of_memory(error):
        return OutOfMemoryError(
            f"memory ran out ({first_line(error)}); lower the batch size or the size of the method"
        )
    if isinstance(error, OSError):
        place = error.filename or "a file"
        return StorageError(f"{place} cannot be written: {error.strerror or first_line(error)}")
    return error
