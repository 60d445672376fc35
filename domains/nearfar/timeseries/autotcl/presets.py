"""Settings that depend on the data: those published for ``variant=released``, else how long to train.

A known set gets about forty steps; on small sets longer training makes representations worse.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nearfar.timeseries.autotcl.published import published

# Epochs, and how many lie between validations.
LENGTHS: Mapping[str, tuple[int, int]] = {
    "gunpoint": (30, 10),
    "coffee": (30, 10),
    "basicmotions": (30, 10),
    "japanesevowels": (6, 2),
    "pigcvp": (2, 1),
    "etth1": (40, 20),
    "etth2": (40, 20),
    "ettm1": (10, 5),
    "ettm2": (10, 5),
}
# All channels, each a series of its own.
INDEPENDENT: Mapping[str, tuple[int, int]] = {
    "etth1": (8, 4),
    "etth2": (8, 4),
    "ettm1": (2, 1),
    "ettm2": (2, 1),
}


def preset(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings for ``data``, ``features`` and ``variant``, nested; empty for data nobody knows.

    Args:
        given: Settings of the user.

    Example:
        >>> preset({"data": "JapaneseVowels"})
        {'epochs': 6, 'selection': {'every': 2}}
    """
    if given.get("variant") == "released":
        return published(given)
    name = Path(str(given.get("data", ""))).stem.lower()
    multivariate = given.get("features") == "M" and given.get("variant", "paper+") == "paper+"
    length = (INDEPENDENT if multivariate else LENGTHS).get(name)
    return {} if length is None else {"epochs": length[0], "selection": {"every": length[1]}}
