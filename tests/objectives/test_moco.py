"""MoCo against a loop over a list of earlier keys; its queue through checkpoints and evaluation."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.objectives import InfoNCE, LearnableTemperature
from nearfar.objectives.moco import MoCo
from nearfar.testing import LargestTensor, draw


def loop(first: Tensor, keys: Tensor, earlier: list[Tensor], temperature: float) -> float:
    losses = []
    for q, k in zip(first, keys, strict=True):
        own = math.exp(float(F.cosine_similarity(q, k, 0)) / temperature)
        rest = math.fsum(math.exp(float(F.cosine_similarity(q, a, 0)) / temperature) for a in earlier)
        losses.append(-math.log(own / (own + rest)))
    return math.fsum(losses) / len(losses)


def test_is_the_loop_step_by_step() -> None:
    loss = MoCo(4, 0.3, queue=7).double()
    earlier: list[Tensor] = []
    for step in range(4):
        first, keys = draw(5, 4, seed=step), draw(5, 4, seed=100 + step)
        found = loss(first, keys).item()
        if earlier:
            assert found == pytest.approx(loop(first, keys, earlier, 0.3), rel=1e-9)
        else:  # nobody to differ from but the batch
            assert found == pytest.approx(InfoNCE(0.3)(first, keys).item())
        loss.after_step()
        earlier = [*earlier, *keys][-7:]
        assert len(loss.queue) == len(earlier)


def test_forward_changes_nothing() -> None:
    loss = MoCo(4, queue=7).double()
    first, keys = draw(5, 4), draw(5, 4, seed=1)
    loss(first, keys)
    loss.after_step()
    before = {name: x.clone() for name, x in loss.state_dict().items()}
    assert loss(first, keys).item() == loss(first, keys).item()
    assert all(torch.equal(x, before[name]) for name, x in loss.state_dict().items())
    loss.after_step()
    loss.after_step()  # the keys of a step are queued once
    assert len(loss.queue) == 7


def test_evaluation_queues_nothing() -> None:
    loss = MoCo(4).eval()
    loss(draw(5, 4).float(), draw(5, 4, seed=1).float())
    loss.after_step()
    assert len(loss.queue) == 0


def test_checkpoints_go_on() -> None:
    loss, again = MoCo(4, queue=7).double(), MoCo(4, queue=7).double()
    for step in range(3):
        loss(draw(5, 4, seed=step), draw(5, 4, seed=9 + step))
        loss.after_step()
    again.load_state_dict(loss.state_dict())
    first, keys = draw(5, 4, seed=20), draw(5, 4, seed=21)
    assert torch.equal(again(first, keys), loss(first, keys))
    for module in (again, loss):
        module.after_step()
    assert torch.equal(again.queue.keys, loss.queue.keys)


def test_gradients_reach_the_anchors_only() -> None:
    first, keys = draw(4, 3).requires_grad_(), draw(4, 3, seed=1).requires_grad_()
    loss = MoCo(3, LearnableTemperature(0.5)).double()
    loss(first, keys)
    loss.after_step()
    loss(first, keys).backward()
    assert first.grad is not None
    assert keys.grad is None
    assert all(p.grad is not None and p.grad.abs() > 0 for p in loss.parameters())
    assert torch.autograd.gradcheck(lambda first: loss(first, keys.detach()), (first,))


def test_half_precision_is_computed_in_single() -> None:
    first, keys = draw(6, 4).bfloat16(), draw(6, 4, seed=1).bfloat16()
    half, single = MoCo(4), MoCo(4)
    for _ in range(2):
        found = half(first, keys)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, single(first.float(), keys.float()))
        half.after_step()
        single.after_step()


def test_no_table_of_all_pairs() -> None:
    first, keys = draw(4096, 8).float().requires_grad_(), draw(4096, 8, seed=1).float()
    loss = MoCo(8)
    with LargestTensor() as largest:
        for _ in range(2):
            loss(first, keys).backward()
            loss.after_step()
    assert 4096 * 8 <= largest.numbers < 4096**2 / 8


def test_bad_input() -> None:
    x = torch.ones(4, 3)
    with pytest.raises(ValueError, match="dim: .*0"):
        MoCo(0)
    with pytest.raises(ValueError, match="queue: .*-2"):
        MoCo(3, queue=-2)
    with pytest.raises(ValueError, match="temperature"):
        MoCo(3, 0.0)
    with pytest.raises(ValueError, match="first: 5 features"):
        MoCo(5)(x, x)
    with pytest.raises(ValueError, match="target_second: shape"):
        MoCo(3)(x, x[:2])
