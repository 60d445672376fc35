"""Dropout with cheap masks has the law of PyTorch's, but for a probability rounded to 1/256."""

from __future__ import annotations

import pytest
import torch

from nearfar.runtime.dropout import Dropout, dropout, keep_probability


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
def test_zeros_are_as_many_as_asked_and_the_mean_stays(p: float) -> None:
    torch.manual_seed(0)
    n = 200_000
    y = dropout(torch.ones(n), p, training=True)
    zeros = (y == 0).float().mean().item()
    expected = 1 - keep_probability(p)
    assert abs(expected - p) <= 1 / 512
    assert abs(zeros - expected) < 4 * (expected * (1 - expected) / n) ** 0.5
    assert y.unique().tolist() == pytest.approx([0.0, 1 / keep_probability(p)])


def test_neighbours_are_independent() -> None:
    """Eight decisions come from one draw; none may tell about another."""
    torch.manual_seed(1)
    kept = (dropout(torch.ones(100_000, 8), 0.5, training=True) > 0).double()
    correlation = torch.corrcoef(kept.T) - torch.eye(8, dtype=torch.float64)
    assert correlation.abs().max() < 5 / 100_000**0.5


def test_gradient_passes_where_the_value_did() -> None:
    torch.manual_seed(2)
    x = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    y = dropout(x, 0.4, training=True)
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(y.detach(), x.detach() * x.grad)


def test_without_training_or_probability_nothing_changes_and_nothing_is_drawn() -> None:
    x = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    before = torch.get_rng_state()
    assert dropout(x, 0.5, training=False) is x
    assert dropout(x, 0.0, training=True) is x
    assert Dropout(0.5).eval()(x) is x
    assert torch.equal(torch.get_rng_state(), before)


def test_the_default_generator_decides() -> None:
    x = torch.ones(50)
    torch.manual_seed(3)
    one, two = Dropout(0.5)(x), Dropout(0.5)(x)
    torch.manual_seed(3)
    assert torch.equal(Dropout(0.5)(x), one)
    assert not torch.equal(one, two)


def test_a_probability_too_small_to_round_is_left_to_pytorch() -> None:
    torch.manual_seed(4)
    y = dropout(torch.ones(1_000_000), 0.001, training=True)
    assert 0.0005 < (y == 0).float().mean().item() < 0.0015
