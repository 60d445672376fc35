"""Features: views entry by entry, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from nearfar.adapters import FeatureInputs, representations
from nearfar.encoders import MLP
from nearfar.errors import ConfigError, DataError
from nearfar.runtime import generator


def matrix(n: int = 12, d: int = 7) -> torch.Tensor:
    return torch.randn(n, d, generator=generator(0, "features"))


def test_entries_of_a_view_come_from_other_rows_of_the_same_column() -> None:
    n, d = 50, 40
    # Every entry says which it is.
    x = torch.arange(n * d, dtype=torch.float64).reshape(n, d)
    inputs = FeatureInputs(x, corruption=0.3, noise=0)
    for view in inputs.two_views(x, generator(0, "views")):
        row, column = view.long() // d, view.long() % d
        assert torch.equal(column, torch.arange(d).expand(n, d))
        replaced = row != torch.arange(n)[:, None]
        # Never by the row itself, so all that was drawn shows.
        assert replaced.double().mean().item() == pytest.approx(0.3, abs=5 * (0.21 / (n * d)) ** 0.5)
        # Donors are spread evenly over the other rows.
        counts = torch.bincount(row[replaced], minlength=n).double()
        assert counts.max() < counts.mean() + 6 * counts.mean() ** 0.5


def test_noise_is_in_units_of_the_feature() -> None:
    x = torch.randn(2000, 3, generator=generator(0, "x"), dtype=torch.float64) * torch.tensor(
        [0.1, 1.0, 50.0]
    )
    inputs = FeatureInputs(x, corruption=0, noise=0.2)
    first, second = inputs.two_views(x, generator(0, "views"))
    for view in (first, second):
        share = (view - x).std(0) / x.std(0)
        torch.testing.assert_close(share, torch.full_like(share, 0.2), rtol=0.1, atol=0)
    assert abs(torch.corrcoef(torch.stack([(first - x)[:, 0], (second - x)[:, 0]]))[0, 1].item()) < 0.1


def test_views_are_a_function_of_the_generator_in_either_precision() -> None:
    x = matrix()
    inputs = FeatureInputs(x)
    before = x.clone()
    first = inputs.two_views(x, generator(3, "views"))
    again = inputs.two_views(x, generator(3, "views"))
    other = inputs.two_views(x, generator(4, "views"))
    double = FeatureInputs(x.double()).two_views(x.double(), generator(3, "views"))
    for a, b, c, d in zip(first, again, other, double, strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
        torch.testing.assert_close(a.double(), d, rtol=1e-5, atol=1e-6)
    assert not torch.equal(*first)
    assert torch.equal(x, before)


def test_views_of_a_single_row_keep_it() -> None:
    inputs = FeatureInputs(matrix(), noise=0)
    for view in inputs.two_views(inputs.rows(torch.tensor([3])), generator(0, "views")):
        assert torch.equal(view, matrix()[3:4])


def test_types() -> None:
    assert FeatureInputs([[1, 2], [3, 4]]).features.dtype == torch.float32
    assert FeatureInputs(np.ones((2, 2), dtype=np.float64)).features.dtype == torch.float64
    assert FeatureInputs(torch.ones(2, 2, dtype=torch.float16)).features.dtype == torch.float32
    assert FeatureInputs(np.ones((2, 2), dtype=np.uint8)).features.dtype == torch.float32


def test_mix() -> None:
    inputs, order, share = FeatureInputs(matrix()), torch.arange(12).flip(0), torch.tensor(0.25)
    assert torch.equal(inputs.mix(matrix(), order, share), 0.25 * matrix() + 0.75 * matrix().flip(0))


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([[0.0, np.nan], [0.0, 1.0]], "features: nan in row 0, column 1; fill it"),
        ([[0.0, 1.0], [np.inf, 1.0]], "features: inf in row 1, column 0"),
        ([[np.inf, -np.inf]], "features: inf in row 0, column 0"),
        ([1.0, 2.0], r"shape \(N, D\) .* got \(2,\)"),
        (np.zeros((0, 3)), r"got \(0, 3\)"),
    ],
)
def test_features_that_are_refused(features: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        FeatureInputs(features)


def test_large_finite_numbers_are_no_infinity() -> None:
    assert len(FeatureInputs(torch.full((3, 2), 1e18))) == 3


def test_numbers_without_a_square_in_float32_are_refused() -> None:
    with pytest.raises(DataError, match=r"3e\+38 in row 0, column 0, at most 1e\+18 expected.*power of ten"):
        FeatureInputs(torch.full((3, 2), 3e38))


def test_settings_that_are_refused() -> None:
    with pytest.raises(ConfigError, match="corruption: 0 or more and below 1 expected, got 1"):
        FeatureInputs(matrix(), corruption=1)
    with pytest.raises(ConfigError, match="noise: .* got -1"):
        FeatureInputs(matrix(), noise=-1)


def test_end_to_end_with_a_perceptron() -> None:
    encoder = MLP(7, (5, 3))
    z = representations(encoder, FeatureInputs(matrix().double()))
    torch.testing.assert_close(z, encoder(matrix()).detach())
