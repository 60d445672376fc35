"""DebCSE against a loop over the pairs drawn, and what it must not hold."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from nearfar.objectives import row_tiles
from nearfar.objectives.debcse import DebCSE
from nearfar.sampling import propensity
from nearfar.sampling.propensity import PairRule, draw_pairs
from nearfar.testing import LargestTensor


def draws(n: int = 7, dim: int = 4, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    z1, z2 = (torch.randn(n, dim, generator=rng, dtype=torch.float64) for _ in range(2))
    return z1, z2, torch.randn(n, 3, generator=rng), torch.rand(n, generator=rng)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def slow(z1: Tensor, z2: Tensor, pairs: tuple[Tensor, Tensor], temperature: float) -> float:
    """The definition, pair by pair."""
    q, k = (torch.nn.functional.normalize(z, dim=1) for z in (z1, z2))
    total = []
    for i, (drawn, negatives) in enumerate(zip(pairs[0].tolist(), pairs[1].tolist(), strict=True)):
        if negatives[0] < 0:
            continue
        s = [float(q[i] @ x) / temperature for x in k]
        others = math.fsum(math.exp(s[j]) for j in negatives)
        total += [-math.log(math.exp(s[p]) / (math.exp(s[p]) + others)) for p in (i, drawn)]
    return math.fsum(total) / len(total)


@pytest.mark.parametrize("numbers", [2**22, 60])
@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 0.5, "negatives": 3, "positives": 2}, {"guard": 0.4}, {"gamma": 0.0, "floor": 1e-6}],
)
def test_equals_the_definition(
    options: dict[str, Any], numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_tiles, "NUMBERS", numbers)
    z1, z2, side, surface = draws()
    loss = DebCSE(**options)
    rule = PairRule(
        gamma=options.get("gamma", 1.0),
        floor=options.get("floor", 1e-3),
        top=options.get("positives", 4),
        guard=options.get("guard", 0.9),
    )
    pairs = draw_pairs(side, surface, generator(), count=options.get("negatives", 32), rule=rule)
    expected = slow(z1, z2, pairs, options.get("temperature", 0.1))
    assert loss(z1, z2, side, surface, generator()).item() == pytest.approx(expected, abs=1e-10)
    assert loss(z1, z2, side, surface, generator(1)).item() != pytest.approx(expected, abs=1e-6)


def test_chance_and_rows_without_negatives() -> None:
    x = torch.ones(5, 3, dtype=torch.float64)
    side = torch.eye(5)
    for count in (1, 6):
        value = DebCSE(negatives=count)(x, x, side, torch.zeros(5), generator())
        assert value.item() == pytest.approx(math.log(1 + count))
    # Rows 0 and 1 are all that is alike: their guard leaves row 2, the others have each other.
    side = torch.tensor([[1.0, 0], [1, 0], [1, 0]])
    z = x[:3].clone().requires_grad_()
    value = DebCSE(negatives=2)(z, x[:3], side, torch.zeros(3), generator())
    value.backward()
    assert value.item() == 0
    assert z.grad is not None
    assert not z.grad.any()
    side = torch.tensor([[1.0, 0], [1, 0], [1, 0], [0, 1]])
    value = DebCSE(negatives=2)(x[:4], x[:4], side, torch.zeros(4), generator())
    assert value.item() == pytest.approx(math.log(3))


def test_large_logits_stay_exact() -> None:
    x = torch.tensor([[1.0, 0], [-1, 0]], requires_grad=True)
    side = torch.tensor([[1.0, 0], [-1, 0]])
    # Of two rows the other one is the positive, so that no negative is left.
    assert DebCSE(0.001)(x, x, side, torch.zeros(2), generator()).item() == 0
    x = torch.tensor([[1.0, 0], [1, 0], [-1, 0], [-1, 0]], requires_grad=True)
    value = DebCSE(0.001, positives=1, gamma=0.0)(x, -x, x.detach(), torch.zeros(4), generator())
    value.backward()
    assert value.item() == pytest.approx(2000 + math.log(32), rel=1e-5)
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("numbers", [2**22, 60])
def test_derivatives(numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_tiles, "NUMBERS", numbers)
    z1, z2, side, surface = draws()
    loss, side = DebCSE(0.3, negatives=4), side.requires_grad_()
    views = z1.requires_grad_(), z2.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b, side, surface, generator()), views)
    loss(*views, side, surface, generator()).backward()
    assert side.grad is None


def test_half_precision_is_computed_in_single() -> None:
    z1, z2, side, surface = draws()
    half = [z.bfloat16() for z in (z1, z2)]
    value = DebCSE()(*half, side, surface, generator())
    assert value.dtype == torch.float32
    wide = DebCSE()(*(z.float() for z in half), side, surface, generator())
    torch.testing.assert_close(value, wide, rtol=0, atol=0)


def test_nothing_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch, "autocast", lambda *_, **__: contextlib.nullcontext()
    )  # unknown on this device
    z1, z2, side, surface = (x.to("meta") for x in draws())  # where any read of a value fails
    DebCSE()(z1.requires_grad_(), z2, side, surface, generator()).backward()
    assert z1.grad is not None


def test_memory_is_that_of_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_tiles, "NUMBERS", 2**18)
    monkeypatch.setattr(propensity, "SCORES", 2**18)
    n = 4096
    z1, z2, side, surface = draws(n, 128)
    views = [z.float().requires_grad_() for z in (z1, z2)]
    with LargestTensor() as memory:
        DebCSE()(*views, side, surface, generator()).backward()
    assert n * 128 <= memory.numbers < n * n // 8


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.0},
        {"gamma": -1.0},
        {"surface_temperature": 0.0},
        {"guard": 0.0},
        {"positives": 0},
        {"negatives": 0},
        {"floor": 0.0},
    ],
)
def test_bad_numbers_are_named(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f"{'(top|positives)' if name == 'positives' else name}: "):
        DebCSE(**options)


def test_bad_arguments_are_named() -> None:
    z1, z2, side, surface = draws()
    for message, given in (
        ("first: .* N at least 2", (z1[:1], z2[:1], side[:1], surface[:1])),
        ("second: shape", (z1, z2[:3], side, surface)),
        (r"side: \(7, p\) expected", (z1, z2, side[:3], surface)),
        ("surface: ", (z1, z2, side, surface[:3])),
        ("surface: finite", (z1, z2, side, surface / 0)),
    ):
        with pytest.raises(ValueError, match=message):
            DebCSE()(*given, generator())
