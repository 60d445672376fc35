"""F03: series in .ts, .csv and .npz files."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("hypothesis")
from hypothesis import given
from hypothesis import strategies as st

from nearfar.timeseries.datasets import ClassificationDataset, ForecastDataset, load_dataset

pytestmark = pytest.mark.row("F03")
HEADER = (
    "@problemName Toy\n@timeStamps false\n@univariate false\n@dimensions 2\n@classLabel true a b\n@data\n"
)


def ts(count: int, length: int) -> bytes:
    """A file of series of two channels."""
    lines = []
    for number in range(count):
        channels = [
            ",".join(f"{(number + step + channel) % 5}.5" for step in range(length)) for channel in (0, 1)
        ]
        lines.append(":".join([*channels, "ab"[number % 2]]))
    return (HEADER + "\n".join(lines) + "\n").encode()


def check(found: ClassificationDataset | ForecastDataset | None) -> None:
    """What was read is whole."""
    if isinstance(found, ClassificationDataset):
        assert found.x_train.dim() == 3
        assert found.x_train.shape[1:] == found.x_test.shape[1:]
        assert not found.x_train.isinf().any()
        assert 0 <= found.y_train.min() <= found.y_train.max() < len(found.classes)
    elif found is not None:
        assert found.values.isfinite().all()
        assert found.covariates.isfinite().all()
        assert len(found.values) == found.split.test_end
    if found is not None:
        found.digest()


@given(data=st.data())
def test_ts(fuzz: Any, data: st.DataObject) -> None:
    """The training file or the test file."""
    files = {"Toy_TRAIN.ts": ts(8, 12), "Toy_TEST.ts": ts(4, 12)}
    name = data.draw(st.sampled_from(sorted(files)))
    files[name] = data.draw(fuzz.spoilt_bytes(files[name]))
    check(fuzz.read(files, lambda folder: load_dataset("Toy", folder), [*files, "fuzz"]))


def forecast(timed: bool) -> bytes:
    """A table of two channels."""
    days = np.datetime64("2020-01-01T00", "h") + np.arange(140)
    rows = [
        ",".join(
            [*([str(day).replace("T", " ") + ":00"] if timed else []), f"{place % 7}.25", str(place % 11)]
        )
        for place, day in enumerate(days)
    ]
    return "\n".join([("date," if timed else "") + "a,OT", *rows, ""]).encode()


@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("features", ["S", "M"])
@given(data=st.data())
def test_forecast_csv(fuzz: Any, timed: bool, features: Any, data: st.DataObject) -> None:
    """A table to forecast, with times and without."""
    content = data.draw(fuzz.spoilt_bytes(forecast(timed)))

    def read(folder: Any) -> Any:
        return load_dataset(str(folder / "toy.csv"), features=features, horizons=(2,), window=8)

    check(fuzz.read({"toy.csv": content}, read))


@given(data=st.data())
def test_npz(fuzz: Any, data: st.DataObject) -> None:
    """Series and classes as arrays."""
    x = np.sin(np.arange(12 * 10 * 2)).reshape(12, 10, 2)
    arrays = {"x_train": x[:8], "y_train": np.arange(8) % 2, "x_test": x[8:], "y_test": np.arange(4) % 2}
    if data.draw(st.booleans()):
        arrays["layout"] = np.array("NTC")
    content = data.draw(fuzz.spoilt_npz(arrays))
    check(fuzz.read({"toy.npz": content}, lambda folder: load_dataset(str(folder / "toy.npz"))))
