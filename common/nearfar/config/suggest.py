"""What to say beside a name nobody knows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggest(word: str, known: Iterable[str], otherwise: str, *, prefix: str = "", cutoff: float = 0.4) -> str:
    """``did you mean '<the nearest known name>'?``, or ``otherwise`` when none is near.

    Args:
        word: What was given.
        known: What would have been right.
        otherwise: Said when nothing is near.
        prefix: Put in front of the nearest name.
        cutoff: Similarity from which a name is near, in [0, 1].

    Example:
        >>> suggest("epoch", ["epochs", "seed"], "no idea")
        "did you mean 'epochs'?"
    """
    near = difflib.get_close_matches(word, list(known), 1, cutoff)
    return f"did you mean '{prefix}{near[0]}'?" if near else otherwise
