"""CRD is two MoCo directions with one queue: against both, and against a loop."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.objectives.crd import CRD
from nearfar.objectives.moco import MoCo, QueuedObjective
from nearfar.testing import LargestTensor, draw


def views(seed: int = 0, num: int = 5, dim: int = 4) -> list[Tensor]:
    return [draw(num, dim, seed=10 * seed + i) for i in range(4)]


def loop(q: Tensor, keys: Tensor, earlier: list[Tensor]) -> float:
    losses = []
    for row, k in zip(q, keys, strict=True):
        own = math.exp(float(F.cosine_similarity(row, k, 0)) / 0.3)
        rest = math.fsum(math.exp(float(F.cosine_similarity(row, a, 0)) / 0.3) for a in earlier)
        losses.append(-math.log(own / (own + rest)))
    return math.fsum(losses) / len(losses)


def test_is_the_loop_step_by_step() -> None:
    loss = CRD(4, 0.3, queue=17).double()
    earlier: list[Tensor] = []
    for step in range(4):
        first, second, target_first, target_second = views(step)
        found = loss(first, second, target_first, target_second).item()
        if earlier:
            expected = loop(first, target_second, earlier) + loop(second, target_first, earlier)
            assert found == pytest.approx(expected / 2, rel=1e-9)
        loss.after_step()
        earlier = [*earlier, *target_first, *target_second][-17:]
        assert len(loss.queue) == len(earlier)


def test_is_two_directions_of_moco() -> None:
    both, one = CRD(4, 0.2).double(), MoCo(4, 0.2).double()
    assert isinstance(both, QueuedObjective)
    assert isinstance(one, QueuedObjective)
    for step in range(2):
        first, second, target_first, target_second = views(step)
        expected = (one(first, target_second) + one(second, target_first)) / 2
        torch.testing.assert_close(both(first, second, target_first, target_second), expected)
        both.after_step()
        one.queue = both.queue


def test_views_may_change_places() -> None:
    loss = CRD(4).double()
    first, second, target_first, target_second = views()
    loss(*views(1))
    loss.after_step()
    swapped = loss(second, first, target_second, target_first)
    torch.testing.assert_close(loss(first, second, target_first, target_second), swapped)


def test_gradients_reach_the_student_only() -> None:
    inputs = [x.requires_grad_() for x in views(num=4)]
    loss = CRD(4, 0.5).double()
    loss(*inputs)
    loss.after_step()
    loss(*inputs).backward()
    assert [x.grad is not None for x in inputs] == [True, True, False, False]
    fixed = [x.detach() for x in inputs[2:]]
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b, *fixed), tuple(inputs[:2]))


def test_no_table_of_all_pairs() -> None:
    inputs = [x.float().requires_grad_() for x in views(num=4096, dim=8)]
    loss = CRD(8)
    with LargestTensor() as largest:
        for _ in range(2):
            loss(*inputs).backward()
            loss.after_step()
    assert 4096 * 8 <= largest.numbers < 4096**2 / 8


def test_bad_input() -> None:
    x = torch.ones(4, 3)
    with pytest.raises(ValueError, match="dim: .*0"):
        CRD(0)
    with pytest.raises(ValueError, match="queue: .*0"):
        CRD(3, queue=0)
    with pytest.raises(ValueError, match="first: 5 features"):
        CRD(5)(x, x, x, x)
    with pytest.raises(ValueError, match="target_first: shape"):
        CRD(3)(x, x, x[:2], x)
