"""Errors of forecasts on the standardised scale, for every horizon: representations, and what they must beat.

The protocol is that of TS2Vec (Yue et al., AAAI 2022) and CoST (Woo et al., ICLR 2022): errors are means over all
starts, rows and channels; what has to be chosen is chosen by RMSE + MAE on validation rows, and nothing is fitted on
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from torch import Tensor

from nearfar.errors import ConfigError, DataError
from nearfar.timeseries.forecasting.choice import (
    CANDIDATES,
    Candidate,
    Choice,
    Errors,
    choice_errors,
    fit_errors,
    select_penalty,
)
from nearfar.timeseries.forecasting.moments import nested_moments
from nearfar.timeseries.forecasting.residual_probe import ResidualProbe, rows_by_horizon
from nearfar.timeseries.forecasting.ridge import ALPHAS, ridge_path
from nearfar.timeseries.forecasting.samples import LAGS, JointSamples, check_representations

if TYPE_CHECKING:
    from nearfar.timeseries.datasets import ForecastDataset

Probe = Literal["residual", "ts2vec", "anchored", "raw", "last-ridge", "last", "seasonal"]
EvaluatedPart = Literal["val", "test"]


@dataclass(frozen=True)
class HorizonScore:
    """Errors of one horizon.

    Attributes:
        horizon: Rows forecast.
        mse: Mean squared error.
        mae: Mean absolute error.
        chosen: Model and penalties of every channel; one for all channels with ``ts2vec``.
    """

    horizon: int
    mse: float
    mae: float
    chosen: tuple[str, ...]


def forecast_scores(
    dataset: ForecastDataset,
    phi: Tensor | None = None,
    *,
    probe: Probe = "residual",
    first: int = LAGS - 1,
    alphas: tuple[float, ...] = ALPHAS,
    parts: Sequence[EvaluatedPart] = ("val", "test"),
) -> dict[EvaluatedPart, list[HorizonScore]]:
    """Fit on training rows, choose by validation rows, and measure errors.

    ``residual`` is :class:`ResidualProbe`. ``ts2vec`` is the published protocol: one ridge regression from
    representations to all channels. The others take no representations: ``anchored`` (lags and targets less the last
    value), ``raw`` (lags), ``last-ridge`` (the last value alone), each a ridge regression a channel, and ``last`` and
    ``seasonal``, which learn nothing.

    Args:
        dataset: Series with its split.
        phi: Representations at every row, shared by the channels, shape ``(N, D)``, or one a channel, shape
            ``(N, C, D)``. Rows before ``first`` are not looked at.
        probe: What forecasts.
        first: No forecast starts before this row. There are ``first + 1`` lags.
        alphas: Penalties; those of representations in ``residual`` are its own.
        parts: Where errors are measured. Without ``test`` its rows are not looked at.

    Returns:
        By part, a score a horizon, in the order of the data set's horizons.

    Raises:
        ConfigError: If the probe is unknown, or needs representations and has none.
        DataError: If a horizon does not fit, or representations are not those of the series.
    """
    if probe not in get_args(Probe):
        raise ConfigError(f"probe: one of {', '.join(get_args(Probe))} expected, got {probe!r}")
    if phi is not None and probe in ("residual", "ts2vec"):
        phi = phi.detach().cpu()
        stop = dataset.split.test_end if "test" in parts else dataset.split.val_end
        check_representations(phi, len(dataset.values), dataset.values.shape[1], first, stop=stop)
    if probe == "ts2vec":
        return _joint_scores(dataset, phi, first, alphas, parts)
    lags = 1 if probe == "last-ridge" else first + 1
    kinds: dict[Probe, tuple[Candidate, ...]] = {
        "residual": CANDIDATES,
        "last": ("last",),
        "seasonal": ("seasonal",),
    }
    settings = ResidualProbe(
        lags=lags,
        period=dataset.period,
        alphas=alphas,
        candidates=kinds.get(probe, ("lag",)),
        anchored=probe not in ("raw", "last-ridge"),
    )
    if probe != "residual":
        phi = None
    fitted = settings.fit(dataset.values, phi, dataset.split, dataset.horizons, first=first)
    scores: dict[EvaluatedPart, list[HorizonScore]] = {}
    for part in parts:
        scores[part] = []
        for horizon, rows in rows_by_horizon(dataset.split, part, dataset.horizons, first).items():
            errors = []
            for channel, choice in enumerate(fitted.choices[horizon]):
                own = None if phi is None else phi if phi.dim() == 2 else phi[:, channel]
                samples = settings.samples(dataset.values[:, channel], own)
                errors.append(choice_errors(choice, samples, rows, horizon, dataset.period))
            scores[part].append(_score(horizon, errors, fitted.choices[horizon]))
    return scores


def _score(horizon: int, errors: Sequence[Errors], choices: Sequence[Choice]) -> HorizonScore:
    mse, mae = (sum(getattr(error, name) for error in errors) / len(errors) for name in ("mse", "mae"))
    return HorizonScore(horizon, mse, mae, tuple(map(str, choices)))


def _joint_scores(
    dataset: ForecastDataset,
    phi: Tensor | None,
    first: int,
    alphas: tuple[float, ...],
    parts: Sequence[EvaluatedPart],
) -> dict[EvaluatedPart, list[HorizonScore]]:
    if phi is None:
        raise ConfigError("probe: 'ts2vec' needs representations, got none; pass phi or take another probe")
    if phi.dim() == 3:
        raise DataError(
            f"phi: shape (N, D) expected for 'ts2vec', got {tuple(phi.shape)}; flatten it: phi.flatten(1)"
        )
    samples = JointSamples(dataset.values.double(), phi)
    train, val = (rows_by_horizon(dataset.split, part, dataset.horizons, first) for part in ("train", "val"))
    learnt, held_out = nested_moments(samples, train), nested_moments(samples, val)
    scores: dict[EvaluatedPart, list[HorizonScore]] = {part: [] for part in parts}
    for horizon in dataset.horizons:
        path = ridge_path(learnt[horizon], alphas)
        penalty = select_penalty(path, samples, held_out[horizon], val[horizon], horizon)
        fit = path.fit(penalty.index)
        choice = Choice("phi", (penalty.alpha,), fit, penalty.errors)
        for part in parts:
            rows = rows_by_horizon(dataset.split, part, [horizon], first)[horizon]
            scores[part].append(_score(horizon, [fit_errors(fit, samples, rows, horizon)], [choice]))
    return scores
