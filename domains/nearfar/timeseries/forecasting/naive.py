"""Forecasts that learn nothing: the last value, and the value a season ago."""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.errors import ConfigError


def last_value(values: Tensor, rows: range, horizon: int) -> Tensor:
    """The value at the start, for every row to forecast.

    Args:
        values: Series, shape ``(N, ...)``.
        rows: Where forecasts start.
        horizon: Rows to forecast.

    Returns:
        Shape ``(n, H, ...)``.

    Example:
        >>> last_value(torch.arange(5.0), range(2, 4), horizon=3).tolist()
        [[2.0, 2.0, 2.0], [3.0, 3.0, 3.0]]
    """
    return values[rows.start : rows.stop].unsqueeze(1).expand(-1, horizon, *values.shape[1:])


def seasonal(values: Tensor, rows: range, horizon: int, period: int) -> Tensor:
    """The value a whole number of seasons before, the last one known.

    Args:
        values: Series, shape ``(N, ...)``.
        rows: Where forecasts start; ``period - 1`` rows before the first one are needed.
        horizon: Rows to forecast.
        period: Rows of a season.

    Returns:
        Shape ``(n, H, ...)``.

    Raises:
        ConfigError: If the first row has no whole season before it.

    Example:
        >>> seasonal(torch.tensor([5.0, 6.0, 7.0, 8.0]), range(3, 4), horizon=5, period=2).tolist()
        [[7.0, 8.0, 7.0, 8.0, 7.0]]
    """
    if not 1 <= period <= rows.start + 1:
        raise ConfigError(
            f"period: from 1 to {rows.start + 1} expected, the rows up to the first start, got {period}"
        )
    back = torch.arange(horizon) % period - (period - 1)
    starts = torch.arange(rows.start, rows.stop)
    return values[starts.unsqueeze(1) + back]
