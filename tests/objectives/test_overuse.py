"""The over-use penalty against a loop and closed forms, and InfoNCE with it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.objectives import InfoNCE, LearnableTemperature
from nearfar.objectives.logsumexp import small_tiles
from nearfar.objectives.overuse import OveruseInfoNCE, overuse_penalty
from nearfar.testing import LargestTensor, two_views


def slow(z: Tensor) -> float:
    """The definition, one number at a time."""
    return math.fsum((math.fsum(map(abs, column)) / len(z)) ** 2 for column in z.T.tolist())


def test_equals_the_definition() -> None:
    first, second = two_views()
    assert overuse_penalty(first).item() == pytest.approx(slow(first), rel=1e-12)
    assert overuse_penalty(3 * first).item() == pytest.approx(9 * slow(first), rel=1e-12)
    expected = InfoNCE(0.2, symmetric=True)(first, second).item()
    expected += 0.7 * (slow(F.normalize(first)) + slow(F.normalize(second))) / 2
    loss = OveruseInfoNCE(0.2, weight=0.7)
    assert loss(first, second).item() == pytest.approx(expected, rel=1e-12)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    assert loss(first[order], second[order]).item() == pytest.approx(expected, rel=1e-12)
    assert loss(0.01 * first, 9 * second).item() == pytest.approx(
        expected, rel=1e-10
    )  # shrinking rows gains nothing


def test_known_answers() -> None:
    eye = torch.eye(8)
    assert overuse_penalty(eye).item() == 1 / 8  # the least for unit rows
    assert overuse_penalty(eye[:1].expand(8, 8)).item() == 1  # the most
    assert overuse_penalty(-eye).item() == 1 / 8
    # Two features, each in half of the rows, cost less than one in all.
    assert overuse_penalty(eye[[0, 0, 1, 1]]).item() == 0.5


def test_derivatives() -> None:
    first, second = two_views(4)
    assert torch.autograd.gradcheck(overuse_penalty, first)
    assert torch.autograd.gradcheck(OveruseInfoNCE(0.5), (first, second))
    (grad,) = torch.autograd.grad(
        overuse_penalty(torch.zeros(3, 2, requires_grad=True) * first[:3, :2]), first
    )
    assert grad.abs().sum() == 0
    temperature = LearnableTemperature(0.5)
    OveruseInfoNCE(temperature)(first, second).backward()
    assert temperature.log_scale.grad is not None
    assert temperature.log_scale.grad != 0


def test_no_table_of_all_pairs() -> None:
    first, second = two_views(4096, 4, torch.float32)
    with small_tiles(256), LargestTensor() as memory:
        OveruseInfoNCE()(first, second).backward()
    assert memory.numbers < 4096**2 / 8


def test_half_precision_is_computed_in_single() -> None:
    first, second = two_views(dtype=torch.bfloat16)
    for function in (OveruseInfoNCE(), lambda a, b: overuse_penalty(a)):
        torch.testing.assert_close(
            function(first, second), function(first.float(), second.float()), rtol=0, atol=0
        )


def test_bad_arguments_are_named() -> None:
    bad: Any
    for bad in (-0.1, math.nan):
        with pytest.raises(ValueError, match="weight: "):
            OveruseInfoNCE(weight=bad)
    with pytest.raises(ValueError, match="temperature: "):
        OveruseInfoNCE(0.0)
    for bad in (torch.ones(3), torch.ones(2, 2, dtype=torch.int64), torch.full((2, 2), math.inf)):
        with pytest.raises(ValueError, match="z: "):
            overuse_penalty(bad)
    with pytest.raises(ValueError, match="second: shape"):
        OveruseInfoNCE()(torch.ones(3, 2), torch.ones(4, 2))
