"""The bootstrap against exact enumeration, a loop, scipy and what theory promises."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from nearfar import resampling
from nearfar.resampling import bootstrap, resampled_means
from nearfar.runtime import numpy_generator


def test_means_have_the_law_of_all_possible_draws() -> None:
    """Of three cases there are 27 ordered draws, each as likely as the next."""
    cases, samples = [0.0, 1.0, 10.0], 60_000
    expected = [sum(draw) / 3 for draw in product(cases, repeat=3)]
    found = resampled_means(np.array(cases)[:, None], samples=samples, seed=3)[:, 0]
    for mean in set(expected):
        p = expected.count(mean) / 27
        share = np.mean(np.abs(found - mean) < 1e-9)
        assert abs(share - p) < 4 * (p * (1 - p) / samples) ** 0.5, mean


def test_every_column_is_the_mean_of_the_same_draws() -> None:
    values = np.random.default_rng(0).normal(size=(7, 3))
    found = resampled_means(values, samples=50, seed=1)
    drawn = numpy_generator(1, "bootstrap").integers(7, size=(50, 7))
    assert np.allclose(found, [values[row].mean(0) for row in drawn], rtol=0, atol=1e-12)


def test_pieces_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(33, 2))
    whole = resampled_means(values, samples=101)
    for draws in (1, 70, 333):
        monkeypatch.setattr(resampling, "_DRAWS", draws)
        assert np.allclose(resampled_means(values, samples=101), whole, rtol=0, atol=1e-12), draws
    assert not np.allclose(resampled_means(values, samples=101, seed=1), whole)


def test_intervals_equal_those_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(0).exponential(size=200)
    (found,) = bootstrap(values[:, None], samples=20_000)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    error = values.std() / 200**0.5  # an end drawn 20,000 times is off by 0.02 of it
    assert found.n == 200
    assert found.mean == pytest.approx(values.mean(), rel=1e-12)
    assert abs(found.low - theirs.low) < 0.1 * error
    assert abs(found.high - theirs.high) < 0.1 * error


def test_p_values_are_right_as_often_as_they_say() -> None:
    """Where there is no difference, p is below 0.1 about every tenth time; where there is one, nearly always."""
    rng = np.random.default_rng(0)
    none = bootstrap(rng.normal(size=(100, 1500)), samples=999)
    assert abs(np.mean([r.p_value < 0.1 for r in none]) - 0.1) < 0.035
    assert abs(np.mean([r.low <= 0 <= r.high for r in none]) - 0.95) < 0.025
    some = bootstrap(rng.normal(0.5, 1, size=(100, 100)), samples=999)
    assert np.mean([r.p_value < 0.05 for r in some]) > 0.95


def test_extremes() -> None:
    above, equal, below = bootstrap(np.array([[1.0, 0, -2], [2, 0, -1], [3, 0, -1]]), samples=99)
    assert above.p_value == below.p_value == 2 / 100
    assert (equal.mean, equal.low, equal.high, equal.p_value) == (0, 0, 0, 1)
    assert above.low > 0 > below.high


@pytest.mark.parametrize(
    ("values", "samples", "message"),
    [
        (np.zeros((0, 1)), 10, r"shape \(N, M\) with N of at least 2 expected, got \(0, 1\)"),
        (np.zeros((1, 1)), 10, r"got \(1, 1\)"),
        (np.zeros(5), 10, r"got \(5,\)"),
        (np.array([[0.0], [np.nan]]), 10, "1 are not finite"),
        (np.zeros((5, 1)), 0, "samples: at least 1 expected, got 0"),
    ],
)
def test_refusals(values: np.ndarray, samples: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resampled_means(values, samples=samples)
