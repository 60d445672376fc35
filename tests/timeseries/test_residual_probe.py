"""What the forecasting probe chooses, what it must never do, and scores against scikit-learn on copied windows."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from nearfar.errors import ConfigError, DataError
from nearfar.timeseries.datasets import ForecastDataset
from nearfar.timeseries.forecasting.choice import CANDIDATES, choice_errors, naive_errors
from nearfar.timeseries.forecasting.evaluation import Probe, forecast_scores
from nearfar.timeseries.forecasting.naive import last_value, seasonal
from nearfar.timeseries.forecasting.residual_probe import ResidualProbe
from nearfar.timeseries.forecasting.ridge import ALPHAS
from nearfar.timeseries.forecasting.samples import Standardization, check_representations
from nearfar.timeseries.forecasting.split import ForecastSplit, Part, anchor_rows

N, FIRST, LAGS = 600, 20, 21
SPLIT = ForecastSplit(360, 480, 600)
HORIZONS = (4, 12)


def series(seed: int = 0, channels: int = 2) -> Tensor:
    """Waves of 24 rows on a slow drift, with noise; shape (N, C)."""
    rng = np.random.default_rng(seed)
    time = np.arange(N)[:, None]
    waves = np.sin(2 * np.pi * time / 24 + np.arange(channels))
    drift = np.cumsum(rng.normal(size=(N, channels)) * 0.05, 0)
    return torch.from_numpy(waves + drift + rng.normal(size=(N, channels)) * 0.2)


def dataset(values: Tensor, **changed: Any) -> ForecastDataset:
    made: dict[str, Any] = {
        "name": "toy",
        "source": "here",
        "values": values,
        "covariates": torch.zeros(len(values), 0),
        "channels": tuple(map(str, range(values.shape[1]))),
        "split": SPLIT,
        "horizons": HORIZONS,
        "period": 24,
    }
    return ForecastDataset(**{**made, **changed})


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_naive_forecasts_against_loops() -> None:
    values, rows, horizon, period = series(), range(30, 40), 7, 5
    last, season = last_value(values, rows, horizon), seasonal(values, rows, horizon, period)
    assert last.shape == season.shape == (10, 7, 2)
    for place, t in enumerate(rows):
        for step in range(1, horizon + 1):
            ago = period * math.ceil(step / period)
            assert torch.equal(last[place, step - 1], values[t])
            assert torch.equal(season[place, step - 1], values[t + step - ago])
    assert torch.equal(seasonal(values, rows, horizon, 1), last)
    with pytest.raises(ConfigError, match="period: from 1 to 31 expected, .* got 32"):
        seasonal(values, rows, horizon, 32)


def test_naive_errors_against_plain_ones() -> None:
    values, rows = series()[:, 0], range(30, 90)
    for candidate in ("last", "seasonal"):
        errors = naive_errors(candidate, values, rows, 6, 24)
        forecast = last_value(values, rows, 6) if candidate == "last" else seasonal(values, rows, 6, 24)
        error = torch.stack([values[t + 1 : t + 7] for t in rows]) - forecast
        assert errors.mse == pytest.approx(error.square().mean().item())
        assert errors.mae == pytest.approx(error.abs().mean().item())


def stacked(values: np.ndarray, part: Part, horizon: int, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The protocol as published: copies of the series, shifted."""
    rows = anchor_rows(SPLIT, part, horizon, FIRST)
    targets = np.stack([values[t + 1 : t + 1 + horizon].reshape(-1) for t in rows])
    return phi[list(rows)], targets


@pytest.mark.parametrize("probe", ["ts2vec", "raw", "anchored", "last-ridge"])
def test_scores_are_those_of_scikit_learn(probe: Probe) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    channels = 2 if probe == "ts2vec" else 1
    values = series(channels=channels)
    phi = noise(N, 10) + values[:, :1]
    found = forecast_scores(dataset(values), phi, probe=probe, first=FIRST)
    y = values.numpy()
    for place, horizon in enumerate(HORIZONS):
        level = np.zeros(N)
        if probe == "ts2vec":
            features = phi.numpy()
        elif probe == "last-ridge":
            features = y[:, :1]
        else:
            lags = [np.full(LAGS, np.nan)] * FIRST + [y[t - FIRST : t + 1, 0] for t in range(FIRST, N)]
            features = np.stack(lags)
            if probe == "anchored":
                level, features = y[:, 0], features - y
        parts = {}
        for part in ("train", "val", "test"):
            x, target = stacked(y, part, horizon, features)
            rows = list(anchor_rows(SPLIT, part, horizon, FIRST))
            parts[part] = x, target - level[rows, None]
        scores = []
        for alpha in ALPHAS:
            model = linear_model.Ridge(alpha=alpha).fit(*parts["train"])
            errors = {part: parts[part][1] - model.predict(parts[part][0]) for part in ("val", "test")}
            measured = {part: ((e**2).mean(), np.abs(e).mean()) for part, e in errors.items()}
            scores.append((np.sqrt(measured["val"][0]) + measured["val"][1], alpha, measured))
        _, alpha, measured = min(scores, key=lambda score: score[0])
        for part in ("val", "test"):
            score = cast(Any, found)[part][place]
            assert (score.mse, score.mae) == pytest.approx(measured[part], rel=1e-6)
            assert score.horizon == horizon
            assert score.chosen == (f"{'phi' if probe == 'ts2vec' else 'lag'}({alpha:g})",)


def test_a_shift_of_the_level_changes_nothing() -> None:
    values, phi = series(), noise(N, 5)
    for probe in ("residual", "anchored", "last", "seasonal"):
        plain = forecast_scores(dataset(values), phi, probe=probe, first=FIRST)
        shifted = forecast_scores(dataset(values + 100), phi, probe=probe, first=FIRST)
        for part in ("val", "test"):
            for one, other in zip(plain[part], shifted[part], strict=True):
                assert (one.mse, one.mae) == pytest.approx((other.mse, other.mae), rel=1e-6)
                assert one.chosen == other.chosen
    # Lags without an anchor notice a level that training rows do not have.
    drifted = values.clone()
    drifted[SPLIT.train_end :] += 5
    raw = forecast_scores(dataset(drifted), probe="raw", first=FIRST)["test"]
    anchored = forecast_scores(dataset(drifted), probe="anchored", first=FIRST)["test"]
    assert raw[1].mse > 2 * anchored[1].mse


def test_an_infinite_penalty_is_the_last_value_plus_the_mean_step() -> None:
    values = series(channels=1)
    # Training rows whose steps have no mean: the values forwards, then backwards.
    values[: SPLIT.train_end] = torch.cat([values[:180], values[:180].flip(0)])
    probe = ResidualProbe(lags=LAGS, alphas=(1e15,), candidates=("lag",))
    fitted = probe.fit(values, None, SPLIT, HORIZONS, first=FIRST)
    rows = anchor_rows(SPLIT, "train", 4, FIRST)
    steps = torch.stack([values[t + 1 : t + 5, 0] - values[t, 0] for t in rows]).mean(0)
    forecast = fitted.predict(values[None, -30:], 4)[0, :, 0]
    assert torch.allclose(forecast, values[-1, 0] + steps, atol=1e-9)
    scores = forecast_scores(dataset(values), probe="anchored", first=FIRST, alphas=(1e15,))["test"]
    last = forecast_scores(dataset(values), probe="last", first=FIRST)["test"]
    assert scores[0].mse == pytest.approx(last[0].mse, rel=0.05)


def test_without_representations_there_are_three_candidates() -> None:
    values = series()
    alone = forecast_scores(dataset(values), None, first=FIRST)
    kinds = {text.split("(")[0] for scores in alone.values() for score in scores for text in score.chosen}
    assert kinds <= {"last", "seasonal", "lag"}
    # Representations that say nothing at all change nothing.
    silent = forecast_scores(dataset(values), torch.ones(N, 3), first=FIRST)
    for one, other in zip(alone["test"], silent["test"], strict=True):
        assert one.mse == pytest.approx(other.mse, rel=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_never_worse_than_lags_where_it_is_selected(seed: int) -> None:
    values, phi = series(seed), noise(N, 8, seed=seed)
    phi[:, 0] += values[:, 0].roll(-3)
    full = ResidualProbe(lags=LAGS).fit(values, phi, SPLIT, HORIZONS, first=FIRST)
    lags = ResidualProbe(lags=LAGS, candidates=("lag",)).fit(values, None, SPLIT, HORIZONS, first=FIRST)
    for horizon in HORIZONS:
        for one, other in zip(full.choices[horizon], lags.choices[horizon], strict=True):
            assert one.val.selection <= other.val.selection + 1e-12


def test_what_is_chosen_where_it_is_known_what_is_best() -> None:
    time = torch.arange(N, dtype=torch.float64)
    rng = np.random.default_rng(0)
    walk = torch.from_numpy(np.cumsum(rng.normal(size=N)))
    phi = torch.zeros(N, 4, dtype=torch.float64)
    phi[:, 0] = walk.roll(-1) - walk  # knows the next step
    probe = ResidualProbe(lags=LAGS)

    def kind(values: Tensor, phi: Tensor | None, horizon: int = 4) -> str:
        fitted = probe.fit(values[:, None], phi, SPLIT, [horizon], first=FIRST)
        return fitted.choices[horizon][0].candidate

    assert kind(walk, None) in ("last", "lag")
    assert kind(walk, phi) in ("phi", "lag+phi")
    # A season of a shape that 21 lags of training rows know nothing of.
    season = torch.where(
        time < SPLIT.train_end - 24,
        walk - walk[SPLIT.train_end],
        torch.from_numpy(np.tile(rng.normal(size=24), 25)),
    )
    assert kind(season, None, 12) == "seasonal"
    assert kind(torch.sin(2 * torch.pi * time / 30), None) == "lag"


def test_what_replaces_lags_is_better_on_every_stretch() -> None:
    values = series(channels=1)
    # In the first two thirds of the validation rows the season repeats itself exactly.
    start, stop = SPLIT.train_end - 24, SPLIT.train_end + 80
    values[start:stop, 0] = values[start : start + 24, 0].repeat(5)[: stop - start]
    loose, strict = (
        ResidualProbe(lags=LAGS, candidates=("lag", "seasonal"), stretches=stretches).fit(
            values, None, SPLIT, [4], first=FIRST
        )
        for stretches in (1, 3)
    )
    assert loose.choices[4][0].candidate == "seasonal"
    assert strict.choices[4][0].candidate == "lag"


def test_representations_on_any_scale_and_shared_or_one_a_channel() -> None:
    values = series()
    phi = noise(N, 6)
    phi[:, 0] += values[:, 0].roll(-2)
    scaled = phi * torch.logspace(-3, 3, 6, dtype=torch.float64) + 50
    kinds: dict[str, Any] = {"lags": LAGS, "candidates": ("lag+phi",)}
    one = ResidualProbe(**kinds).fit(values, phi, SPLIT, HORIZONS, first=FIRST)
    other = ResidualProbe(**kinds).fit(values, scaled, SPLIT, HORIZONS, first=FIRST)
    each = ResidualProbe(**kinds).fit(values, torch.stack([phi, scaled], 1), SPLIT, HORIZONS, first=FIRST)
    history = values[None, 500:530].expand(3, -1, -1)
    places = torch.tensor([529, 540, 550])
    for horizon in HORIZONS:
        expected = one.predict(history, horizon, phi[places])
        assert torch.allclose(other.predict(history, horizon, scaled[places]), expected, atol=1e-8)
        both = torch.stack([phi, scaled], 1)[places]
        assert torch.allclose(each.predict(history, horizon, both), expected, atol=1e-8)
        assert str(one.choices[horizon][0]).startswith("lag+phi(")


def test_predictions_are_those_that_were_measured() -> None:
    values, phi = series(), noise(N, 4)
    probe = ResidualProbe(lags=LAGS)
    fitted = probe.fit(values, phi, SPLIT, HORIZONS, first=FIRST)
    for horizon in HORIZONS:
        rows = anchor_rows(SPLIT, "test", horizon, FIRST)
        history = torch.stack([values[t - 29 : t + 1] for t in rows])
        forecast = fitted.predict(history, horizon, phi[list(rows)])
        target = torch.stack([values[t + 1 : t + 1 + horizon] for t in rows])
        assert forecast.shape == target.shape
        for channel, choice in enumerate(fitted.choices[horizon]):
            errors = choice_errors(choice, probe.samples(values[:, channel], phi), rows, horizon, 24)
            error = (forecast - target)[..., channel]
            assert errors.mse == pytest.approx(error.square().mean().item())
            assert errors.mae == pytest.approx(error.abs().mean().item())
    for candidate in CANDIDATES:
        alone = ResidualProbe(lags=LAGS, candidates=(candidate,)).fit(values, phi, SPLIT, [4], first=FIRST)
        rows = anchor_rows(SPLIT, "val", 4, FIRST)
        history = torch.stack([values[t - 29 : t + 1] for t in rows])
        target = torch.stack([values[t + 1 : t + 5, 0] for t in rows])
        error = alone.predict(history, 4, phi[list(rows)])[..., 0] - target
        assert alone.choices[4][0].val.mse == pytest.approx(error.square().mean().item())


def test_test_rows_are_not_looked_at_before_they_are_measured() -> None:
    values, phi = series(), noise(N, 4)
    clean = forecast_scores(dataset(values), phi, first=FIRST, parts=("val",))
    assert set(clean) == {"val"}
    values[SPLIT.val_end :] = torch.nan
    phi[SPLIT.val_end :] = 7.0
    assert forecast_scores(dataset(values), phi, first=FIRST, parts=("val",)) == clean


def test_standardization() -> None:
    phi = noise(30, 3) * torch.tensor([1.0, 5.0, 0.0]) + 2
    found = Standardization.of(phi[:20]).apply(phi)
    expected = (phi - phi[:20].mean(0)) / phi[:20].std(0, correction=0)
    assert torch.allclose(found[:, :2], expected[:, :2])
    assert torch.equal(found[:, 2], torch.zeros(30, dtype=torch.float64))


def test_one_lag_is_the_mean_step() -> None:
    values = series(channels=1)
    fitted = ResidualProbe(lags=1, candidates=("lag",)).fit(values, None, SPLIT, [3], first=0)
    steps = torch.stack([values[t + 1 : t + 4, 0] - values[t, 0] for t in anchor_rows(SPLIT, "train", 3, 0)])
    forecast = fitted.predict(values[None, -1:], 3)[0, :, 0]
    assert torch.allclose(forecast, values[-1, 0] + steps.mean(0))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((N - 1, 4), r"shape \(600, D\) or \(600, 2, D\) expected.*got \(599, 4\)"),
        ((N, 3, 4), r"got \(600, 3, 4\)"),
        ((N,), r"got \(600,\)"),
        ((N, 0), r"got \(600, 0\)"),
    ],
)
def test_representations_of_another_series(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_representations(torch.zeros(shape), N, 2, FIRST)
    for probe in ("residual", "ts2vec"):
        with pytest.raises(DataError, match="phi: shape"):
            forecast_scores(dataset(series()), torch.zeros(shape), probe=probe, first=FIRST)
    with pytest.raises(DataError, match="phi: shape"):
        ResidualProbe(lags=LAGS).fit(series(), torch.zeros(shape), SPLIT, [4], first=FIRST)


def test_representations_that_are_not_finite() -> None:
    phi = noise(N, 4)
    phi[: FIRST - 1] = torch.nan
    check_representations(phi, N, 2, FIRST)
    phi[33, 1] = torch.inf
    for probe in ("residual", "ts2vec"):
        with pytest.raises(DataError, match="phi: row 33 is not finite, and 0 others"):
            forecast_scores(dataset(series()), phi, probe=probe, first=FIRST)
    phi[33, 1], phi[N - 1, 0] = 0.0, torch.nan
    with pytest.raises(DataError, match="phi: row 599 is not finite"):
        forecast_scores(dataset(series()), phi, first=FIRST)
    assert set(forecast_scores(dataset(series()), phi, first=FIRST, parts=("val",))) == {"val"}


def test_settings_that_make_no_sense() -> None:
    values = series()
    with pytest.raises(ConfigError, match="probe: one of residual, ts2vec, .* expected, got 'best'"):
        forecast_scores(dataset(values), probe="best")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="'ts2vec' needs representations"):
        forecast_scores(dataset(values), probe="ts2vec")
    with pytest.raises(DataError, match=r"shape \(N, D\) expected for 'ts2vec'.*flatten it"):
        forecast_scores(dataset(values), noise(N, 2, 3), probe="ts2vec")
    with pytest.raises(ConfigError, match="candidates: some of last, .* got"):
        ResidualProbe(candidates=())
    with pytest.raises(ConfigError, match="lags, period: 1 at least expected, got 0 and 24"):
        ResidualProbe(lags=0)
    with pytest.raises(ConfigError, match="stretches: 1 at least expected, got 0"):
        ResidualProbe(stretches=0)
    with pytest.raises(ConfigError, match="first: 20 at least expected for 21 lags, got 5"):
        ResidualProbe(lags=LAGS).fit(values, None, SPLIT, [4], first=5)
    with pytest.raises(ConfigError, match="horizons: positive numbers"):
        ResidualProbe(lags=LAGS).fit(values, None, SPLIT, [], first=FIRST)
    with pytest.raises(DataError, match="horizon 120: no forecast fits into the val rows 360 to 479"):
        ResidualProbe(lags=LAGS).fit(values, None, SPLIT, [4, 120], first=FIRST)
    with pytest.raises(ConfigError, match="candidates: phi need representations"):
        ResidualProbe(lags=LAGS, candidates=("phi",)).fit(values, None, SPLIT, [4], first=FIRST)


def test_predicting_what_was_not_fitted() -> None:
    values, phi = series(), noise(N, 4)
    fitted = ResidualProbe(lags=LAGS, candidates=("lag+phi",)).fit(values, phi, SPLIT, [4], first=FIRST)
    history = values[None, :30]
    with pytest.raises(ConfigError, match="horizon: one of 4 expected, got 5"):
        fitted.predict(history, 5, phi[:1])
    with pytest.raises(
        DataError, match=r"history: shape \(B, L, 2\) with L of 21 at least expected, got \(1, 20, 2\)"
    ):
        fitted.predict(values[None, :20], 4, phi[:1])
    with pytest.raises(DataError, match="phi: 4 numbers expected, as in the fit, got None"):
        fitted.predict(history, 4)
