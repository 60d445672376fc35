"""NegCLIP against a slow loop, CLIP and chance level."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nearfar.objectives import InfoNCE
from nearfar.objectives.negclip import NegCLIP
from nearfar.testing import LargestTensor, draw


def batch(num: int = 5, count: int = 2, dim: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    return draw(num, dim), draw(num, dim, seed=1), draw(num, count, dim, seed=2)


def score(x: Tensor, y: Tensor, temperature: float) -> float:
    return math.exp(float((x @ y) / (x.norm() * y.norm())) / temperature)


@pytest.mark.parametrize("temperature", [1.0, 0.07])
def test_is_the_loop(temperature: float) -> None:
    first, second, wrong = batch()
    loss = 0.0
    for i in range(5):
        own = score(first[i], second[i], temperature)
        texts = [*second, *wrong.reshape(-1, 4)]
        loss -= math.log(own / math.fsum(score(first[i], k, temperature) for k in texts))
        loss -= math.log(own / math.fsum(score(q, second[i], temperature) for q in first))
    assert NegCLIP(temperature)(first, second, wrong).item() == pytest.approx(loss / 10, rel=1e-10)


def test_limits() -> None:
    ones = torch.ones(5, 3)
    found = NegCLIP()(ones, ones, ones[:, None].expand(-1, 2, -1)).item()
    assert found == pytest.approx((math.log(15) + math.log(5)) / 2)
    # Wrong keys that nobody is near take no part: CLIP is left.
    clip = InfoNCE(0.01, symmetric=True)
    apart = torch.eye(5, 6, dtype=torch.float64)
    far = -apart.sum(0).expand(5, 1, 6)
    assert NegCLIP(0.01)(apart, apart + 0.1, far).item() == pytest.approx(clip(apart, apart + 0.1).item())


def test_every_first_view_sees_the_wrong_views_of_all_rows() -> None:
    first, second, wrong = batch()
    moved = wrong.clone()
    moved[3] += 1
    # Row 0's own gradient feels that row 3's wrong views have moved; second views ask first views only.
    q = first.requires_grad_()
    grads = [torch.autograd.grad(NegCLIP(1.0)(q, second, w), q)[0][0] for w in (wrong, moved)]
    assert (grads[0] - grads[1]).norm() > 1e-3
    reverse = InfoNCE(1.0)(second, first)
    forward = 2 * NegCLIP(1.0)(first, second, wrong) - reverse
    again = 2 * NegCLIP(1.0)(first, second, wrong.flip(0)) - reverse
    torch.testing.assert_close(forward, again)


def test_gradients() -> None:
    inputs = tuple(x.requires_grad_() for x in batch(4))
    assert torch.autograd.gradcheck(NegCLIP(0.5), inputs)


def test_half_precision_is_computed_in_single() -> None:
    inputs = [x.bfloat16() for x in batch()]
    found = NegCLIP()(*inputs)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, NegCLIP()(*(x.float() for x in inputs)))


def test_no_table_of_all_pairs() -> None:
    first, second, wrong = (x.float().requires_grad_() for x in batch(4096, 1, 8))
    with LargestTensor() as largest:
        NegCLIP()(first, second, wrong).backward()
    assert 4096 * 8 <= largest.numbers < 4096**2 / 8


def test_bad_input() -> None:
    first, second, wrong = batch()
    with pytest.raises(ValueError, match="wrong: .*got shape"):
        NegCLIP()(first, second, wrong[:3])
    with pytest.raises(ValueError, match="wrong: .*got shape"):
        NegCLIP()(first, second, wrong[:, 0])
    with pytest.raises(ValueError, match="second: shape"):
        NegCLIP()(first, second[:3], wrong)
    with pytest.raises(ValueError, match="temperature"):
        NegCLIP(-1.0)
