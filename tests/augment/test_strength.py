"""Strengths: numbers or one value a sample, and what they refuse."""

from __future__ import annotations

import pytest
import torch

from nearfar.augment.strength import check_strength, per_sample


def test_per_sample_broadcasts_and_keeps_gradients() -> None:
    value = torch.tensor([1.0, 2.0], requires_grad=True)
    moved = per_sample("std", value, torch.zeros(2, 5, dtype=torch.float64), 3)
    assert isinstance(moved, torch.Tensor)
    assert moved.shape == (2, 1, 1)
    assert moved.dtype == torch.float64
    moved.sum().backward()
    assert value.grad is not None
    assert per_sample("std", 0.5, torch.zeros(2, 5), 3) == 0.5


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), torch.tensor([0.5, 1.1]), torch.tensor([[0.5]])])
def test_refusals_name_the_argument(value: float | torch.Tensor) -> None:
    with pytest.raises(ValueError, match="^ratio: "):
        check_strength("ratio", value)


def test_one_value_for_every_sample() -> None:
    with pytest.raises(ValueError, match="^p: one value for each of 3 samples"):
        per_sample("p", torch.tensor([0.5, 0.5]), torch.zeros(3, 1), 2)
