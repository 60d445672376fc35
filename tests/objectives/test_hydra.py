"""Gated InfoNCE against a loop, InfoNCE as its limit, gates of labels, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.objectives import InfoNCE, LearnableTemperature, row_tiles
from nearfar.objectives.hydra import Hydra, PairGate, gated_infonce_loss
from nearfar.testing import LargestTensor, two_views

LABELS = torch.tensor([0, 2, 1, 0, -1, 1])


def seeded(dim: int = 4, **options: Any) -> Hydra:
    rng = torch.Generator().manual_seed(1)
    loss = Hydra(dim, 3, embedding=5, **options).double()
    with torch.no_grad():
        for parameter in loss.gate.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng))
    return loss


def gates(num: int = 6, dim: int = 4) -> Tensor:
    return torch.rand(num, dim, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def slow(first: Tensor, second: Tensor, gates: Tensor, temperature: float) -> float:
    """The definition, one pair at a time."""
    loss = 0.0
    for i, (q, g) in enumerate(zip(first.detach(), gates.detach(), strict=True)):
        s = [float(F.cosine_similarity(g * q, g * k, dim=0)) / temperature for k in second.detach()]
        loss += math.log(sum(map(math.exp, s))) - s[i]
    return loss / len(first)


@pytest.mark.parametrize("numbers", [1, 50, 2**22])
@pytest.mark.parametrize("temperature", [0.05, 0.1, 1.0])
def test_equals_the_definition(temperature: float, numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_tiles, "NUMBERS", numbers)
    first, second = two_views()
    expected = slow(first, second, gates(), temperature)
    found = gated_infonce_loss(first, second, gates(), temperature=temperature)
    assert found.item() == pytest.approx(expected, rel=1e-10)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    found = gated_infonce_loss(
        9 * first[order], 2 * second[order], 3 * gates()[order], temperature=temperature
    )
    assert found.item() == pytest.approx(expected, rel=1e-10)
    loss = seeded(temperature=temperature)
    expected = slow(first, second, loss.gate(LABELS, LABELS), temperature)
    assert loss(first, second, LABELS).item() == pytest.approx(expected, rel=1e-10)


def test_gates_of_one_are_infonce() -> None:
    first, second = two_views()
    expected = InfoNCE(0.1)(first, second)
    found = gated_infonce_loss(first, second, torch.ones_like(first))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    loss = seeded()
    torch.testing.assert_close(loss(first, second, torch.full((6,), -1)), expected, rtol=1e-12, atol=0)
    with torch.no_grad():
        loss.gate.mlp[2].weight.zero_()  # type: ignore[operator]
        loss.gate.mlp[2].bias.fill_(50)  # type: ignore[operator]
    torch.testing.assert_close(loss(first, second, LABELS), expected, rtol=1e-12, atol=0)


def test_gates_choose_features() -> None:
    first, second = two_views()
    some = torch.tensor([1.0, 1, 0, 0], dtype=torch.float64).expand(6, 4)
    expected = InfoNCE(0.1)(first[:, :2], second[:, :2])
    torch.testing.assert_close(gated_infonce_loss(first, second, some), expected, rtol=1e-12, atol=0)
    # A gate that closes everything: chance, and no NaN.
    shut = torch.zeros_like(first).requires_grad_()
    loss = gated_infonce_loss(first, second, shut)
    assert loss.item() == pytest.approx(math.log(6))
    assert torch.autograd.grad(loss, first)[0].isfinite().all()


def test_gates_of_pairs() -> None:
    gate = seeded().gate
    a, b = torch.tensor([0, 1, 2, -1, 1]), torch.tensor([1, 0, 2, 1, -2])
    found = gate(a, b)
    torch.testing.assert_close(found[0], found[1])
    assert not torch.allclose(found[0], found[2])
    assert torch.equal(found[3:], torch.ones(2, 4).double())
    assert bool(((found[:3] > 0) & (found[:3] < 1)).all())


def test_derivatives(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = two_views(4)
    gate = gates(4).requires_grad_()
    for numbers in (1, 2**22):
        monkeypatch.setattr(row_tiles, "NUMBERS", numbers)
        assert torch.autograd.gradcheck(gated_infonce_loss, (first, second, gate))
    assert torch.autograd.gradgradcheck(
        lambda *x: gated_infonce_loss(*x, temperature=1.0), (first, second, gate)
    )
    loss = seeded(temperature=LearnableTemperature(0.5))
    loss(*two_views(), LABELS).backward()
    for name, parameter in loss.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_no_table_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_tiles, "NUMBERS", 2**20)
    first, second = two_views(4096, 4, torch.float32)
    with LargestTensor() as memory:
        Hydra(4, 3)(first, second, torch.arange(4096) % 3).backward()
    assert memory.numbers < 4096**2 / 8


def test_half_precision_is_computed_in_single() -> None:
    first, second = two_views(dtype=torch.bfloat16)
    loss = Hydra(4, 3)
    expected = loss(first.float(), second.float(), LABELS)
    torch.testing.assert_close(loss(first, second, LABELS), expected, rtol=0, atol=0)
    with torch.autocast("cpu"):
        torch.testing.assert_close(loss(first.float(), second.float(), LABELS), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("dim: ", {"dim": 0}),
        ("num_classes: ", {"num_classes": 0}),
        ("embedding: ", {"embedding": 0}),
        ("temperature: ", {"temperature": 0.0}),
    ],
)
def test_bad_arguments_are_named(message: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=message):
        Hydra(**{"dim": 4, "num_classes": 3} | options)


def test_bad_tensors_are_named() -> None:
    first, second = two_views(dtype=torch.float32)
    for bad in (LABELS[:4], LABELS.double(), LABELS + 1):
        with pytest.raises(ValueError, match="labels: "):
            Hydra(4, 3)(first, second, bad)
    with pytest.raises(ValueError, match="b: integers below 3 expected, got .* to 3"):
        PairGate(4, 3)(LABELS, LABELS + 1)
    with pytest.raises(ValueError, match="first: 5 features"):
        Hydra(5, 3)(first, second, LABELS)
    with pytest.raises(ValueError, match="gates: "):
        gated_infonce_loss(first, second, torch.ones(6, 3))
