"""What a probe chose for one horizon, and how wrong it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from nearfar.timeseries.forecasting.moments import Moments, Samples, blocks
from nearfar.timeseries.forecasting.naive import last_value, seasonal
from nearfar.timeseries.forecasting.ridge import RidgeFit, RidgePath
from nearfar.timeseries.forecasting.samples import ChannelSamples

Candidate = Literal["last", "seasonal", "lag", "phi", "lag+phi"]
CANDIDATES: tuple[Candidate, ...] = ("last", "seasonal", "lag", "phi", "lag+phi")


@dataclass(frozen=True)
class Errors:
    """Mean squared and mean absolute error."""

    mse: float
    mae: float

    @property
    def selection(self) -> float:
        """What the smallest is chosen by: the root of the one plus the other (TS2Vec, Yue et al., AAAI 2022).

        Example:
            >>> Errors(mse=4.0, mae=1.0).selection
            3.0
        """
        return float(self.mse**0.5) + self.mae


@dataclass(frozen=True, eq=False)
class Choice:
    """How one horizon is forecast.

    Attributes:
        candidate: Kind of the model.
        alphas: Penalties of its groups of features, lags before representations.
        fit: The linear map from features; ``None`` for forecasts that learn nothing.
        val: Errors on the rows that selected it.
    """

    candidate: Candidate
    alphas: tuple[float, ...]
    fit: RidgeFit | None
    val: Errors

    def __str__(self) -> str:
        """Kind and penalties, ``lag+phi(5, 1000)``."""
        if not self.alphas:
            return self.candidate
        # Three digits, without an exponent below a million.
        return f"{self.candidate}({', '.join(format(float(f'{alpha:.3g}'), 'g') for alpha in self.alphas)})"


def fit_errors(fit: RidgeFit, samples: Samples, rows: range, horizon: int) -> Errors:
    """Errors of a linear map.

    Args:
        fit: The map.
        samples: Features and targets.
        rows: Where forecasts start.
        horizon: Rows to forecast.
    """
    squared, absolute = 0.0, 0.0
    for block in blocks(rows, samples.num_features + samples.num_targets(horizon)):
        error = samples.targets(block, horizon) - fit.predict(samples.features(block))
        squared += float(error.square().sum())
        absolute += float(error.abs().sum())
    count = len(rows) * samples.num_targets(horizon)
    return Errors(squared / count, absolute / count)


def naive_errors(
    candidate: Literal["last", "seasonal"], values: Tensor, rows: range, horizon: int, period: int
) -> Errors:
    """Errors of a forecast that learns nothing.

    Args:
        candidate: Which one.
        values: One channel, shape ``(N,)``.
        rows: Where forecasts start.
        horizon: Rows to forecast.
        period: Rows of a season.
    """
    plain = ChannelSamples(values, lags=0, anchored=False)
    squared, absolute = 0.0, 0.0
    for block in blocks(rows, 2 * horizon):
        forecast = (
            last_value(values, block, horizon)
            if candidate == "last"
            else seasonal(values, block, horizon, period)
        )
        error = plain.targets(block, horizon) - forecast
        squared += float(error.square().sum())
        absolute += float(error.abs().sum())
    count = len(rows) * horizon
    return Errors(squared / count, absolute / count)


def choice_errors(choice: Choice, samples: ChannelSamples, rows: range, horizon: int, period: int) -> Errors:
    """Errors of what was chosen for one channel.

    Args:
        choice: What was chosen.
        samples: Features and targets of the channel.
        rows: Where forecasts start.
        horizon: Rows to forecast.
        period: Rows of a season.
    """
    if choice.candidate == "last" or choice.candidate == "seasonal":
        return naive_errors(choice.candidate, samples.values, rows, horizon, period)
    assert choice.fit is not None
    return fit_errors(choice.fit, samples, rows, horizon)


@dataclass(frozen=True)
class Penalty:
    """A penalty of a path, with its errors.

    Attributes:
        index: Its place in the path.
        alpha: The penalty.
        errors: On the rows that selected it.
    """

    index: int
    alpha: float
    errors: Errors


def select_penalty(
    path: RidgePath, samples: Samples, held_out: Moments, rows: range, horizon: int
) -> Penalty:
    """The penalty of the smallest RMSE + MAE, the smallest one of equals.

    Args:
        path: Solutions.
        samples: Features and targets.
        held_out: Moments of the rows that select.
        rows: These rows.
        horizon: Rows to forecast.
    """
    squared = path.mean_squared(held_out).tolist()
    absolute = path.mean_absolute(samples, rows, horizon).tolist()
    found = [Errors(mse, mae) for mse, mae in zip(squared, absolute, strict=True)]
    index = min(range(len(found)), key=lambda place: (found[place].selection, path.alphas[place]))
    return Penalty(index, path.alphas[index], found[index])
