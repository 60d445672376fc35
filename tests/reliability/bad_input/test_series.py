"""B02: series that must be refused, or of which something must be said (reliability.md, 4.5).

=====================================  ==========================================================================
case                                   where
=====================================  ==========================================================================
NaN, infinite, huge, tiny              here; NaN of a collection is a missing value
constant channels                      here: said if one, refused if all; scaled without dividing by 0
length < window, unequal lengths       here
layout (N, C, T)                       here; also tests/timeseries/test_checks.py
times twice, backwards, missing        here
irregular sampling                     here: said
time zones mixed, of one kind          here
parts out of order, shares             here
a scaler that has seen test data       here: test rows change nothing
one sample                             here: refused with classes, allowed to represent
zero channels, strings, dates          here
labels                                 here
=====================================  ==========================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nearfar.adapters import SeriesInputs
from nearfar.errors import ConfigError
from nearfar.optional import installed
from nearfar.runtime import numpy_generator
from nearfar.timeseries import AutoTCLEncoder, classify, load_dataset
from nearfar.timeseries.datasets import ClassificationDataset, ForecastDataset
from nearfar.timeseries.forecasting.split import ForecastSplit

ROWS = 100
START = datetime(2020, 1, 1)
TIMES = [(START + timedelta(hours=hour)).isoformat(" ") for hour in range(ROWS)]
WALKS = numpy_generator(0, "walks").normal(size=(ROWS, 2)).cumsum(0)
VALUES = [[f"{value:.6f}" for value in row] for row in WALKS]

# Counted apart: what is refused, and what is odd and follows a policy.
refused_case = pytest.mark.row("B02", bad_inputs=1)
odd_case = pytest.mark.row("B02", odd_inputs=1)


def cell(row: int, column: int, text: str) -> list[list[str]]:
    return [
        [text if (r, c) == (row, column) else v for c, v in enumerate(line)] for r, line in enumerate(VALUES)
    ]


def column(texts: Sequence[str]) -> list[list[str]]:
    return [[line[0], text] for line, text in zip(VALUES, texts, strict=True)]


def time(row: int, text: str) -> list[str]:
    return [text if r == row else known for r, known in enumerate(TIMES)]


def table(
    folder: Path,
    values: list[list[str]] = VALUES,
    times: list[str] | None = TIMES,
    names: Sequence[str] = ("a", "b"),
) -> Path:
    heads = [] if times is None else [[text] for text in times]
    rows = values if times is None else [[*head, *row] for head, row in zip(heads, values, strict=False)]
    first = [*([] if times is None else ["date"]), *names]
    path = folder / "walks.csv"
    path.write_text("\n".join(",".join(row) for row in [first, *rows]) + "\n", encoding="utf-8")
    return path


def forecast(path: Path, **settings: Any) -> ForecastDataset:
    found = load_dataset(str(path), **{"horizons": (3,), "window": 10, **settings})
    assert isinstance(found, ForecastDataset)
    return found


LINES = [f"{value}e200" for value in range(ROWS)]
TABLES: list[tuple[str, dict[str, Any], str, str, str]] = [
    ("nan", {"values": cell(7, 1, "nan")}, "line 9, column 'b'", "'nan'", "fill gaps"),
    ("infinite", {"values": cell(7, 1, "-inf")}, "line 9, column 'b'", "'-inf'", "fill gaps"),
    ("overflow", {"values": cell(7, 1, "1e400")}, "line 9, column 'b'", "'1e400'", "fill gaps"),
    ("empty-cell", {"values": cell(7, 1, "")}, "line 9, column 'b'", "an empty cell", "fill gaps"),
    ("text", {"values": cell(7, 1, "high")}, "line 9, column 'b'", "'high'", "fill gaps"),
    ("huge", {"values": cell(7, 1, "1e300")}, "row 7, channel 'b'", r"1e\+300", "power of ten"),
    ("all-huge", {"values": column(LINES)}, "channel 'b'", r"e\+2", "power of ten"),
    (
        "all-tiny",
        {"values": column([f"{v}e-300" for v in range(ROWS)])},
        "channel 'b'",
        "e-29",
        "power of ten",
    ),
    ("constant", {"values": column(["3"] * ROWS)}, "'b'", "3 on all 60 training rows", "another target"),
    (
        "constant-in-training",
        {"values": column([str(max(0, r - 70)) for r in range(ROWS)])},
        "'b'",
        "0 on all",
        "target",
    ),
    (
        "zero-channels",
        {"values": [[] for _ in range(ROWS)], "names": ()},
        "column of numbers",
        "no",
        "one a channel",
    ),
    ("one-name-twice", {"names": ("a", "a")}, "two columns", "'a'", "rename one"),
    (
        "too-short",
        {"values": VALUES[:12], "times": TIMES[:12]},
        "series of 12 rows",
        "7, 2 and 3",
        "longer series",
    ),
    ("time-twice", {"times": time(5, TIMES[4])}, "timestamps", "of row 5 is there twice", "keep one row"),
    (
        "backwards",
        {"times": time(5, "2019-01-01 00:00:00")},
        "timestamps",
        "2019-01-01T00:00:00 of row 5",
        "sort",
    ),
    ("time-missing", {"times": time(5, "")}, "timestamps", "row 5 is missing", "leave the row out"),
    ("time-NaT", {"times": time(5, "NaT")}, "timestamps", "row 5 is missing", "leave the row out"),
    ("time-of-words", {"times": time(5, "noon")}, "line 7, first column", "'noon'", "write it as"),
    (
        "some-zones",
        {"times": time(5, TIMES[5] + "+02:00")},
        "first column",
        "has no time zone",
        "give all of them one",
    ),
    (
        "zones-after-hours",
        {"times": time(5, "2016-07-01 05+02")},
        "first column",
        "has no time zone",
        "give all",
    ),
    ("zone-in-short", {"times": [t + "+2" for t in TIMES]}, "first column", r"\+2'", "write it as"),
    ("zone-unfinished", {"times": [f"{t}+" for t in TIMES]}, "line 2, first column", r"\+'", "write it as"),
    ("zone-of-nowhere", {"times": [t + "+99:00" for t in TIMES]}, "first column", r"\+99:00", "write it as"),
]


@pytest.mark.parametrize(
    ("changes", "field", "value", "fix"), [pytest.param(*case[1:], id=case[0]) for case in TABLES]
)
@refused_case
def test_a_table(
    changes: dict[str, Any], field: str, value: str, fix: str, refuses: Any, tmp_path: Path
) -> None:
    path = table(tmp_path, **changes)
    with refuses(f"walks.csv.*{field}", value, fix):
        forecast(path)


ASKED: list[tuple[str, dict[str, Any], str, str, str]] = [
    ("no-such-target", {"target": "c"}, "target", "'c'", "one of a, b"),
    ("target-of-all", {"target": "a", "features": "M"}, "target", "'a'", "use features=S"),
    ("features", {"features": "X"}, "features", "'X'", r"S \(one channel\) or M"),
    ("horizon-zero", {"horizons": (0,)}, "horizons", r"\(0,\)", "positive"),
    ("horizon-fraction", {"horizons": (1.5,)}, "horizons", r"\(1.5,\)", "positive numbers of rows"),
    ("no-horizon", {"horizons": ()}, "horizons", r"\(\)", "positive"),
    ("window-zero", {"window": 0}, "window", "0", "from 1"),
    ("window-negative", {"window": -5}, "window", "-5", "from 1"),
    ("window-zero-by-default", {"window": 0, "horizons": None}, "window", "0", "from 1"),
]


@pytest.mark.parametrize(
    ("settings", "field", "value", "fix"), [pytest.param(*case[1:], id=case[0]) for case in ASKED]
)
@refused_case
def test_what_is_asked_of_a_table(
    settings: dict[str, Any], field: str, value: str, fix: str, refuses: Any, tmp_path: Path
) -> None:
    with refuses(f"^{field}", value, fix, ConfigError):
        forecast(table(tmp_path), **settings)


@odd_case
def test_a_constant_channel_among_others_is_said_and_not_divided_by_zero(tmp_path: Path) -> None:
    found = forecast(table(tmp_path, column(["3"] * ROWS)), features="M")
    assert any("channel 'b' is 3 on all training rows" in warning for warning in found.warnings)
    assert bool((found.values[:, 1] == 0).all())
    assert bool(found.values.isfinite().all())


@odd_case
def test_irregular_sampling_is_said(tmp_path: Path) -> None:
    found = forecast(table(tmp_path, times=time(ROWS - 1, "2021-01-01 00:00:00")))
    assert any(
        "1 of 99 steps of time are not the usual 3600 seconds" in warning for warning in found.warnings
    )


@pytest.mark.parametrize("zone", ["+02:00", "+0200", "+02", " +02"])
@odd_case
def test_zones_are_taken_to_utc(tmp_path: Path, zone: str) -> None:
    """An hour from 23:30+02:00 to 22:30Z: the hours are those of UTC, however they are written."""
    mixed = [
        text + "Z" if row % 2 else (START + timedelta(hours=row + 2)).isoformat(" ") + zone
        for row, text in enumerate(TIMES)
    ]
    found, plain = (forecast(table(tmp_path, times=times)) for times in (mixed, TIMES))
    assert found.digest() == plain.digest()
    assert found.warnings == ()


@odd_case
def test_scales_are_those_of_training_rows(tmp_path: Path) -> None:
    """Whatever the test rows are, the training rows stay what they were."""
    plain = forecast(table(tmp_path))
    wild = [line if row < 60 else [line[0], f"{1000 + row}"] for row, line in enumerate(VALUES)]
    changed = forecast(table(tmp_path, wild))
    end = plain.split.train_end
    assert torch.equal(plain.values[:end], changed.values[:end])
    assert not torch.equal(plain.values[end:], changed.values[end:])


@pytest.mark.parametrize("ends", [(0, 1, 2), (5, 4, 6), (3, 3, 4), (1.5, 2, 3), (-1, 2, 3)], ids=str)
@refused_case
def test_parts_out_of_order(ends: Any, refuses: Any) -> None:
    with refuses("split", f"train_end={ends[0]}", "must be"):
        ForecastSplit(*ends)


@pytest.mark.parametrize("shares", [(0.6, 0.5), (0.0, 0.2), (float("nan"), 0.2), (-0.1, 0.2)], ids=str)
@refused_case
def test_shares(shares: tuple[float, float], refuses: Any) -> None:
    with refuses("train, val", f"{shares[0]} and", "sum below 1", ConfigError):
        ForecastSplit.by_shares(100, *shares)


# Series with classes

X = numpy_generator(0, "series").normal(size=(12, 20, 2)).cumsum(1)
Y = np.array(["a", "b"] * 6)


def at(value: float) -> NDArray[np.float64]:
    copy = X.copy()
    copy[2, 3, 1] = value
    return copy


def gone(series: int) -> NDArray[np.float64]:
    copy = X.copy()
    copy[series] = np.nan
    return copy


def collection(folder: Path, **changes: Any) -> ClassificationDataset:
    arrays: dict[str, Any] = {"x_train": X, "y_train": Y, "x_test": X[:4], "y_test": Y[:4], **changes}
    path = folder / "walks.npz"
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    found = load_dataset(str(path))
    assert isinstance(found, ClassificationDataset)
    return found


SMALL = X * np.array([1.0, 1e-30])
FILES: list[tuple[str, dict[str, Any], str, str, str]] = [
    ("infinite", {"x_train": at(np.inf)}, "x_train", "inf in series 2, step 3, channel 1", "replace them"),
    ("huge", {"x_train": at(1e300)}, "x_train", r"1e\+300 in series 2, step 3, channel 1", "power of ten"),
    ("tiny", {"x_train": X * 1e-300}, "x_train", "channel 0 differ by", "power of ten"),
    ("infinite-in-test", {"x_test": at(np.inf)[:4]}, "x_test", "inf in series 2", "replace them"),
    (
        "out-of-proportion",
        {"x_train": SMALL, "x_test": X[:4] * 1e30},
        "x_test",
        "deviations from",
        "correct the value",
    ),
    ("no-value", {"x_train": gone(4)}, "x_train", "series 4", "leave them out"),
    ("all-constant", {"x_train": np.ones_like(X)}, "x_train", "constant", "how the file was made"),
    ("one-channel-flat", {"x_train": X[:, :, 0]}, "x_train", r"\(12, 20\)", "x\\[..., None\\]"),
    (
        "transposed",
        {"x_train": X.transpose(0, 2, 1), "x_test": X[:4].transpose(0, 2, 1)},
        "x_train",
        "2, 20",
        "transpose",
    ),
    ("zero-channels", {"x_train": X[..., :0], "x_test": X[:4, :, :0]}, "x_train", "20, 0", "give one series"),
    ("no-series", {"x_train": X[:0], "y_train": Y[:0]}, "x_train", r"\(0, 20, 2\)", "give one series"),
    (
        "one-step",
        {"x_train": X[:, :1], "x_test": X[:4, :1]},
        "x_train",
        "series 0: 1, 2 at least",
        "leave them out",
    ),
    ("one-sample", {"x_train": X[:1], "y_train": Y[:1]}, "y_train", "'a'", "add series of other classes"),
    ("unequal-parts", {"x_test": X[:4, :10]}, "x_test", r"\(4, 10, 2\)", "pad shorter series by NaN"),
    ("text", {"x_train": X.astype(str)}, "x_train", "<U", "convert them"),
    ("complex", {"x_train": X + 1j}, "x_train", "complex128", "convert them"),
    ("left-out", {"x_train": None}, "lacks x_train", "y_train, x_test", "it has"),
    ("one-class", {"y_train": np.full(12, "a"), "y_test": np.full(4, "a")}, "y_train", "'a'", "other"),
    ("class-of-test-only", {"y_test": np.array(list("abcz"))}, "y_test", "'c', 'z'", "training classes are"),
    ("labels-missing", {"y_train": Y[:5]}, "y_train", r"\(5,\)", "one a series"),
    (
        "fractional",
        {"y_train": np.arange(12) / 2, "y_test": np.arange(4) / 2},
        "y_train",
        "float64",
        "whole numbers",
    ),
    ("empty-label", {"y_train": np.where(np.arange(12) == 3, "", Y)}, "y_train", "''", "give it a class"),
    (
        "white-space",
        {"y_train": np.where(np.arange(12) == 2, "a ", Y)},
        "y_train",
        "'a' and 'a '",
        "strip them",
    ),
]


@pytest.mark.parametrize(
    ("changes", "field", "value", "fix"), [pytest.param(*case[1:], id=case[0]) for case in FILES]
)
@refused_case
def test_series_with_classes(
    changes: dict[str, Any], field: str, value: str, fix: str, refuses: Any, tmp_path: Path
) -> None:
    with refuses(f"walks.npz.*{field}", value, fix):
        collection(tmp_path, **changes)


@odd_case
def test_missing_values_are_allowed_and_a_constant_channel_is_said(tmp_path: Path) -> None:
    flat = X.copy()
    flat[:, :, 1] = 7
    flat[0, 3, 0] = np.nan
    found = collection(tmp_path, x_train=flat)
    assert found.warnings == ("x_train: channel 1 is constant or empty: it is only shifted to 0, not scaled",)
    assert int(found.x_train.isnan().sum()) == 1
    assert bool((found.x_train[..., 1] == 0).all())


# The estimator


def tiny(**more: Any) -> AutoTCLEncoder:
    sizes = {"encoder__dim": 4, "encoder__hidden": 4, "encoder__depth": 2}
    return AutoTCLEncoder(**{"epochs": 1, "device": "cpu", **sizes, **more})


GIVEN: list[tuple[str, Any, str, str]] = [
    ("infinite", at(np.inf), "inf in series 2", "replace them"),
    ("huge", at(1e300), r"1e\+300 in series 2", "power of ten"),
    ("tiny", X * 1e-300, "channel 0 differ by", "power of ten"),
    ("no-value", gone(4), "series 4", "leave them out"),
    ("constant", np.ones_like(X), "constant", "look at how"),
    ("transposed", X.transpose(0, 2, 1), r"\(12, 2, 20\)", "transpose it"),
    ("flat", X[0, :, 0], r"\(20,\)", "give one series"),
    ("four-axes", X[None], r"\(1, 12, 20, 2\)", "give one series"),
    ("zero-channels", X[..., :0], r"\(12, 20, 0\)", "one channel at least"),
    ("no-series", X[:0], r"\(0, 20, 2\)", "give one series"),
    ("no-steps", X[:, :0], r"\(12, 0, 2\)", "two steps"),
    ("one-step", X[:, :1], "series 0: 1", "leave them out"),
    ("text", [["low", "high"]], "'low'", "numbers .* expected"),
    ("nothing", None, r"\(\)", "give one series"),
    ("widths", [X[0], X[1, :, :1]], "same F", "every series needs shape"),
    ("empty-list", [], "expected", "every series needs shape"),
    ("empty-series", [X[0], X[1, :0]], "series 1", "leave them out"),
    ("short-series", [X[0], X[1, :1]], "series 1: 1", "leave them out"),
    ("complex", X + 1j, "complex128", "real numbers"),
    ("complex-tensor", torch.from_numpy(X) + 1j, "complex128", "real numbers"),
    ("dates", np.full((3, 5), np.datetime64("2020-01-01")), "datetime64", "real numbers"),
]


@pytest.mark.parametrize(("given", "value", "fix"), [pytest.param(*case[1:], id=case[0]) for case in GIVEN])
@refused_case
def test_series_given_to_fit(given: Any, value: str, fix: str, refuses: Any) -> None:
    encoder = tiny()
    with refuses("^X: ", value, fix):
        encoder.fit(given)
    assert encoder.fit_result_ is None


@pytest.fixture(scope="module")
def fitted() -> AutoTCLEncoder:
    return tiny().fit(X)


@pytest.mark.parametrize(
    ("given", "value", "fix"),
    [
        pytest.param(X[..., :1], r"\(12, 20, 1\)", "2 channels expected", id="width"),
        pytest.param(X * 1e300, "in series 0, step 0", "power of ten", id="huge"),
        pytest.param(at(np.inf), "inf in series 2", "replace them", id="infinite"),
        pytest.param(gone(4), "series 4", "leave them out", id="no-value"),
        pytest.param(X[:0], r"\(0, 20, 2\)", "give one series", id="no-series"),
    ],
)
@refused_case
def test_series_given_to_transform(
    given: Any, value: str, fix: str, refuses: Any, fitted: AutoTCLEncoder
) -> None:
    with refuses("^X: ", value, fix):
        fitted.transform(given)


@odd_case
def test_one_series_unequal_lengths_and_gaps_are_allowed() -> None:
    gaps = X.copy()
    gaps[0, 4:9] = np.nan
    for given in (X[:1], [X[0], X[1, :9]], gaps):
        assert np.isfinite(tiny().fit_transform(given)).all()


# Probes, rows of anybody's, commands

Z, CLASSES = numpy_generator(0, "z").normal(size=(12, 3)), np.arange(12) % 2
PROBES: list[tuple[str, tuple[Any, Any, Any], str, str, str]] = [
    ("nan", (np.where(np.eye(12, 3) > 0, np.nan, Z), CLASSES, Z), "z_train", "row 0", "without a value"),
    ("huge", (Z * 1e300, CLASSES, Z), "z_train", r"e\+\d+ in row 0", "power of ten"),
    ("one-class", (Z, CLASSES * 0, Z), "y_train", "class 0", "two classes"),
    ("labels-missing", (Z, CLASSES[:3], Z), "y_train", r"\(3,\)", "one for each"),
    ("text", (Z, np.array(["a", "b"])[CLASSES], Z), "y_train", "'a'", "numpy.unique"),
    ("fractional", (Z, CLASSES + 0.5, Z), "y_train", "0.5", "numpy.unique"),
    ("nan-class", (Z, np.where(CLASSES == 0, np.nan, 1.0), Z), "y_train", "nan", "numpy.unique"),
    ("widths", (Z, CLASSES, Z[:, :2]), "z_train, z_test", r"\(12, 2\)", "pool series first"),
    ("no-features", (Z[:, :0], CLASSES, Z[:, :0]), "z_train", r"\(12, 0\)", "pool series first"),
]


@pytest.mark.skipif(not installed("sklearn"), reason="scikit-learn is not installed")
@pytest.mark.parametrize("probe", ["svm", "knn", "logistic"])
@pytest.mark.parametrize(
    ("given", "field", "value", "fix"), [pytest.param(*case[1:], id=case[0]) for case in PROBES]
)
@refused_case
def test_probes(probe: Any, given: Any, field: str, value: str, fix: str, refuses: Any) -> None:
    with refuses(field, value, fix):
        classify(probe, *given)


@pytest.mark.parametrize(
    ("given", "value", "fix"),
    [
        pytest.param(at(np.inf), "series 2 holds an infinite value", "leave it out", id="infinite"),
        pytest.param(at(1e30), r"series 2 holds a value beyond 1e\+18", "leave it out", id="huge"),
        pytest.param(gone(4), "series 4 has no value", "leave it out", id="no-value"),
        pytest.param(X[None], r"\(1, 12, 20, 2\)", "reshape it", id="axes"),
        pytest.param(X[:0], r"\(0, 20, 2\)", "at least one series", id="none"),
        pytest.param(X.astype(str), "str", "convert columns of text", id="text"),
        pytest.param(X + 1j, "complex128", "convert them", id="complex"),
        pytest.param([[1.0, 2.0], [3.0]], "inhomogeneous", "pad", id="ragged"),
    ],
)
@refused_case
def test_series_as_rows(given: Any, value: str, fix: str, refuses: Any) -> None:
    with refuses("^x: ", value, fix):
        SeriesInputs(given)


@pytest.mark.parametrize(
    ("changes", "words", "code", "told"),
    [
        pytest.param({"values": cell(7, 1, "nan")}, [], 3, "line 9, column 'b': 'nan'", id="nan"),
        pytest.param({"times": time(5, TIMES[4])}, [], 3, "of row 5 is there twice", id="time-twice"),
        pytest.param({}, ["window=5000"], 3, "too short for a window of 5000", id="too-short"),
        pytest.param({}, ["horizons=[0]"], 2, "horizons", id="horizon"),
    ],
)
@refused_case
def test_a_command(
    changes: dict[str, Any], words: list[str], code: int, told: str, command: Any, tmp_path: Path
) -> None:
    path = table(tmp_path, **changes)
    asked = ["horizons=[3]", "window=10", *words]
    assert told in command(["train", "timeseries.autotcl", f"data={path}", "device=cpu", *asked], code)
