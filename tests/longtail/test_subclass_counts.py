"""How many subclasses: the numbers of the paper's data sets, and both roundings."""

from __future__ import annotations

import numpy as np
import pytest

from nearfar.errors import ConfigError
from nearfar.labels import long_tail_counts
from nearfar.longtail.sbcl.subclass_counts import subclass_counts


@pytest.mark.parametrize(
    ("classes", "largest", "ratio", "most", "total", "whole"),
    [
        (100, 500, 100, 50, 1051, 30),
        (100, 500, 50, 50, 1219, 18),
        (100, 500, 10, 10, 346, 30),
        (10, 5000, 100, 100, 242, 2),
        (10, 5000, 50, 50, 135, None),
        (10, 5000, 10, 10, 36, None),
    ],
)
def test_long_tails_of_cifar(
    classes: int, largest: int, ratio: int, most: int, total: int, whole: int | None
) -> None:
    """With delta 10: the largest class, all of them, and how many stay whole."""
    parts = subclass_counts(long_tail_counts(largest, classes, ratio), 10)
    assert (parts[0], parts.sum()) == (most, total)
    if whole is not None:
        assert (parts == 1).sum() == whole


@pytest.mark.parametrize("rounding", ["floor", "ceil"])
def test_sizes_are_what_the_rounding_promises(rounding: str) -> None:
    """Floor: none below M, none above 2 M - 1; ceil: none above M. Classes below delta stay whole."""
    counts = np.arange(1, 200)
    parts = subclass_counts(counts, 7, rounding)  # type: ignore[arg-type]
    largest = -(-counts // parts)
    if rounding == "ceil":
        assert largest.max() == 7
    else:
        assert largest.max() == 13
        assert (counts // parts)[counts >= 7].min() == 7
        assert (parts[counts < 14] == 1).all()


def test_the_smallest_class_decides_where_it_is_above_delta() -> None:
    """And classes without rows are none."""
    assert subclass_counts([100, 0, 25], 10).tolist() == [4, 0, 1]
    assert subclass_counts([0, 0], 10).tolist() == [0, 0]


def test_settings_out_of_bounds() -> None:
    with pytest.raises(ConfigError, match="delta: at least 1 row in a subclass expected, got 0"):
        subclass_counts([5], 0)
    with pytest.raises(ConfigError, match="rounding: floor or ceil expected, got 'up'"):
        subclass_counts([5], 1, "up")  # type: ignore[arg-type]
