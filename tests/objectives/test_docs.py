"""The examples of docs/objectives.md run and print what they say."""

from __future__ import annotations

import doctest
from pathlib import Path

GUIDE = Path(__file__).parents[2] / "docs" / "objectives.md"


def test_the_guide_is_true() -> None:
    failed, attempted = doctest.testfile(str(GUIDE), module_relative=False)
    assert attempted > 15
    assert not failed
