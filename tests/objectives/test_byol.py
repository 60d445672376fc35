"""BYOL and SimSiam against loops, known angles, and what must not happen: gradients through targets."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nearfar.objectives.byol import BYOL, byol_loss
from nearfar.objectives.simsiam import SimSiam, simsiam_loss


def slow(p: Tensor, z: Tensor) -> float:
    """The definition, one number at a time."""
    total = []
    for a, b in zip(p.tolist(), z.tolist(), strict=True):
        dot = math.fsum(x * y for x, y in zip(a, b, strict=True))
        total.append(2 - 2 * dot / (math.hypot(*a) * math.hypot(*b)))
    return math.fsum(total) / len(total)


def draws(number: int, seed: int = 0) -> list[Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(6, 5, generator=rng, dtype=torch.float64) for _ in range(number)]


def test_equals_the_definition() -> None:
    p1, z2, p2, z1 = draws(4)
    assert byol_loss(p1, z2).item() == pytest.approx(slow(p1, z2), abs=1e-10)
    both = (slow(p1, z2) + slow(p2, z1)) / 2
    for loss in (byol_loss, BYOL(), simsiam_loss, SimSiam()):
        assert loss(p1, z2, p2, z1).item() == pytest.approx(both, abs=1e-10)


@pytest.mark.parametrize(("degrees", "value"), [(0, 0), (60, 1), (90, 2), (180, 4)])
def test_known_angles(degrees: float, value: float) -> None:
    angle = math.radians(degrees)
    p = torch.tensor([[3.0, 0.0]], dtype=torch.float64)
    z = torch.tensor([[0.2 * math.cos(angle), 0.2 * math.sin(angle)]], dtype=torch.float64)
    assert byol_loss(p, z).item() == pytest.approx(value, abs=1e-9)


def test_descent_brings_views_together() -> None:
    p, z = draws(2)
    start = byol_loss(p, z)
    (grad,) = torch.autograd.grad(byol_loss(p.requires_grad_(), z), p)
    assert byol_loss(p - 0.1 * grad, z) < start


def test_only_predictions_receive_gradients() -> None:
    p1, z2, p2, z1 = (x.requires_grad_() for x in draws(4))
    byol_loss(p1, z2, p2, z1).backward()
    assert p1.grad is not None
    assert p2.grad is not None
    assert z1.grad is None
    assert z2.grad is None
    fixed = (z2.detach(), z1.detach())
    assert torch.autograd.gradcheck(lambda p1, p2: byol_loss(p1, fixed[0], p2, fixed[1]), (p1, p2))
    # Even where prediction and target are one tensor, the target is a constant.
    x = draws(1, seed=1)[0].requires_grad_()
    torch.testing.assert_close(
        torch.autograd.grad(byol_loss(x, 2 * x), x)[0], torch.zeros_like(x), atol=1e-10, rtol=0
    )


def test_half_precision_is_computed_in_single_and_zero_rows_stay_finite() -> None:
    p, z = (x.bfloat16() for x in draws(2))
    assert byol_loss(p, z).dtype == torch.float32
    torch.testing.assert_close(byol_loss(p, z), byol_loss(p.float(), z.float()), rtol=0, atol=0)
    zero = torch.zeros(3, 4, requires_grad=True)
    byol_loss(zero, torch.ones(3, 4)).backward()
    assert zero.grad is not None
    assert zero.grad.isfinite().all()


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("p1: floating point", {"p1": torch.ones(3, 2, dtype=torch.int64), "z2": torch.ones(3, 2)}),
        ("p1: .* got shape", {"p1": torch.ones(2, 3, 2), "z2": torch.ones(2, 3, 2)}),
        ("p1: .* N at least 1", {"p1": torch.ones(0, 2), "z2": torch.ones(0, 2)}),
        ("p1: finite", {"p1": torch.full((3, 2), math.nan), "z2": torch.ones(3, 2)}),
        ("z2: finite", {"p1": torch.ones(3, 2), "z2": torch.full((3, 2), math.inf)}),
        ("z2: shape", {"p1": torch.ones(3, 2), "z2": torch.ones(4, 2)}),
        ("z2: torch.float32", {"p1": torch.ones(3, 2), "z2": torch.ones(3, 2).double()}),
        ("z1: expected beside p2", {"p1": torch.ones(3, 2), "z2": torch.ones(3, 2), "p2": torch.ones(3, 2)}),
        ("p2: expected beside z1", {"p1": torch.ones(3, 2), "z2": torch.ones(3, 2), "z1": torch.ones(3, 2)}),
        (
            "p2: shape",
            {
                "p1": torch.ones(3, 2),
                "z2": torch.ones(3, 2),
                "p2": torch.ones(4, 2),
                "z1": torch.ones(3, 2),
            },
        ),
    ],
)
def test_bad_arguments_are_named(message: str, arguments: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match=message):
        byol_loss(**arguments)
