"""Masks against their closed forms, by Monte Carlo."""

from __future__ import annotations

import math

import pytest
import torch

from nearfar.timeseries.autotcl.gate import Gate, HardConcrete, ReleasedGate

DRAWS = 200_000


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("logit", [-3.0, -1.0, 0.0, 1.0, 3.0])
@pytest.mark.parametrize("temperature", [0.5, 2 / 3, 1.5])
def test_share_of_nonzero_masks_is_the_probability(logit: float, temperature: float) -> None:
    gate = HardConcrete(hard=False, temperature=temperature)
    logits = torch.full((DRAWS,), logit, dtype=torch.float64)
    found = float((gate.sample(logits, generator()) > 0).double().mean())
    expected = 1 / (1 + math.exp(-(logit - temperature * math.log(0.1 / 1.1))))
    assert gate.keep_probability(logits[:1]).item() == pytest.approx(expected)
    assert abs(found - expected) < 4 * math.sqrt(expected * (1 - expected) / DRAWS) + 1e-12


@pytest.mark.parametrize("pi", [0.0, 0.3, 0.638, 1.0])
@pytest.mark.parametrize(("stretch", "bias"), [(0.05, 0.05), (0.02, 0.05), (0.499, 0.0006)])
def test_released_gate_keeps_with_its_closed_form(pi: float, stretch: float, bias: float) -> None:
    gate = ReleasedGate(stretch=stretch, bias=bias)
    logits = torch.full((DRAWS,), math.log(pi / (1 - pi)) if 0 < pi < 1 else (pi - 0.5) * 200).double()
    found = float(gate.sample(logits, generator()).mean())
    dropped = 1 / (1 + math.exp(-(math.log(1 + 2 * stretch) - pi)))
    expected = min(max((1 - bias - dropped) / (1 - 2 * bias), 0), 1)
    assert gate.keep_probability(logits[:1]).item() == pytest.approx(expected)
    assert abs(found - expected) < 4 * math.sqrt(expected * (1 - expected) / DRAWS) + 1e-12


def test_released_gate_can_keep_neither_little_nor_much() -> None:
    ends = ReleasedGate().keep_probability(torch.tensor([-100.0, 100.0]))
    assert ends.tolist() == pytest.approx([0.474, 0.735], abs=1e-3)


def test_cold_masks_are_bernoulli() -> None:
    gate, logits = HardConcrete(hard=False, temperature=1e-4), torch.full((DRAWS,), 0.7).double()
    mask = gate.sample(logits, generator())
    assert float(((mask > 0) & (mask < 1)).double().mean()) < 1e-3
    pi = torch.sigmoid(logits[0]).item()
    assert abs(mask.mean().item() - pi) < 4 * math.sqrt(pi * (1 - pi) / DRAWS)


@pytest.mark.parametrize("kind", [HardConcrete, ReleasedGate])
def test_hard_masks_are_zeros_and_ones_with_the_soft_gradient(kind: type[Gate]) -> None:
    logits = torch.linspace(-3, 3, 50).double()
    draw = torch.rand(50, generator=generator(), dtype=torch.float64)
    weight = torch.randn(50, generator=generator(), dtype=torch.float64)
    soft_in, hard_in = (logits.clone().requires_grad_() for _ in range(2))
    soft, hard = kind(hard=False).of(soft_in, draw), kind(hard=True).of(hard_in, draw)
    assert set(hard.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(hard, (soft > 0.5).double())
    (weight * soft).sum().backward()
    (weight * hard).sum().backward()
    assert torch.equal(soft_in.grad, hard_in.grad)  # type: ignore[arg-type]
    assert soft_in.grad.abs().sum() > 0  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", [HardConcrete, ReleasedGate])
@pytest.mark.parametrize("draw", [0.0, 1e-9, 1 - 2**-24, 1.0])
def test_extreme_draws_stay_finite(kind: type[Gate], draw: float) -> None:
    logits = torch.tensor([-60.0, 0.0, 60.0], requires_grad=True)
    mask = kind(hard=False).of(logits, torch.full((3,), draw))
    mask.sum().backward()
    assert mask.isfinite().all()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_derivative_of_the_expected_number_of_kept_steps() -> None:
    gate, a = HardConcrete(), torch.linspace(-4, 4, 9).double().requires_grad_()
    gate.keep_probability(a).sum().backward()
    step = 1e-6
    ends = [gate.keep_probability(a.detach() + sign * step) for sign in (1, -1)]
    assert torch.allclose(a.grad, (ends[0] - ends[1]) / (2 * step), atol=1e-8)  # type: ignore[arg-type]


def test_numbers_out_of_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match="high=1"):
        HardConcrete(high=1.0)
    with pytest.raises(ValueError, match=r"bias=0\.5"):
        ReleasedGate(bias=0.5)
