"""Settings that depend on the data: those published for ``variant=released``, else how long to train.

The contrast of the paper gets about forty steps; on small sets longer training makes representations worse. That of
every step (``paper+`` for classes) gets as many as pay: 120 on small sets, and 624 where there is most to learn.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nearfar.timeseries.autotcl.published import published
from nearfar.timeseries.autotcl.variants import DEFAULT

# Epochs, and how many lie between validations.
OURS: Mapping[str, tuple[int, int]] = {
    "gunpoint": (20, 5),
    "coffee": (40, 10),
    "basicmotions": (24, 6),
    "japanesevowels": (6, 2),
    "pigcvp": (16, 4),
}
# Steps of a crop; its series have 2,000.
CROPS: Mapping[str, int] = {"pigcvp": 512}
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
    if given.get("variant", DEFAULT) == "paper+":
        known = {**LENGTHS, **OURS, **(INDEPENDENT if given.get("features") == "M" else {})}
        crop = {"crop": CROPS[name]} if name in CROPS else {}
    else:
        known, crop = dict(LENGTHS), {}
    length = known.get(name)
    return {} if length is None else {"epochs": length[0], "selection": {"every": length[1]}, **crop}
