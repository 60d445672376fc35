"""Feature transfer against the double loop, and what a set of rows cannot tell."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.objectives import InfoNCE, row_tiles
from nearfar.objectives.feature_transfer import FeatureTransfer
from nearfar.testing import LargestTensor, draw


def discrepancy(x: Tensor, v: Tensor) -> float:
    """The definition, one pair at a time."""
    rows = F.normalize(torch.cat([x, v]))
    num, size = len(x), 2 * len(x)
    squared = [[float((a - b).square().sum().detach()) for b in rows] for a in rows]
    width = math.fsum(map(math.fsum, squared)) / (size * (size - 1))
    total = 0.0
    for i in range(size):
        for j in range(size):
            sign = 1 if (i < num) == (j < num) else -1
            total += sign * math.fsum(math.exp(-squared[i][j] / (width * 2.0**m)) for m in range(-2, 3))
    return total / num**2


def test_is_the_loop() -> None:
    views = [draw(6, 4, seed=i) for i in range(4)]
    first, second, target_first, target_second = views
    expected = InfoNCE(0.2)(first, second).item()
    expected += 0.7 * (discrepancy(first, target_first) + discrepancy(second, target_second)) / 2
    assert FeatureTransfer(0.2, weight=0.7)(*views).item() == pytest.approx(expected, rel=1e-9)
    assert torch.equal(FeatureTransfer(weight=0)(*views), InfoNCE()(first, second))


def test_a_copy_in_any_order_and_of_any_length_costs_nothing() -> None:
    first, second = draw(6, 4), draw(6, 4, seed=1)
    plain = InfoNCE()(first, second)
    torch.testing.assert_close(FeatureTransfer()(first, second, 3 * first.flip(0), second.roll(2, 0)), plain)
    assert FeatureTransfer()(first, second, -first, second) > plain + 1e-3


def test_gradients_reach_the_student_only() -> None:
    views = [draw(4, 3, seed=i).requires_grad_() for i in range(4)]
    loss = FeatureTransfer(weight=3.0)
    loss(*views).backward()
    assert views[0].grad is not None
    assert views[1].grad is not None
    assert views[2].grad is None
    assert views[3].grad is None
    (pull,) = torch.autograd.grad(loss(*views) - InfoNCE()(*views[:2]), views[0])
    torch.testing.assert_close((pull * views[0]).sum(1), torch.zeros(4, dtype=torch.float64))  # unit rows
    assert pull.norm() > 1e-3


def test_descent_brings_the_sets_together() -> None:
    student = draw(16, 3).requires_grad_()
    teacher = F.normalize(draw(16, 3, seed=1) + 2)
    loss, before = FeatureTransfer(weight=1.0), discrepancy(student, teacher)
    for _ in range(50):
        apart = loss(student, student, teacher, teacher) - InfoNCE()(student, student)
        (grad,) = torch.autograd.grad(apart, student)
        student = (student - 0.3 * grad).detach().requires_grad_()
    assert discrepancy(student, teacher) < before / 2


def test_half_precision_is_computed_in_single() -> None:
    views = [draw(6, 4, seed=i).bfloat16() for i in range(4)]
    found = FeatureTransfer()(*views)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, FeatureTransfer()(*(x.float() for x in views)))


def test_no_table_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_tiles, "NUMBERS", 2**20)
    views = [draw(2048, 4, seed=i).float().requires_grad_() for i in range(4)]
    with LargestTensor() as largest:
        FeatureTransfer()(*views).backward()
    assert 2**15 <= largest.numbers < 4096**2 / 8  # both sets together are 4096 rows


def test_bad_input() -> None:
    x = draw(4, 3)
    with pytest.raises(ValueError, match="target_second: shape"):
        FeatureTransfer()(x, x, x, x[:2])
    with pytest.raises(ValueError, match="target_first: torch.float64"):
        FeatureTransfer()(x, x, x.float(), x)
    with pytest.raises(ValueError, match="weight"):
        FeatureTransfer(weight=-1.0)
