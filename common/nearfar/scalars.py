"""What counts as a number where somebody gives one: Python's and NumPy's alike, truth values not."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any


def is_number(value: Any) -> bool:
    """Whether something is a real number; NaN is one, ``True`` is none.

    Args:
        value: Anything.

    Example:
        >>> is_number(0.5), is_number("0.5"), is_number(True)
        (True, False, False)
    """
    return isinstance(value, Real) and not isinstance(value, bool)


def is_whole(value: Any) -> bool:
    """Whether something is an integer by its type; ``2.0`` and ``True`` are none.

    Args:
        value: Anything.

    Example:
        >>> is_whole(2), is_whole(2.0), is_whole(True)
        (True, False, False)
    """
    return isinstance(value, Integral) and not isinstance(value, bool)
