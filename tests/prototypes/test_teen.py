"""TEEN: the definition by loops, and its limits."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from nearfar.prototypes import teen


def draws(dim: int = 4) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    base = torch.randn(6, dim, generator=rng, dtype=torch.float64)
    return base, torch.randn(3, dim, generator=rng, dtype=torch.float64)


def unit(x: list[float]) -> list[float]:
    return [a / math.hypot(*x) for a in x]


def slow(base: Tensor, new: Tensor, temperature: float, share: float) -> list[list[float]]:
    """The definition, one number at a time."""
    b, found = [unit(x) for x in base.tolist()], []
    for c in map(unit, new.tolist()):
        e = [math.exp(temperature * math.fsum(x * y for x, y in zip(c, row, strict=True))) for row in b]
        pull = unit(
            [math.fsum(w * row[place] for w, row in zip(e, b, strict=True)) for place in range(len(c))]
        )
        found.append([(1 - share) * x + share * y for x, y in zip(c, pull, strict=True)])
    return found


@pytest.mark.parametrize("temperature", [0.5, 16.0])
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_equals_the_definition(temperature: float, share: float) -> None:
    base, new = draws()
    found = teen(base, new, temperature=temperature, share=share)
    expected = torch.tensor(slow(base, new, temperature, share), dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_limits() -> None:
    base, new = draws()
    b, c = (torch.nn.functional.normalize(x, dim=1) for x in (base, new))
    torch.testing.assert_close(teen(base, new, share=0.0), c)
    nearest = b[(c @ b.T).argmax(1)]
    torch.testing.assert_close(teen(base, new, temperature=1e5, share=1.0), nearest)
    mean = torch.nn.functional.normalize(b.mean(0), dim=0).expand(3, -1)
    torch.testing.assert_close(teen(base, new, temperature=0.0, share=1.0), mean)
    # Lengths of what goes in mean nothing.
    torch.testing.assert_close(teen(7 * base, 0.1 * new), teen(base, new))


def test_pulls_towards_the_class_it_resembles() -> None:
    base = torch.eye(5)
    new = torch.tensor([[0.9, 0.3, 0.1, 0.1, 0.2]])
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(teen(base, new), base[:1]) > cosine(new, base[:1])
    assert cosine(teen(base, new), base[1:2]) < cosine(new, base[1:2])


def test_derivative_and_precision() -> None:
    base, new = (x.requires_grad_() for x in draws())
    assert torch.autograd.gradcheck(teen, (base, new))
    half = [x.detach().bfloat16() for x in (base, new)]
    assert teen(*half).dtype == torch.float32
    torch.testing.assert_close(teen(*half), teen(*(x.float() for x in half)), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("base: floating point", {"base": torch.ones(2, 2, dtype=torch.int64)}),
        ("base: .* with C at least 1", {"base": torch.ones(0, 2)}),
        ("new: .* 2 features", {"new": torch.ones(4, 3)}),
        ("new: finite", {"new": torch.full((4, 2), math.inf)}),
        ("temperature: a finite number", {"temperature": -1.0}),
        ("share: a number in", {"share": 1.5}),
    ],
)
def test_bad_arguments_are_named(message: str, options: dict[str, Any]) -> None:
    usual: dict[str, Any] = {"base": torch.ones(2, 2), "new": torch.ones(4, 2)}
    with pytest.raises(ValueError, match=message):
        teen(**usual | options)
