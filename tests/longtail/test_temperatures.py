"""Spread and temperature of every class, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nearfar.errors import ConfigError
from nearfar.longtail.sbcl.temperatures import class_spread, class_temperatures
from nearfar.runtime import generator


def test_spread_by_hand() -> None:
    """A loop over classes and rows, unit features, their plain mean."""
    z = torch.randn(30, 5, generator=generator(0, "z"), dtype=torch.float64)
    labels = torch.tensor([0] * 20 + [1] * 9 + [3])
    unit = (z / z.norm(dim=1, keepdim=True)).numpy()
    expected = []
    for k in range(4):
        rows = unit[labels.numpy() == k]
        distances = [np.linalg.norm(row - rows.mean(0)) for row in rows] if len(rows) else []
        expected.append(sum(distances) / (len(rows) * math.log(len(rows) + 10)) if distances else 0.0)
    torch.testing.assert_close(class_spread(z, labels, 4).tolist(), expected, atol=1e-12, rtol=0)
    assert class_spread(z, labels, 4)[3] == 0  # an only row


def test_paper() -> None:
    """Never below tau_1, above it where there is spread, tau_1 for one row or none; equal spreads give e tau_1."""
    parts = torch.tensor([4, 2, 1, 0])
    found = class_temperatures(torch.tensor([0.3, 0.1, 0.0, 0.0]), parts, 0.1)
    mean = 0.4 / 3  # of the classes with rows
    expected = [0.1 * math.exp(0.3 / mean), 0.1 * math.exp(0.1 / mean), 0.1, 0.1]
    torch.testing.assert_close(found.tolist(), expected)
    equal = class_temperatures(torch.full((5,), 0.2), torch.full((5,), 3), 0.1)
    torch.testing.assert_close(equal, torch.full((5,), math.e * 0.1, dtype=torch.float64))


def test_code() -> None:
    """Clipped to percentiles, divided by the mean, so that the mean is tau_1; tau_1 for classes that stay whole."""
    spread = torch.tensor([0.1, 0.2, 0.3, 0.4, 1.0])
    found = class_temperatures(spread, torch.full((5,), 2), 0.1, "code")
    low, high = np.percentile(spread.numpy(), [20, 80])
    clipped = np.clip(spread.numpy().astype(np.float64), low, high)
    np.testing.assert_allclose(found.numpy(), 0.1 * clipped / clipped.mean(), rtol=1e-6)
    assert found.mean().item() == pytest.approx(0.1)
    whole = class_temperatures(spread, torch.tensor([2, 2, 1, 2, 1]), 0.1, "code")
    assert whole[2] == whole[4] == pytest.approx(0.1)


@pytest.mark.parametrize("kind", ["paper", "code"])
def test_collapsed_features_have_tau_1(kind: str) -> None:
    """No spread anywhere is no division by zero; one class without spread has a temperature above zero."""
    found = class_temperatures(torch.zeros(3), torch.tensor([2, 2, 1]), 0.1, kind)  # type: ignore[arg-type]
    assert found.tolist() == pytest.approx([0.1] * 3)
    some = class_temperatures(torch.tensor([0.0, 0.5, 0.5]), torch.tensor([2, 2, 2]), 0.1, kind)  # type: ignore[arg-type]
    assert (some > 0).all()


def test_fixed_and_unknown() -> None:
    assert class_temperatures(torch.rand(3), torch.ones(3), 0.1, "fixed", 0.3).tolist() == [0.3] * 3
    with pytest.raises(ConfigError, match="kind: paper, code or fixed expected, got 'warm'"):
        class_temperatures(torch.rand(3), torch.ones(3), 0.1, "warm")  # type: ignore[arg-type]
