"""Counterfactual contrast: a slow loop, softplus, chance level, and rows that do not see each other."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.objectives import InfoNCE, LearnableTemperature
from nearfar.objectives.counterfactual import Counterfactual, counterfactual_loss
from nearfar.testing import LargestTensor, draw


def batch(num: int = 6, count: int = 3, dim: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    return draw(num, dim), draw(num, dim, seed=1), draw(num, count, dim, seed=2)


def cosine(x: Tensor, y: Tensor) -> float:
    return float((x @ y) / (x.norm() * y.norm()))


@pytest.mark.parametrize("temperature", [1.0, 0.1, 0.02])
def test_is_the_loop(temperature: float) -> None:
    first, second, wrong = batch()
    losses = []
    for q, k, others in zip(first, second, wrong, strict=True):
        right = math.exp(cosine(q, k) / temperature)
        losses.append(
            -math.log(right / (right + math.fsum(math.exp(cosine(q, w) / temperature) for w in others)))
        )
    found = counterfactual_loss(first, second, wrong, temperature=temperature)
    assert found.item() == pytest.approx(math.fsum(losses) / 6, rel=1e-10)
    both = InfoNCE(temperature)(first, second) + 0.5 * found
    assert Counterfactual(temperature, weight=0.5)(first, second, wrong).item() == pytest.approx(both.item())


def test_one_wrong_key_is_softplus_of_the_difference() -> None:
    first, second, wrong = batch(count=1)
    logits = [F.cosine_similarity(first, k) / 0.1 for k in (wrong[:, 0], second)]
    expected = F.softplus(logits[0] - logits[1]).mean()
    torch.testing.assert_close(counterfactual_loss(first, second, wrong), expected)


def test_limits() -> None:
    first, second, wrong = batch()
    same = second[:, None].expand(-1, 5, -1)
    assert counterfactual_loss(first, second, same).item() == pytest.approx(math.log(6))
    assert counterfactual_loss(first, first, -first[:, None]).item() == pytest.approx(math.exp(-20), rel=1e-6)
    assert torch.equal(Counterfactual(weight=0)(first, second, wrong), InfoNCE()(first, second))


def test_a_row_sees_its_own_wrong_keys_only() -> None:
    inputs = [x.requires_grad_() for x in batch()]
    alone = torch.autograd.grad(counterfactual_loss(*(x[:1] for x in inputs)), inputs)
    among = torch.autograd.grad(counterfactual_loss(*inputs), inputs)
    for one, all_of_them in zip(alone, among, strict=True):
        torch.testing.assert_close(all_of_them[0], one[0] / 6)
        assert one[0].abs().max() > 0
        assert one[1:].abs().max() == 0


def test_gradients() -> None:
    inputs = tuple(x.requires_grad_() for x in batch(4))
    assert torch.autograd.gradcheck(counterfactual_loss, inputs)
    assert torch.autograd.gradcheck(Counterfactual(0.5), inputs)
    loss = Counterfactual(LearnableTemperature(0.2)).double()
    loss(*inputs).backward()
    assert all(p.grad is not None and p.grad.abs() > 0 for p in loss.parameters())


def test_half_precision_is_computed_in_single() -> None:
    inputs = [x.bfloat16() for x in batch()]
    found = Counterfactual()(*inputs)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, Counterfactual()(*(x.float() for x in inputs)))


def test_no_table_of_all_pairs() -> None:
    first, second, wrong = (x.float().requires_grad_() for x in batch(4096, 2, 8))
    with LargestTensor() as largest:
        Counterfactual()(first, second, wrong).backward()
    assert 4096 * 2 * 8 <= largest.numbers < 4096**2 / 8


@pytest.mark.parametrize(
    ("message", "shapes"),
    [
        ("second: shape", ((4, 3), (5, 3), (4, 1, 3))),
        ("wrong: .*got shape", ((4, 3), (4, 3), (4, 0, 3))),
        ("wrong: .*got shape", ((4, 3), (4, 3), (5, 1, 3))),
        ("wrong: .*got shape", ((4, 3), (4, 3), (4, 3))),
        ("wrong: .*2 features|wrong: .*of shape", ((4, 3), (4, 3), (4, 1, 2))),
    ],
)
def test_bad_shapes(message: str, shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValueError, match=message):
        Counterfactual()(*(torch.ones(shape) for shape in shapes))


def test_bad_values() -> None:
    first, second, wrong = batch()
    with pytest.raises(ValueError, match="weight: .*-1"):
        Counterfactual(weight=-1)
    with pytest.raises(ValueError, match="temperature"):
        Counterfactual(0.0)
    with pytest.raises(ValueError, match="wrong: torch.float64"):
        counterfactual_loss(first, second, wrong.float())
    with pytest.raises(ValueError, match="wrong: finite"):
        counterfactual_loss(first, second, wrong * math.nan)
