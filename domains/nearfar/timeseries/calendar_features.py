"""What the calendar says of every row, known ahead: the seven features of TS2Vec (Yue et al., AAAI 2022)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CALENDAR = ("minute", "hour", "weekday", "day", "day of year", "month", "ISO week")


def calendar_features(timestamps: NDArray[np.datetime64]) -> NDArray[np.float64]:
    """Minute, hour, weekday from Monday as 0, day, day of the year, month and ISO week.

    Args:
        timestamps: Shape ``(N,)``.

    Returns:
        Shape ``(N, 7)``, as they are, not standardised.

    Example:
        >>> calendar_features(np.array(["2021-01-03T05:30"], dtype="datetime64[s]")).tolist()
        [[30.0, 5.0, 6.0, 3.0, 3.0, 1.0, 53.0]]
    """
    minutes = timestamps.astype("datetime64[m]").astype(np.int64)
    days = timestamps.astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    years = days.astype("datetime64[Y]")
    number = days.astype(np.int64)
    # Day 0 of the epoch was a Thursday. A week belongs to the year that its Thursday is in (ISO 8601).
    weekday = (number + 3) % 7
    thursday = (number - weekday + 3).astype("datetime64[D]")
    week = (thursday - thursday.astype("datetime64[Y]")).astype(np.int64) // 7 + 1
    return np.stack(
        [
            minutes % 60,
            minutes // 60 % 24,
            weekday,
            (days - months).astype(np.int64) + 1,
            (days - years).astype(np.int64) + 1,
            months.astype(np.int64) % 12 + 1,
            week,
        ],
        axis=1,
    ).astype(np.float64)
