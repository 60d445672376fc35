"""Relational distillation against a loop, tile by tile, and its limits."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.objectives import InfoNCE, LearnableTemperature, row_tiles
from nearfar.objectives.relational import Relational, relational_distillation
from nearfar.testing import LargestTensor, draw


def views(num: int = 7, dim: int = 4, wide: int = 6) -> list[Tensor]:
    return [draw(num, dim if i < 2 else wide, seed=i) for i in range(4)]


def softmax(q: Tensor, keys: Tensor, temperature: float) -> list[float]:
    powers = [math.exp(float(F.cosine_similarity(q, k, 0)) / temperature) for k in keys]
    return [x / math.fsum(powers) for x in powers]


def slow(inputs: list[Tensor], temperature: float, teacher_temperature: float) -> float:
    q, k, shown, keys = inputs
    total = 0.0
    for i in range(len(q)):
        wanted = softmax(shown[i], keys, teacher_temperature)
        found = softmax(q[i], k, temperature)
        total += math.fsum(p * math.log(p / r) for p, r in zip(wanted, found, strict=True))
    return total / len(q)


@pytest.mark.parametrize("tile", [1, 3, 7, None])
def test_is_the_loop(tile: int | None) -> None:
    inputs = [x.requires_grad_() for x in views()]
    found = relational_distillation(*inputs, temperature=0.3, teacher_temperature=0.2, tile=tile)
    assert found.item() == pytest.approx(slow([x.detach() for x in inputs], 0.3, 0.2), rel=1e-9)
    whole = relational_distillation(*inputs, temperature=0.3, teacher_temperature=0.2)
    for got, want in zip(
        torch.autograd.grad(found, inputs[:2]), torch.autograd.grad(whole, inputs[:2]), strict=True
    ):
        torch.testing.assert_close(got, want)


def test_module_adds_infonce() -> None:
    inputs = views()
    loss = Relational(0.3, teacher_temperature=0.2, weight=0.7)
    expected = InfoNCE(0.3)(*inputs[:2]).item() + 0.7 * slow(inputs, 0.3, 0.2)
    assert loss(*inputs).item() == pytest.approx(expected, rel=1e-9)
    assert torch.equal(Relational(weight=0)(*inputs), InfoNCE()(*inputs[:2]))


def test_limits() -> None:
    first, second, *_ = inputs = views()
    turn = torch.linalg.qr(draw(4, 4, seed=9))[0]
    same = relational_distillation(first, second, 3 * first @ turn, second @ turn)
    assert same.item() == pytest.approx(0, abs=1e-12)
    assert relational_distillation(*inputs).item() > 1e-2
    # A teacher that is sure of the own key asks what InfoNCE asks.
    eye = torch.eye(7, dtype=torch.float64)
    hard = relational_distillation(first, second, eye, eye, teacher_temperature=0.01)
    torch.testing.assert_close(hard, InfoNCE()(first, second))
    # A teacher that is sure of nothing: cross-entropy with the uniform distribution, minus its entropy.
    flat = relational_distillation(first, second, *inputs[2:], teacher_temperature=1e9)
    log_softmax = (F.cosine_similarity(first[:, None], second, dim=-1) / 0.1).log_softmax(1)
    torch.testing.assert_close(flat, -log_softmax.mean() - math.log(7))


def test_gradients() -> None:
    inputs = [x.requires_grad_() for x in views(5, 3)]
    loss = Relational(LearnableTemperature(0.5), teacher_temperature=0.5).double()
    loss(*inputs).backward()
    assert [x.grad is not None for x in inputs] == [True, True, False, False]
    assert all(p.grad is not None and p.grad.abs() > 0 for p in loss.parameters())
    fixed = [x.detach() for x in inputs[2:]]
    assert torch.autograd.gradcheck(
        lambda a, b: relational_distillation(a, b, *fixed, tile=2), tuple(inputs[:2])
    )


def test_gradient_of_a_learned_temperature_is_that_of_one_tile() -> None:
    temperature = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    grads = [
        torch.autograd.grad(
            relational_distillation(*views(), temperature=temperature, tile=tile), temperature
        )[0]
        for tile in (2, None)
    ]
    torch.testing.assert_close(grads[0], grads[1])
    assert torch.autograd.gradcheck(
        lambda t: relational_distillation(*views(), temperature=t), (temperature,)
    )


def test_half_precision_is_computed_in_single() -> None:
    inputs = [x.bfloat16() for x in views()]
    found = Relational()(*inputs)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, Relational()(*(x.float() for x in inputs)))


def test_no_table_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_tiles, "NUMBERS", 2**20)
    inputs = [x.float().requires_grad_() for x in views(4096, 8, 8)]
    with LargestTensor() as largest:
        Relational()(*inputs).backward()
    assert 2**20 // 4 <= largest.numbers < 4096**2 / 8


def test_bad_input() -> None:
    x = draw(4, 3)
    with pytest.raises(ValueError, match="temperature: a positive number"):
        relational_distillation(x, x, x, x, temperature=-1.0)
    with pytest.raises(ValueError, match="teacher_temperature"):
        Relational(teacher_temperature=0.0)
    with pytest.raises(ValueError, match="weight"):
        Relational(weight=-1.0)
    with pytest.raises(ValueError, match="teacher_q: 4 rows expected, got 2"):
        relational_distillation(x, x, x[:2], x[:2])
    with pytest.raises(ValueError, match="target_first: 4 rows expected, got 2"):
        Relational()(x, x, x[:2], x[:2])
    with pytest.raises(ValueError, match="teacher_k: shape"):
        relational_distillation(x, x, x, x[:2])
    with pytest.raises(ValueError, match="student_k: shape"):
        relational_distillation(x, x[:2], x, x)
    with pytest.raises(ValueError, match="tile"):
        relational_distillation(x, x, x, x, tile=0)
