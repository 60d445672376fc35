"""Parts of a series and the rows forecasts start from: nothing of one part is a target of another."""

from __future__ import annotations

import itertools

import pytest

from nearfar.errors import DataError
from nearfar.timeseries.checks import check_horizons, fitting_horizons
from nearfar.timeseries.forecasting.split import ForecastSplit, Part, anchor_rows

PARTS: tuple[Part, ...] = ("train", "val", "test")
ETTH1 = ForecastSplit(8640, 11_520, 14_400)


@pytest.mark.parametrize("horizon", [1, 24, 48, 168, 336, 720])
def test_targets_of_the_parts_are_disjoint(horizon: int) -> None:
    rows = {part: anchor_rows(ETTH1, part, horizon, 200) for part in PARTS}
    # Forecasts start at consecutive rows, so their targets are one run.
    targets = {part: range(starts[0] + 1, starts[-1] + horizon + 1) for part, starts in rows.items()}
    assert max(targets["train"]) == 8639 < ETTH1.train_end
    assert (min(targets["val"]), max(targets["val"])) == (8641, 11_519)
    assert (min(targets["test"]), max(targets["test"])) == (11_521, 14_399)
    for one, other in itertools.combinations(PARTS, 2):
        assert not set(targets[one]) & set(targets[other])


@pytest.mark.parametrize("horizon", [1, 7, 30, 59, 60, 61])
@pytest.mark.parametrize("first", [0, 20, 150])
@pytest.mark.parametrize("part", PARTS)
def test_anchors_against_a_search(part: Part, horizon: int, first: int) -> None:
    split = ForecastSplit(100, 160, 230)
    start, stop = split.bounds(part)
    expected = [t for t in range(start, stop) if t >= first and t + horizon < stop]
    assert list(anchor_rows(split, part, horizon, first)) == expected


def test_number_of_samples_is_the_published_one() -> None:
    # 8640 - 200 - 24 and 2880 - 24, as in TS2Vec's program.
    assert len(anchor_rows(ETTH1, "train", 24)) == 8640 - 200 - 24
    assert len(anchor_rows(ETTH1, "test", 24)) == 2880 - 24


@pytest.mark.parametrize("ends", [(0, 5, 9), (5, 5, 9), (5, 9, 9), (9, 5, 12)])
def test_a_part_without_rows(ends: tuple[int, int, int]) -> None:
    with pytest.raises(DataError, match=f"train_end={ends[0]}, .* leave a part without rows"):
        ForecastSplit(*ends)


def test_shares() -> None:
    assert ForecastSplit.by_shares(17_420) == ForecastSplit(10_452, 13_936, 17_420)
    assert ForecastSplit.by_shares(5) == ForecastSplit(3, 4, 5)


def test_horizons_that_fit() -> None:
    split = ForecastSplit(300, 400, 500)
    assert fitting_horizons(split, (1, 99, 100)) == (1, 99)
    assert fitting_horizons(split, (1, 99, 100), first=250) == (1,)
    check_horizons(split, (99,))
    check_horizons(split, (99,), window=201)
    with pytest.raises(
        DataError,
        match="parts of 300, 100 and 100 rows are too short for a window of 202 rows and a forecast of 99",
    ):
        check_horizons(split, (1, 99), window=202)
    with pytest.raises(DataError, match="the first needs 301 rows, the others 101"):
        check_horizons(split, (100,))
