"""Images of half a second for the conformance tests: a bright bar whose place is the class, partly mislabelled."""

from __future__ import annotations

from pathlib import Path

from nearfar.testing.bars import write_bars


def bars(folder: Path, *, count: int = 30) -> list[str]:
    """Write ``bars.npz`` and give settings for one stage.

    Args:
        folder: Where to; made when new.
        count: Training images of every class.

    Returns:
        Settings for a small model on it.
    """
    path = write_bars(folder, count)
    return [
        f"data={path}",
        "imbalance.ratio=3",
        "noise.rate=0.2",
        "epochs=10",
        "batch_size=16",
        "head_lr=0.1",
        "selection.every=5",
    ]


def two_stages(folder: Path) -> list[str]:
    """The same with settings for both stages, of which the first ends within an epoch.

    Args:
        folder: As of :func:`bars`.

    Returns:
        Settings for RCAL on it.
    """
    return [*bars(folder), "pretrain.epochs=0.5", "pretrain.dim=8", "gaussians.q=1"]
