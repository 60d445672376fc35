"""Fine classes in coarse ones: by a loop, and what is no merging."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nearfar.errors import DataError
from nearfar.pipelines.hidden_classes.merging import Merging
from nearfar.pipelines.hidden_classes.sources import SPEAKERS, TOPICS


def test_every_row_is_in_the_class_that_has_its_fine_class() -> None:
    merging = Merging(((4, 0), (2,), (1, 3)), (5, 0, 3, 2, 9))
    fine = np.random.default_rng(0).integers(0, 5, 40)
    expected = [next(k for k, group in enumerate(merging.groups) if value in group) for value in fine]
    found = merging.coarse(fine)
    assert found.dtype == np.int64
    assert found.tolist() == expected
    assert merging.names == ("A", "B", "C")
    assert merging.described("vwxyz") == "A: z (9), v (5); B: x (3); C: w (0), y (2)"


def test_more_classes_than_letters() -> None:
    many = Merging(tuple((k,) for k in range(30)), (1,) * 30)
    assert many.names[25:27] == ("Z", "class 26")
    assert len(set(many.names)) == 30


@pytest.mark.parametrize("merging", [SPEAKERS, TOPICS])
def test_those_of_the_experiment_are_large_and_small(merging: Merging) -> None:
    """The first class hides the most and is by far the largest, the last one hides nothing."""
    sizes = [sum(merging.sizes[fine] for fine in group) for group in merging.groups]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] >= 10 * sizes[-1]
    assert len(merging.groups[0]) > len(merging.groups[1]) > len(merging.groups[-1]) == 1


@pytest.mark.parametrize(
    ("groups", "sizes", "message"),
    [
        (((0,), (1,)), (3, 3, 3), "^groups: each of the 3 fine classes"),
        (((0, 1), (1, 2)), (3, 3, 3), "in one coarse class expected"),
        (((0, 1), (3,)), (3, 3, 3), "^groups: "),
        ((), (), "^groups: each of the 0 fine classes"),
        (((0, 1), (2,)), (3, -1, 3), "^sizes: numbers of rows from 0"),
        (((0, 1), (2,)), (3, 3, 0), r"coarse class B, made of \(2,\), got \(3, 3, 0\)"),
        (((0, 1, 2), ()), (3, 3, 3), r"coarse class B, made of \(\)"),
    ],
)
def test_what_is_no_merging(groups: Any, sizes: tuple[int, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Merging(groups, sizes)


def test_a_fine_class_that_it_does_not_know() -> None:
    merging = Merging(((0,), (1,)), (2, 2))
    for wrong in (2, -1):
        with pytest.raises(DataError, match="^fine: "):
            merging.coarse(np.array([0, wrong]))
