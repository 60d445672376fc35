"""Images of half a second for the conformance tests: a bright bar whose place is the finer class."""

from __future__ import annotations

from pathlib import Path

from nearfar.testing.bars import write_bars

COARSE = {0: 0, 1: 0, 2: 1}


def bars(folder: Path, *, count: int = 16) -> list[str]:
    """Write ``bars.npz``, two places of the bar in one class and the third in another, and give settings.

    Args:
        folder: Where to; made when new.
        count: Training images of every place.

    Returns:
        Settings for a small model on it.
    """
    path = write_bars(folder, count, COARSE)
    return [f"data={path}", "epochs=8", "batch_size=16", "selection.every=4"]


def subclasses(folder: Path) -> list[str]:
    """The same with settings for subclasses, of which the warm-up ends within an epoch.

    Args:
        folder: As of :func:`bars`.

    Returns:
        Settings for SBCL on it.
    """
    return [
        *bars(folder),
        "dim=8",
        "warmup_epochs=0.5",
        "subclasses.delta=4",
        "subclasses.every=3",
    ]


def contrast(folder: Path) -> list[str]:
    """The same for contrasts without subclasses.

    Args:
        folder: As of :func:`bars`.

    Returns:
        Settings for them.
    """
    return [*bars(folder), "dim=8"]
