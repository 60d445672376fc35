r"""What representations add to the last values, per channel and horizon, chosen on validation rows.

.. math:: \hat y_{t+1..t+H} = y_t + W_\mathrm{lag} (\mathrm{lags}_t - y_t) + W_\varphi \varphi_t

A ridge regression with a penalty for each of the two groups of features. Candidates are the last value, the value a
season ago, lags alone, representations alone, and both. The smallest RMSE + MAE on validation rows is taken, the
earlier of equals, so the choice is never worse there than lags alone.

Differs from TS2Vec's probe (Yue et al., AAAI 2022), which regresses the values themselves on representations: forecasts
here follow a shift of the level. Lags with an anchor are what arXiv 2403.14587 finds hard to beat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from nearfar.errors import ConfigError, DataError
from nearfar.timeseries.forecasting.choice import (
    CANDIDATES,
    Candidate,
    Choice,
    Penalty,
    choice_errors,
    naive_errors,
    select_penalty,
)
from nearfar.timeseries.forecasting.moments import Moments, nested_moments
from nearfar.timeseries.forecasting.ridge import ALPHAS, RidgeFit, RidgePath, ridge_path
from nearfar.timeseries.forecasting.samples import (
    LAGS,
    ChannelSamples,
    Standardization,
    check_representations,
)
from nearfar.timeseries.forecasting.split import ForecastSplit, Part, anchor_rows

# Times the training rows. Columns have deviation 1, so an eigenvalue of the products is up to rows * columns, and
# penalties of 1000 at most, as published, hardly shrink: next to lags the best are around 10 a row.
PHI_PENALTIES = (1e-3, 1e-2, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
# Sweeps of one penalty with the other held; after the first, over the neighbours of the best one so far only.
SWEEPS = 4
NEIGHBORS = 2


@dataclass(frozen=True, eq=False)
class FittedProbe:
    """What was chosen for every channel and horizon.

    Attributes:
        choices: By horizon, one a channel.
        lags: Values of a channel that are features.
        period: Rows of a season.
        anchored: Whether the last value is subtracted from lags and targets.
    """

    choices: dict[int, tuple[Choice, ...]]
    lags: int
    period: int
    anchored: bool

    def predict(self, history: Tensor, horizon: int, phi: Tensor | None = None) -> Tensor:
        """Forecast the rows after a history.

        Args:
            history: Last values on the scale the probe was fitted on, shape ``(B, L, C)``, with ``L`` not below
                ``lags``, nor below ``period`` if a season was chosen.
            horizon: One of those fitted.
            phi: Representations at the last row, shape ``(B, D)`` or ``(B, C, D)``; as in the fit.

        Returns:
            Shape ``(B, H, C)``, float64.

        Raises:
            ConfigError: If the horizon was not fitted.
            DataError: If the history is too short or of other channels, or the representations are not those of the
                fit.
        """
        if horizon not in self.choices:
            raise ConfigError(f"horizon: one of {', '.join(map(str, self.choices))} expected, got {horizon}")
        choices = self.choices[horizon]
        seasons = any(choice.candidate == "seasonal" for choice in choices)
        needed = max(self.lags, self.period) if seasons else self.lags
        if history.dim() != 3 or history.shape[1] < needed or history.shape[2] != len(choices):
            raise DataError(
                f"history: shape (B, L, {len(choices)}) with L of {needed} at least expected, "
                f"got {tuple(history.shape)}"
            )
        columns = []
        for channel, choice in enumerate(choices):
            own = None if phi is None else phi if phi.dim() == 2 else phi[:, channel]
            columns.append(self._channel(history[..., channel].double(), horizon, own, choice))
        return torch.stack(columns, 2)

    def _channel(self, history: Tensor, horizon: int, phi: Tensor | None, choice: Choice) -> Tensor:
        last = history[:, -1:]
        if choice.candidate == "last":
            return last.expand(-1, horizon)
        if choice.candidate == "seasonal":
            return history[:, torch.arange(horizon) % self.period - self.period]
        assert choice.fit is not None
        lags = history[:, history.shape[1] - self.lags :]
        parts = [lags[:, :-1] - last if self.anchored else lags]
        if phi is not None:
            parts.append(phi.double())
        x = torch.cat(parts, 1)
        if x.shape[1] != len(choice.fit.weight):
            raise DataError(
                f"phi: {len(choice.fit.weight) - parts[0].shape[1]} numbers expected, as in the fit, "
                f"got {None if phi is None else tuple(phi.shape)}"
            )
        return choice.fit.predict(x) + (last if self.anchored else 0)


@dataclass(frozen=True)
class ResidualProbe:
    """Settings of the probe, and how it is fitted.

    Attributes:
        lags: Values of a channel that are features, the last one included.
        period: Rows of a season.
        alphas: Penalties of lags.
        phi_penalties: Penalties of representations, whose columns have deviation 1, for every training row.
        candidates: What may be chosen; those with representations only if there are any, ``seasonal`` only if a
            whole season is before the first start.
        anchored: Whether the last value is subtracted from lags and targets.
        stretches: Runs that validation rows are cut into; what replaces lags must be better on every one.

    Raises:
        ConfigError: If there are no candidates, or one is unknown.
    """

    lags: int = LAGS
    period: int = 24
    alphas: tuple[float, ...] = ALPHAS
    phi_penalties: tuple[float, ...] = PHI_PENALTIES
    candidates: tuple[Candidate, ...] = CANDIDATES
    anchored: bool = True
    stretches: int = 3

    def __post_init__(self) -> None:
        """Check what would be found out late."""
        unknown = sorted(set(self.candidates) - set(CANDIDATES))
        if unknown or not self.candidates:
            raise ConfigError(f"candidates: some of {', '.join(CANDIDATES)} expected, got {self.candidates}")
        if self.lags < 1 or self.period < 1:
            raise ConfigError(f"lags, period: 1 at least expected, got {self.lags} and {self.period}")
        if self.stretches < 1:
            raise ConfigError(f"stretches: 1 at least expected, got {self.stretches}")

    def fit(
        self,
        values: Tensor,
        phi: Tensor | None,
        split: ForecastSplit,
        horizons: Sequence[int],
        *,
        first: int = LAGS - 1,
    ) -> FittedProbe:
        """Learn from the training rows and choose by the validation rows; test rows are not looked at.

        Args:
            values: Channels on one scale, shape ``(N, C)``.
            phi: Representations, shared by the channels ``(N, D)`` or one a channel ``(N, C, D)``, or ``None``.
            split: Parts of the rows.
            horizons: Rows to forecast.
            first: No forecast starts before this row.

        Raises:
            ConfigError: If ``first`` is so early that lags are missing, or nothing can be chosen.
            DataError: If a horizon is too long for a part, or representations do not fit the series.
        """
        if first < self.lags - 1:
            raise ConfigError(
                f"first: {self.lags - 1} at least expected for {self.lags} lags, got {first}; use fewer lags"
            )
        values = values.detach().cpu()
        if phi is not None:
            phi = phi.detach().cpu()
            check_representations(phi, len(values), values.shape[1], first, stop=split.val_end)
        rows = {part: rows_by_horizon(split, part, horizons, first) for part in _LEARNT_FROM}
        channels = [
            self._fit_channel(
                values[:, channel].double(),
                None if phi is None else phi if phi.dim() == 2 else phi[:, channel],
                rows,
            )
            for channel in range(values.shape[1])
        ]
        choices = {horizon: tuple(channel[horizon] for channel in channels) for horizon in horizons}
        return FittedProbe(choices, self.lags, self.period, self.anchored)

    def samples(self, values: Tensor, phi: Tensor | None) -> ChannelSamples:
        """Features and targets that a choice of this probe maps.

        Args:
            values: One channel, shape ``(N,)``.
            phi: Its representations, shape ``(N, D)``, or ``None``.
        """
        return ChannelSamples(values.double(), phi, self.lags, self.anchored)

    def _fit_channel(
        self, values: Tensor, phi: Tensor | None, rows: dict[Part, dict[int, range]]
    ) -> dict[int, Choice]:
        standard = None
        if phi is not None:
            train = rows["train"]
            first, stop = next(iter(train.values())).start, max(part.stop for part in train.values())
            standard = Standardization.of(phi[first:stop])
            phi = standard.apply(phi)
        samples = self.samples(values, phi)
        search = None
        if set(self.candidates) & {"lag", "phi", "lag+phi"}:
            search = _Search(
                self,
                samples,
                nested_moments(samples, rows["train"]),
                nested_moments(samples, rows["val"]),
                rows["val"],
            )
        found = {}
        for horizon, val in rows["val"].items():
            choices: list[Choice] = []
            for candidate in self.candidates:
                if candidate in ("last", "seasonal"):
                    if candidate == "last" or self.period <= val.start + 1:
                        errors = naive_errors(candidate, values, val, horizon, self.period)
                        choices.append(Choice(candidate, (), None, errors))
                elif candidate == "lag" or phi is not None:
                    assert search is not None
                    choices.append(search.best(candidate, horizon))
            if not choices:
                raise ConfigError(
                    f"candidates: {', '.join(self.candidates)} need representations or rows there are not"
                )
            best = self._pick(choices, samples, val, horizon)
            found[horizon] = _on_raw_columns(best, samples.num_lags, standard)
        return found

    def _pick(self, choices: Sequence[Choice], samples: ChannelSamples, rows: range, horizon: int) -> Choice:
        """The best candidate that is better than lags on every stretch, and not only over all."""
        ranked = sorted(choices, key=lambda choice: choice.val.selection)
        lag = next((choice for choice in ranked if choice.candidate == "lag"), None)
        if lag is None or self.stretches == 1:
            return ranked[0]
        cuts = [len(rows) * cut // self.stretches for cut in range(self.stretches + 1)]
        parts = [part for start, stop in pairwise(cuts) if (part := rows[start:stop])]
        measured = [choice_errors(lag, samples, part, horizon, self.period).selection for part in parts]
        for choice in ranked[: ranked.index(lag)]:
            if all(
                choice_errors(choice, samples, part, horizon, self.period).selection < beaten
                for part, beaten in zip(parts, measured, strict=True)
            ):
                return choice
        return lag


_LEARNT_FROM: tuple[Part, ...] = ("train", "val")


def rows_by_horizon(
    split: ForecastSplit, part: Part, horizons: Sequence[int], first: int
) -> dict[int, range]:
    """Where forecasts of every horizon start.

    Args:
        split: Parts of the rows.
        part: One of them.
        horizons: Rows to forecast.
        first: No forecast starts before this row.

    Raises:
        ConfigError: If there are no horizons, or one is not positive.
        DataError: If one is too long for the part.
    """
    if not horizons or min(horizons) < 1:
        raise ConfigError(f"horizons: positive numbers of rows expected, got {tuple(horizons)}")
    rows = {horizon: anchor_rows(split, part, horizon, first) for horizon in horizons}
    for horizon, starts in rows.items():
        if not starts:
            start, stop = split.bounds(part)
            raise DataError(
                f"horizon {horizon}: no forecast fits into the {part} rows {max(start, first)} to {stop - 1}; "
                "take shorter horizons or a longer series"
            )
    return rows


def _on_raw_columns(choice: Choice, num_lags: int, standard: Standardization | None) -> Choice:
    """The same forecasts from representations that are not standardised."""
    if choice.fit is None or standard is None:
        return choice
    weight = choice.fit.weight.clone()
    weight[num_lags:] /= standard.scale.unsqueeze(1)
    intercept = choice.fit.intercept - standard.mean @ weight[num_lags:]
    return Choice(choice.candidate, choice.alphas, RidgeFit(weight, intercept), choice.val)


@dataclass(frozen=True, eq=False)
class _Search:
    """The best penalties of one channel."""

    probe: ResidualProbe
    samples: ChannelSamples
    train: dict[int, Moments]
    val: dict[int, Moments]
    rows: dict[int, range]

    chosen: dict[tuple[Candidate, int], Choice] = field(default_factory=dict)

    def best(self, candidate: Candidate, horizon: int) -> Choice:
        key = candidate, horizon
        if key not in self.chosen:
            self.chosen[key] = (
                self._both(horizon) if candidate == "lag+phi" else self._one(candidate, horizon)
            )
        return self.chosen[key]

    def _one(self, candidate: Candidate, horizon: int) -> Choice:
        lags, phi = self._groups()
        alphas, group = (self.probe.alphas, lags) if candidate == "lag" else (self._phi_alphas(horizon), phi)
        path, penalty = self._sweep(horizon, alphas, group)
        return Choice(candidate, (penalty.alpha,), path.fit(penalty.index), penalty.errors)

    def _both(self, horizon: int) -> Choice:
        # Representations join the best lags; then the penalties move in turn while that helps.
        groups = self._groups()
        grids = self.probe.alphas, self._phi_alphas(horizon)
        pair = [self.best("lag", horizon).alphas[0], 0.0]
        best: Choice | None = None
        for turn in range(SWEEPS):
            moving, held = (1, 0) if turn % 2 == 0 else (0, 1)
            grid = grids[moving] if turn == 0 else _near(grids[moving], pair[moving])
            path, penalty = self._sweep(horizon, grid, groups[moving], groups[held], pair[held])
            moved = penalty.alpha != pair[moving]
            pair[moving] = penalty.alpha
            if turn == 0 or moved:
                best = Choice("lag+phi", (pair[0], pair[1]), path.fit(penalty.index), penalty.errors)
            else:
                break
        assert best is not None
        return best

    def _phi_alphas(self, horizon: int) -> tuple[float, ...]:
        return tuple(penalty * self.train[horizon].count for penalty in self.probe.phi_penalties)

    def _groups(self) -> tuple[slice, slice]:
        num_lags = self.samples.num_lags
        return slice(0, num_lags), slice(num_lags, self.samples.num_features)

    def _sweep(
        self,
        horizon: int,
        alphas: tuple[float, ...],
        group: slice,
        others: slice | None = None,
        others_alpha: float = 1.0,
    ) -> tuple[RidgePath, Penalty]:
        path = ridge_path(self.train[horizon], alphas, group=group, others=others, others_alpha=others_alpha)
        return path, select_penalty(path, self.samples, self.val[horizon], self.rows[horizon], horizon)


def _near(alphas: tuple[float, ...], alpha: float) -> tuple[float, ...]:
    place = alphas.index(alpha)
    return alphas[max(place - NEIGHBORS, 0) : place + NEIGHBORS + 1]
