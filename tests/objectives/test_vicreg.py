"""VICReg against loops and closed forms."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
from torch import Tensor

from nearfar.objectives.vicreg import VICReg, vicreg_loss

PAPER = (25.0, 25.0, 1.0, 0.5, 1e-4)
NAMES = ("invariance_weight", "variance_weight", "covariance_weight", "variance_factor", "eps")


def slow(a: Tensor, b: Tensor, options: tuple[float, ...]) -> float:
    """The definition, one number at a time."""
    invariance, variance, covariance, factor, eps = options
    num_rows, num_features = a.shape
    pairs = zip(a.flatten().tolist(), b.flatten().tolist(), strict=True)
    loss = invariance * math.fsum((x - y) ** 2 for x, y in pairs) / (num_rows * num_features)
    for columns in (a.T.tolist(), b.T.tolist()):
        hinges = [max(0.0, 1 - math.sqrt(statistics.variance(x) + eps)) for x in columns]
        loss += variance * factor * math.fsum(hinges) / num_features
        for i, x in enumerate(columns):
            for j, y in enumerate(columns):
                if i != j:
                    loss += covariance * statistics.covariance(x, y) ** 2 / num_features
    return loss


def draws(num_rows: int, num_features: int, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    shape = num_rows, num_features
    a, b = (scale * torch.randn(shape, generator=rng, dtype=torch.float64) for _ in range(2))
    return a, b


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])  # hinges all active, some, none
@pytest.mark.parametrize("options", [PAPER, (1.0, 2.0, 3.0, 1.0, 0.01), (0.0, 0.0, 1.0, 0.5, 1e-4)])
def test_equals_the_definition(options: tuple[float, ...], scale: float) -> None:
    a, b = draws(6, 4, scale)
    named = dict(zip(NAMES, options, strict=True))
    expected = slow(a, b, options)
    assert vicreg_loss(a, b, **named).item() == pytest.approx(expected, rel=1e-12)
    assert VICReg(**named)(a, b).item() == pytest.approx(expected, rel=1e-12)
    assert VICReg(**named).config == named


def test_defaults_are_those_of_the_code_of_the_paper() -> None:
    a, b = draws(6, 4, 0.5)
    assert VICReg()(a, b).item() == pytest.approx(slow(a, b, PAPER), rel=1e-12)


def test_known_answers() -> None:
    x = torch.tensor([[1.0, 1], [1, -1]], dtype=torch.float64)
    x = torch.kron(torch.kron(x, x), x)[:, 1:]  # columns uncorrelated, unbiased variance 8 / 7
    assert vicreg_loss(x, x).item() == pytest.approx(0, abs=1e-12)
    # A shift by 1 is all that differs.
    assert vicreg_loss(x, x + 1).item() == pytest.approx(25, abs=1e-9)
    # One feature twice: two covariances of 8 / 7 over d = 2 features, in both views.
    twice = x[:, [0, 0]]
    assert vicreg_loss(twice, twice).item() == pytest.approx(2 * (8 / 7) ** 2, abs=1e-9)


def test_large_features_do_not_drown_the_covariances_of_small_ones() -> None:
    x = torch.tensor([[1.0, 1], [1, -1]])
    x = torch.kron(torch.kron(x, x), x)
    a = torch.stack([3e4 * x[:, 1], x[:, 2], x[:, 2]], 1)  # float32 cannot subtract 1e18 from 1e18 + 1
    loss = vicreg_loss(a, a, invariance_weight=0, variance_weight=0).item()
    assert loss == pytest.approx(2 * 2 * (8 / 7) ** 2 / 3, rel=1e-5)


def test_derivatives() -> None:
    a, b = (x.requires_grad_() for x in draws(5, 3, 0.7))
    assert torch.autograd.gradcheck(vicreg_loss, (a, b))
    assert torch.autograd.gradgradcheck(vicreg_loss, (a, b))


def test_collapse_has_finite_gradients() -> None:
    a = torch.ones(4, 3, requires_grad=True)
    loss = vicreg_loss(a, a.detach())
    loss.backward()
    assert loss.item() == pytest.approx(25 * 0.99)
    assert a.grad is not None
    assert a.grad.isfinite().all()


def test_half_precision_and_autocast_are_computed_in_single() -> None:
    a, b = (x.bfloat16() for x in draws(16, 4))
    expected = vicreg_loss(a.float(), b.float())
    torch.testing.assert_close(vicreg_loss(a, b), expected, rtol=0, atol=0)
    with torch.autocast("cpu"):
        torch.testing.assert_close(vicreg_loss(a.float(), b.float()), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("a: .* N at least 2", {"a": torch.ones(1, 2)}),
        ("b: .* got .*shape", {"b": torch.ones(3, 3)}),
        ("a: finite", {"a": torch.full((3, 2), math.inf)}),
        ("eps: a finite positive", {"eps": 0}),
        *((f"{name}: a finite", {name: -1.0}) for name in NAMES),
        *((f"{name}: a finite", {name: math.nan}) for name in NAMES),
    ],
)
def test_bad_arguments_are_named(message: str, arguments: dict[str, object]) -> None:
    views = {"a": torch.ones(3, 2), "b": torch.ones(3, 2)}
    with pytest.raises(ValueError, match=message):
        vicreg_loss(**views | arguments)  # type: ignore[arg-type]
    if not {"a", "b"} & set(arguments):
        with pytest.raises(ValueError, match=message):
            VICReg(**arguments)  # type: ignore[arg-type]
