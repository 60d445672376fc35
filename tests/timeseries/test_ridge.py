"""The ridge path against scikit-learn, closed forms and the errors of plain predictions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from nearfar.errors import ConfigError, DataError
from nearfar.timeseries.forecasting import moments as moments_module
from nearfar.timeseries.forecasting.choice import select_penalty
from nearfar.timeseries.forecasting.moments import Moments, nested_moments
from nearfar.timeseries.forecasting.ridge import ALPHAS, ridge_path
from nearfar.timeseries.forecasting.samples import ChannelSamples, JointSamples


@dataclass(frozen=True)
class Rows:
    """Samples that are given as matrices."""

    x: Tensor
    y: Tensor

    @property
    def num_features(self) -> int:
        return self.x.shape[1]

    def num_targets(self, horizon: int) -> int:
        return self.y.shape[1]

    def features(self, rows: range) -> Tensor:
        return self.x[rows.start : rows.stop]

    def targets(self, rows: range, horizon: int) -> Tensor:
        return self.y[rows.start : rows.stop]


def problem(n: int = 90, p: int = 12, q: int = 5, offset: float = 3.0) -> Rows:
    """Correlated features on different scales, far from zero, and noisy targets."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, p)) @ rng.normal(size=(p, p)) * np.linspace(0.1, 5, p) + offset
    y = x @ rng.normal(size=(p, q)) + rng.normal(size=(n, q)) * 4 + offset
    return Rows(torch.from_numpy(x), torch.from_numpy(y))


def moments_of(rows: Rows, part: range, size: int = 7) -> Moments:
    found = Moments.empty(rows.num_features, rows.num_targets(1))
    for start in range(part.start, part.stop, size):
        block = range(start, min(start + size, part.stop))
        found.add(rows.features(block), rows.targets(block, 1))
    return found


@pytest.mark.parametrize("offset", [0.0, 3.0, 1e6])
def test_moments_of_blocks_are_those_of_all_rows(offset: float) -> None:
    rows = problem(offset=offset)
    found = moments_of(rows, range(90))
    x, y = rows.x.numpy(), rows.y.numpy()
    centered = x - x.mean(0)
    assert found.count == 90
    assert np.allclose(found.mean_x, x.mean(0))
    assert np.allclose(found.xx, centered.T @ centered, rtol=1e-8, atol=1e-6)
    assert np.allclose(found.xy, centered.T @ (y - y.mean(0)), rtol=1e-8, atol=1e-5)
    assert np.allclose(found.yy, ((y - y.mean(0)) ** 2).sum(0), rtol=1e-8)
    found.add(rows.x[:0], rows.y[:0])
    assert found.count == 90


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_every_penalty_is_that_of_scikit_learn(offset: float) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    rows = problem(offset=offset)
    train, val = range(60), range(60, 90)
    path = ridge_path(moments_of(rows, train))
    squared = path.mean_squared(moments_of(rows, val))
    absolute = path.mean_absolute(rows, val, 1)
    selection = []
    for index, alpha in enumerate(ALPHAS):
        oracle = linear_model.Ridge(alpha=alpha, solver="svd").fit(rows.x[:60].numpy(), rows.y[:60].numpy())
        fit = path.fit(index)
        assert np.allclose(fit.weight, oracle.coef_.T, rtol=1e-5, atol=1e-7)
        assert np.allclose(fit.predict(rows.x), oracle.predict(rows.x.numpy()), rtol=1e-5, atol=1e-6)
        error = rows.y[60:].numpy() - oracle.predict(rows.x[60:].numpy())
        assert squared[index] == pytest.approx((error**2).mean(), rel=1e-7)
        assert absolute[index] == pytest.approx(np.abs(error).mean(), rel=1e-7)
        selection.append(np.sqrt((error**2).mean()) + np.abs(error).mean())
    chosen = select_penalty(path, rows, moments_of(rows, val), val, 1)
    assert chosen.alpha == ALPHAS[int(np.argmin(selection))]
    assert chosen.errors.selection == pytest.approx(min(selection), rel=1e-7)
    # The penalty matters here: the test would not notice a wrong choice otherwise.
    assert max(selection) > 1.02 * min(selection)


@pytest.mark.parametrize("swap", [False, True])
def test_two_groups_against_the_normal_equations(swap: bool) -> None:
    rows = problem()
    first, second = slice(0, 4), slice(4, 12)
    group, others = (second, first) if swap else (first, second)
    train, val = range(60), range(60, 90)
    path = ridge_path(moments_of(rows, train), (0.5, 30.0), group=group, others=others, others_alpha=7.0)
    squared = path.mean_squared(moments_of(rows, val))
    absolute = path.mean_absolute(rows, val, 1)
    x, y = rows.x[:60], rows.y[:60]
    centered = x - x.mean(0)
    for index, alpha in enumerate((0.5, 30.0)):
        penalty = torch.full((12,), 7.0, dtype=torch.float64)
        penalty[group] = alpha
        expected = torch.linalg.solve(centered.T @ centered + penalty.diag(), centered.T @ (y - y.mean(0)))
        fit = path.fit(index)
        assert torch.allclose(fit.weight, expected, rtol=1e-9, atol=1e-10)
        error = rows.y[60:] - ((rows.x[60:] - x.mean(0)) @ expected + y.mean(0))
        assert torch.allclose(fit.predict(rows.x[60:]), rows.y[60:] - error)
        assert squared[index] == pytest.approx(error.square().mean().item(), rel=1e-9)
        assert absolute[index] == pytest.approx(error.abs().mean().item(), rel=1e-9)


def test_two_groups_are_scaled_columns_of_scikit_learn() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    rows = problem()
    ratio = 40.0
    scaled = rows.x.numpy().copy()
    scaled[:, 4:] /= np.sqrt(ratio)
    oracle = linear_model.Ridge(alpha=2.0, solver="svd").fit(scaled, rows.y.numpy())
    path = ridge_path(
        moments_of(rows, range(90)), (2.0 * ratio,), group=slice(4, 12), others=slice(0, 4), others_alpha=2.0
    )
    assert np.allclose(path.fit(0).predict(rows.x), oracle.predict(scaled), rtol=1e-5)


def test_a_group_alone_leaves_other_columns_out() -> None:
    rows = problem()
    alone = ridge_path(moments_of(rows, range(60)), (3.0,), group=slice(4, 12))
    cut = Rows(rows.x[:, 4:], rows.y)
    expected = ridge_path(moments_of(cut, range(60)), (3.0,))
    fit = alone.fit(0)
    assert torch.equal(fit.weight[:4], torch.zeros(4, 5, dtype=torch.float64))
    assert torch.allclose(fit.weight[4:], expected.fit(0).weight)
    val = range(60, 90)
    assert torch.allclose(alone.mean_absolute(rows, val, 1), expected.mean_absolute(cut, val, 1))
    assert torch.allclose(
        alone.mean_squared(moments_of(rows, val)), expected.mean_squared(moments_of(cut, val))
    )


def test_no_features_is_the_mean() -> None:
    rows = Rows(torch.zeros(6, 0, dtype=torch.float64), torch.arange(12.0, dtype=torch.float64).reshape(6, 2))
    path = ridge_path(moments_of(rows, range(6)), (1.0,))
    assert torch.equal(path.fit(0).predict(rows.x), rows.y.mean(0).expand(6, 2))
    assert path.mean_squared(moments_of(rows, range(6)))[0] == pytest.approx(
        rows.y.var(0, False).mean().item()
    )


def test_more_columns_than_rows() -> None:
    rows = problem(n=9, p=30)
    path = ridge_path(moments_of(rows, range(9)), (0.1,))
    centered = rows.x - rows.x.mean(0)
    gram = centered @ centered.T + 0.1 * torch.eye(9, dtype=torch.float64)
    expected = centered.T @ torch.linalg.solve(gram, rows.y - rows.y.mean(0))
    assert torch.allclose(path.fit(0).weight, expected, rtol=1e-6, atol=1e-8)


def test_nested_horizons_are_separate_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    # Blocks of a few rows, so that their edges are tested as well.
    monkeypatch.setattr(moments_module, "BLOCK", 100)
    rng = torch.Generator().manual_seed(0)
    values = torch.randn(120, 2, generator=rng, dtype=torch.float64)
    phi = torch.randn(120, 3, generator=rng)
    for samples in (ChannelSamples(values[:, 0], phi, lags=6), JointSamples(values, phi)):
        rows = {horizon: range(10, 80 - horizon) for horizon in (1, 5, 30)}
        together = nested_moments(samples, rows)
        for horizon, part in rows.items():
            alone = Moments.empty(samples.num_features, samples.num_targets(horizon))
            alone.add(samples.features(part), samples.targets(part, horizon))
            assert together[horizon].count == alone.count
            for name in ("mean_x", "mean_y", "xx", "xy", "yy"):
                assert torch.allclose(getattr(together[horizon], name), getattr(alone, name)), name


def test_windows_against_loops() -> None:
    rng = torch.Generator().manual_seed(0)
    values = torch.randn(40, 2, generator=rng, dtype=torch.float64)
    phi = torch.randn(40, 3, generator=rng)
    rows, lags, horizon = range(12, 30), 5, 4
    for anchored in (False, True):
        samples = ChannelSamples(values[:, 1], phi, lags, anchored)
        x, y = samples.features(rows), samples.targets(rows, horizon)
        for place, t in enumerate(rows):
            level = values[t, 1].item() if anchored else 0.0
            past = [values[t - lags + 1 + i, 1].item() - level for i in range(lags - anchored)]
            assert x[place].tolist() == pytest.approx([*past, *phi[t].tolist()])
            assert y[place].tolist() == pytest.approx(
                [values[t + h, 1].item() - level for h in range(1, horizon + 1)]
            )
    joint = JointSamples(values, phi)
    for place, t in enumerate(rows):
        expected = [values[t + h, c].item() for h in range(1, horizon + 1) for c in range(2)]
        assert joint.targets(rows, horizon)[place].tolist() == pytest.approx(expected)
        assert joint.features(rows)[place].tolist() == pytest.approx(phi[t].tolist())


def test_windows_are_not_copied() -> None:
    samples = ChannelSamples(torch.zeros(10_000, dtype=torch.float64), lags=201, anchored=False)
    targets = samples.targets(range(200, 5000), 720)
    assert targets.untyped_storage().nbytes() == 80_000


def test_what_cannot_be_solved() -> None:
    rows = problem()
    moments = moments_of(rows, range(60))
    with pytest.raises(ConfigError, match=r"alphas: positive numbers expected, got \(0.0, 1.0\)"):
        ridge_path(moments, (0.0, 1.0))
    with pytest.raises(ConfigError, match=r"got \(1.0,\) and -1.0 for the others"):
        ridge_path(moments, (1.0,), others_alpha=-1.0)
    with pytest.raises(DataError, match="no rows to learn from"):
        ridge_path(Moments.empty(3, 2))
    rows.x[5, 2] = torch.nan
    with pytest.raises(DataError, match="features or targets are not finite"):
        ridge_path(moments_of(rows, range(60)))
    path = ridge_path(moments)
    with pytest.raises(DataError, match="held_out: no rows"):
        path.mean_squared(Moments.empty(12, 5))
    with pytest.raises(DataError, match="rows: none to measure"):
        path.mean_absolute(rows, range(0), 1)
