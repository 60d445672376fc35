"""Mean and deviation over seeds, against NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nearfar.pipelines.mean_std import MeanStd, mean_std


def test_against_numpy() -> None:
    values = np.random.default_rng(0).normal(size=7)
    found = mean_std([None, *values.tolist(), None])
    assert found is not None
    assert found.n == 7
    assert found.mean == pytest.approx(values.mean(), rel=1e-14)
    assert found.std == pytest.approx(values.std(ddof=1), rel=1e-14)


def test_few_values() -> None:
    assert mean_std([]) is None
    assert mean_std([None]) is None
    assert mean_std([0.5, None]) == MeanStd(0.5, 0.0, 1)


def test_a_value_that_is_not_finite_is_seen() -> None:
    """A seed that diverged spoils the mean, and does not end the report."""
    for wrong in (math.nan, math.inf):
        found = mean_std([0.5, wrong])
        assert found is not None
        assert not math.isfinite(found.mean)
        assert math.isnan(found.std)
