"""A data set of half a second for the conformance tests: users who walk around a ring of items."""

from __future__ import annotations

from pathlib import Path

from nearfar.runtime import numpy_generator


def ring(folder: Path, *, num_users: int = 40, num_items: int = 30, longest: int = 25) -> list[str]:
    """Write ``ring.inter``; the next item is one to three places further, so it can be learnt but not known.

    Args:
        folder: Where to; made when new.
        num_users: Users with 4 to ``longest`` events.
        num_items: Places on the ring.
        longest: Longest history.

    Returns:
        Settings for a popularity model on it; see :func:`ring_sequences`.
    """
    rng = numpy_generator(0, "ring")
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    for user in range(num_users):
        steps = rng.integers(1, 4, size=int(rng.integers(4, longest + 1)))
        places = (int(rng.integers(num_items)) + steps.cumsum()) % num_items
        lines += [f"u{user}\ti{place}\t{time}" for time, place in enumerate(places)]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "ring.inter"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [f"data={path}"]


def ring_sequences(folder: Path) -> list[str]:
    """The same with settings for a small sequence model."""
    sizes = ["dim=16", "inner_dim=32", "max_length=10", "targets_per_batch=64", "epochs=3", "optim.lr=5e-3"]
    return [*ring(folder), *sizes]


def ring_contrast(folder: Path) -> list[str]:
    """The same with settings for a small sequence model that contrasts views."""
    return [*ring_sequences(folder), "contrast.rows=16", "contrast.weight=0.1"]
