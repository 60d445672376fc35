"""Every error nearfar raises on purpose, with the exit code the command line gives it.

The codes are part of the public contract: schedulers and Make recipes branch on them.
"""

from __future__ import annotations

from typing import Any, ClassVar

from nearfar.redaction import redacted


def first_line(error: BaseException) -> str:
    """First line of an error's message; its type when it has none.

    Example:
        >>> first_line(ValueError("bad value\\nmore")), first_line(KeyError())
        ('bad value', 'KeyError')
    """
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


# A file may hold a word of a hundred megabytes, and the message quote it.
_LONGEST = 10_000


def _message(text: str) -> str:
    return redacted(text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ...")


class NearfarError(Exception):
    """Root of nearfar's own errors: a message for people, without passwords, and an exit code for scripts."""

    exit_code: ClassVar[int] = 1

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*(_message(part) if isinstance(part, str) else part for part in arguments))


class ConfigError(NearfarError, ValueError):
    """A setting is unknown, of the wrong type, out of bounds or contradicts another one."""

    exit_code = 2


class MissingDependencyError(ConfigError, ImportError):
    """An optional package is needed and absent; the message carries the command that installs it."""


class DataError(NearfarError, ValueError):
    """The data cannot be read or cannot be trained on; the message names the place and the fix."""

    exit_code = 3


class DivergedError(NearfarError, ArithmeticError):
    """The loss or a gradient stopped being finite.

    Args:
        message: For people.
        step: At which it happened.
        report: What was found when the step was repeated under observation.
    """

    exit_code = 4

    def __init__(self, message: str, step: int | None = None, report: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.step, self.report = step, report


class OutOfMemoryError(NearfarError, MemoryError):
    """The step does not fit in memory; the message names the setting to change."""

    exit_code = 5


class StorageError(NearfarError, OSError):
    """A folder or database cannot be written, or is locked by somebody else."""

    exit_code = 6


class PreemptedError(NearfarError):
    """The run was asked to stop and saved itself; ``--resume`` goes on where it was."""

    exit_code = 75


class PrunedError(NearfarError):
    """A trial is behind the others and was not worth finishing."""


class CheckpointError(NearfarError):
    """No usable checkpoint, or one that belongs to a different run."""

    exit_code = 2
