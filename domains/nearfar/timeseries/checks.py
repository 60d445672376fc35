"""What series must be before anything is learnt from them; every message says where, what, and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from nearfar.errors import ConfigError, DataError
from nearfar.scalars import is_whole
from nearfar.timeseries.forecasting.split import ForecastSplit, anchor_rows

# Values that end where a forecast starts: what an encoder sees, and lags.
WINDOW = 201
# What float32 holds, in which encoders compute. Squares of larger numbers overflow float64 as well, and channels of
# them would be scaled to zeros.
LARGEST, SMALLEST = float(np.finfo(np.float32).max), float(np.finfo(np.float32).tiny)
# An array is suspected of the wrong layout only if its last axis is longer by this factor.
MUCH_LONGER = 4


def check_times(timestamps: NDArray[np.datetime64]) -> tuple[str, ...]:
    """Refuse times that do not grow; say where a step is another than most.

    Args:
        timestamps: Shape ``(N,)``.

    Returns:
        What is worth saying.

    Raises:
        DataError: If a time is missing, there twice, or before the one in front of it.

    Example:
        >>> check_times(np.array(["2020-01-01", "2020-01-02", "2020-01-02"], dtype="datetime64[s]"))
        Traceback (most recent call last):
        nearfar.errors.DataError: timestamps: 2020-01-02T00:00:00 of row 2 is there twice; keep one row of each time
    """
    missing = np.flatnonzero(np.isnat(timestamps))
    if len(missing):
        raise DataError(f"timestamps: that of row {missing[0]} is missing; fill it in or leave the row out")
    steps = np.diff(timestamps).astype(np.int64)
    wrong = np.flatnonzero(steps <= 0)
    if len(wrong):
        row = int(wrong[0]) + 1
        if steps[wrong[0]] == 0:
            raise DataError(
                f"timestamps: {timestamps[row]} of row {row} is there twice; keep one row of each time"
            )
        raise DataError(
            f"timestamps: {timestamps[row]} of row {row} is before {timestamps[row - 1]} of the row in front of it; "
            "sort the rows by time"
        )
    if not len(steps):
        return ()
    usual = int(np.median(steps))
    uneven = np.flatnonzero(steps != usual)
    if not len(uneven):
        return ()
    return (
        f"{len(uneven):,} of {len(steps):,} steps of time are not the usual {usual} seconds, the first is after row "
        f"{uneven[0]}: rows are taken as equally spaced",
    )


def check_channels(values: NDArray[np.float64], channels: Sequence[str], train_end: int) -> tuple[str, ...]:
    """Refuse a series without anything to forecast.

    Args:
        values: Shape ``(N, C)``.
        channels: Their names.
        train_end: Rows before it are trained on.

    Returns:
        What is worth saying: channels that are constant on the training rows.

    Raises:
        DataError: If the only channel is constant there, or all are, or numbers are beyond the range of float32.

    Example:
        >>> check_channels(np.array([[1.0, 2.0], [1.0, 3.0]]), ("a", "b"), train_end=2)
        ("channel 'a' is 1 on all training rows: it is only shifted to 0, not scaled",)
    """
    check_magnitude("values", values[:, None], channels)
    seen = values[:train_end]
    constant = np.flatnonzero(seen.max(0) == seen.min(0))
    if len(constant) == values.shape[1]:
        names = ", ".join(f"'{name}'" for name in channels[:5])
        raise DataError(
            f"{names}: {seen[0, 0]:g} on all {train_end} training rows, there is nothing to forecast; "
            "choose another target or more rows"
        )
    return tuple(
        f"channel '{channels[place]}' is {seen[0, place]:g} on all training rows: it is only shifted to 0, not scaled"
        for place in constant.tolist()
    )


def fitting_horizons(
    split: ForecastSplit, horizons: Sequence[int], first: int = WINDOW - 1
) -> tuple[int, ...]:
    """Those of which every part has a forecast.

    Args:
        split: The parts.
        horizons: Rows to forecast.
        first: No forecast starts before this row.

    Example:
        >>> fitting_horizons(ForecastSplit(300, 400, 500), (24, 100, 168))
        (24,)
    """
    return tuple(
        horizon
        for horizon in horizons
        if all(anchor_rows(split, part, horizon, first) for part in ("train", "val", "test"))
    )


def check_horizons(split: ForecastSplit, horizons: Sequence[int], window: int = WINDOW) -> None:
    """Refuse horizons that are too long for a part of the series.

    Args:
        split: The parts.
        horizons: Rows to forecast.
        window: Rows that end where a forecast starts.

    Raises:
        ConfigError: If there are none, or one is not positive.
        DataError: If one is too long.

    Example:
        >>> check_horizons(ForecastSplit(300, 400, 500), (99,))
        >>> check_horizons(ForecastSplit(150, 200, 250), (24,))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        nearfar.errors.DataError: series of 250 rows: the parts of 150, 50 and 50 rows are too short for ...
    """
    check_window(window)
    if not horizons or not all(is_whole(rows) and rows >= 1 for rows in horizons):
        raise ConfigError(f"horizons: positive numbers of rows expected, got {tuple(horizons)}")
    fitting = fitting_horizons(split, horizons, window - 1)
    for horizon in horizons:
        if horizon not in fitting:
            parts = split.train_end, split.val_end - split.train_end, split.test_end - split.val_end
            raise DataError(
                f"series of {split.test_end} rows: the parts of {parts[0]}, {parts[1]} and {parts[2]} rows are too "
                f"short for a window of {window} rows and a forecast of {horizon}; the first needs "
                f"{window + horizon} rows, the others {horizon + 1}; use a longer series or shorter horizons"
            )


def check_window(window: int) -> None:
    """Refuse windows of no rows.

    Args:
        window: Rows that end where a forecast starts.

    Raises:
        ConfigError: If it is no whole number from 1.

    Example:
        >>> check_window(0)
        Traceback (most recent call last):
        nearfar.errors.ConfigError: window: a whole number of rows from 1 expected, got 0
    """
    if not is_whole(window) or window < 1:
        raise ConfigError(f"window: a whole number of rows from 1 expected, got {window!r}")


def check_magnitude(name: str, x: NDArray[np.float64], channels: Sequence[str] | None = None) -> None:
    """Refuse numbers that are lost on the way to an encoder: too large for float32, or differing by too little.

    Args:
        name: Of the array, for messages.
        x: Finite or NaN, shape ``(N, T, C)``.
        channels: Names of the channels; numbers by default.

    Raises:
        DataError: If there are such numbers.

    Example:
        >>> check_magnitude("x", np.array([[[1.0], [1e300]]]))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        nearfar.errors.DataError: x: 1e+300 in series 0, step 1, channel 0 is beyond float32 (1 such value); divide ...
    """
    if x.size == 0:
        return
    large = np.abs(x) > LARGEST
    if large.any():
        series, step, channel = np.argwhere(large)[0]
        count = int(large.sum())
        where = channel if channels is None else f"'{channels[channel]}'"
        place = f"series {series}, step {step}" if channels is None else f"row {series}"
        raise DataError(
            f"{name}: {x[series, step, channel]:g} in {place}, channel {where} is beyond float32 ({count:,} such value"
            f"{'' if count == 1 else 's'}); divide the channel by a power of ten, or correct the value"
        )
    low = np.min(np.where(np.isnan(x), np.inf, x), axis=(0, 1))
    high = np.max(np.where(np.isnan(x), -np.inf, x), axis=(0, 1))
    small = np.flatnonzero((low < high) & (high - low < SMALLEST))
    if len(small):
        where = small[0] if channels is None else f"'{channels[small[0]]}'"
        raise DataError(
            f"{name}: values of channel {where} differ by {high[small[0]] - low[small[0]]:g}, less than float32 tells "
            "apart; multiply the channel by a power of ten"
        )


def as_float32(name: str, scaled: NDArray[np.float64]) -> NDArray[np.float32]:
    """Scaled values as encoders take them.

    Args:
        name: Of the array, for messages.
        scaled: NaN where a value is missing, shape ``(..., C)``.

    Raises:
        DataError: If a value became infinite: it is out of all proportion to those it was scaled by.

    Example:
        >>> as_float32("x_test", np.array([[0.5, 1e39]]))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        nearfar.errors.DataError: x_test: 1e+39 deviations from the mean at (0, 1); correct the value, or look for a ...
    """
    if scaled.size and not np.nanmax(np.abs(scaled), initial=0.0) <= LARGEST:
        place = tuple(np.argwhere(~(np.abs(scaled) <= LARGEST) & ~np.isnan(scaled))[0].tolist())
        raise DataError(
            f"{name}: {scaled[place]:g} deviations from the mean at {place}; correct the value, or look for a "
            "channel that hardly changes in training"
        )
    return scaled.astype(np.float32)


def check_collection(
    name: str, x: NDArray[np.float64], *, window: int = 2, layout_is_certain: bool = False
) -> None:
    """Refuse series that nothing can be learnt from; NaN is a missing value.

    Args:
        name: Of the array, for messages.
        x: Series, shape ``(N, T, C)``.
        window: Steps a series must have.
        layout_is_certain: Whether somebody said that the second axis is time.

    Raises:
        DataError: If the array is empty or of another layout, a value is infinite or lost in float32, or a series is
            empty or too short.

    Example:
        >>> check_collection("x_train", np.full((3, 5, 1), np.nan))
        Traceback (most recent call last):
        nearfar.errors.DataError: x_train: all values of series 0 are missing (3 such series); leave them out
    """
    if x.ndim != 3 or 0 in x.shape:
        raise DataError(
            f"{name}: shape (N, T, C) expected, series by steps by channels, got {x.shape}; "
            + (
                "add the axis: x[..., None]"
                if x.ndim == 2
                else "give one series, two steps and one channel at least"
            )
        )
    if not layout_is_certain and looks_transposed(x):
        raise DataError(
            f"{name}: shape (N, T, C) expected, got {x.shape}, which looks like (N, C, T) by its lengths and by how "
            "values change along the axes; transpose it: x.transpose(0, 2, 1). If the second axis is time, "
            "say so: layout='NTC' in the file"
        )
    infinite = np.argwhere(np.isinf(x))
    if len(infinite):
        series, step, channel = infinite[0]
        raise DataError(
            f"{name}: {x[series, step, channel]} in series {series}, step {step}, channel {channel} "
            f"({len(infinite):,} infinite values); replace them, NaN stands for a missing value"
        )
    check_magnitude(name, x)
    steps = (~np.isnan(x).all(2)).sum(1)
    empty = np.flatnonzero(steps == 0)
    if len(empty):
        raise DataError(
            f"{name}: all values of series {empty[0]} are missing ({len(empty)} such series); leave them out"
        )
    short = np.flatnonzero(steps < window)
    if len(short):
        raise DataError(
            f"{name}: steps with a value of series {short[0]}: {steps[short[0]]}, {window} at least are needed "
            f"({len(short)} such series); leave them out"
        )


def looks_transposed(x: NDArray[np.float64]) -> bool:
    """Whether series look like channels by steps: the last axis much the longer one, and the smoother one.

    Length alone would be wrong for sets with more channels than steps, such as PEMS-SF.

    Args:
        x: Shape ``(N, T, C)`` or, by mistake, ``(N, C, T)``.

    Example:
        >>> waves = np.sin(np.linspace(0, 6, 50)) * np.ones((1, 4, 1)) + np.arange(4.0)[:, None]
        >>> looks_transposed(waves), looks_transposed(waves.transpose(0, 2, 1))
        (True, False)
    """
    if x.shape[2] < MUCH_LONGER * x.shape[1]:
        return False
    if x.shape[1] == 1:
        return True
    along_last, along_second = (np.abs(np.diff(x, axis=axis)) for axis in (2, 1))
    counts = [np.isfinite(steps).sum() for steps in (along_last, along_second)]
    if 0 in counts:
        return False
    return bool(np.nansum(along_last) / counts[0] < np.nansum(along_second) / counts[1])


def constant_channels(name: str, x: NDArray[np.float64]) -> tuple[str, ...]:
    """Say which channels tell no two values apart; refuse series of nothing else.

    Args:
        name: Of the array, for messages.
        x: Series, NaN where a value is missing, shape ``(N, T, C)``.

    Raises:
        DataError: If every channel is constant.

    Example:
        >>> constant_channels("x_train", np.array([[[1.0, 2.0], [1.0, 3.0]]]))
        ('x_train: channel 0 is constant or empty: it is only shifted to 0, not scaled',)
    """
    low = np.min(np.where(np.isnan(x), np.inf, x), axis=(0, 1))
    high = np.max(np.where(np.isnan(x), -np.inf, x), axis=(0, 1))
    constant = np.flatnonzero(low >= high)
    if len(constant) == x.shape[2]:
        raise DataError(
            f"{name}: {'the only channel is' if len(constant) == 1 else 'all channels are'} constant "
            f"({low[0]:g}), there is nothing to learn; look at how the file was made"
        )
    return tuple(
        f"{name}: channel {place} is constant or empty: it is only shifted to 0, not scaled"
        for place in constant
    )


def check_labels(
    y_train: Iterable[str], y_test: Iterable[str], declared: Iterable[str] = ()
) -> tuple[str, ...]:
    """Refuse labels that no classifier can be trained for.

    Args:
        y_train: Labels of the training series.
        y_test: Labels of the test series.
        declared: Classes that the file says there are; with them, no other label may occur.

    Returns:
        The classes, sorted: as numbers if all are numbers, else as text.

    Raises:
        DataError: If training series are of fewer than two classes, a declared or tested class has no training
            series, a label is none of the declared ones, or empty, or two differ by white space alone.

    Example:
        >>> check_labels(["10", "9", "9"], ["9"])
        ('9', '10')
    """
    trained, tested, told = set(y_train), set(y_test), set(declared)
    for name, labels in (("y_train", trained), ("y_test", tested)):
        if not all(label.strip() for label in labels):
            raise DataError(f"{name}: '' is the label of a series; give it a class or leave it out")
    bare: dict[str, str] = {}
    for label in _ordered(trained | tested):
        other = bare.setdefault(label.strip(), label)
        if other != label:
            raise DataError(
                f"y_train, y_test: labels {other!r} and {label!r} differ by white space alone; strip them"
            )
    if len(trained) < 2:
        raise DataError(
            f"y_train: two classes at least expected, all labels are {_some(trained)}; add series of other classes"
        )
    if told:
        for name, labels in (("y_train", trained), ("y_test", tested)):
            if labels - told:
                raise DataError(
                    f"{name}: {_some(labels - told)} is none of the declared classes {_some(told)}; correct the label "
                    "or the declaration"
                )
    if tested - trained:
        raise DataError(
            f"y_test: no training series is of class {_some(tested - trained)}, none can be predicted; the training "
            f"classes are {_some(trained)}"
        )
    if told - trained:
        raise DataError(
            f"y_train: no series is of class {_some(told - trained)}, which the file declares; add some or remove the "
            "class from the declaration"
        )
    return tuple(_ordered(trained))


def _some(labels: Iterable[str]) -> str:
    ordered = _ordered(labels)
    return ", ".join(f"'{label}'" for label in ordered[:5]) + (", ..." if len(ordered) > 5 else "")


def _ordered(labels: Iterable[str]) -> list[str]:
    labels = list(labels)
    try:
        return sorted(labels, key=lambda label: (float(label), label))
    except ValueError:
        return sorted(labels)
