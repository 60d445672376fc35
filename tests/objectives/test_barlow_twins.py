"""Barlow Twins against loops, closed forms and expectations."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from nearfar.objectives.barlow_twins import BarlowTwins, barlow_twins_loss


def slow(a: Tensor, b: Tensor, weight: float, eps: float) -> float:
    """The definition, one number at a time."""
    num_rows, num_features = a.shape

    def standardized(column: list[float]) -> list[float]:
        mean = math.fsum(column) / num_rows
        deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in column) / num_rows + eps)
        return [(x - mean) / deviation for x in column]

    first, second = ([standardized(column) for column in x.T.tolist()] for x in (a, b))
    loss = 0.0
    for i in range(num_features):
        for j in range(num_features):
            c = math.fsum(x * y for x, y in zip(first[i], second[j], strict=True)) / num_rows
            loss += (1 - c) ** 2 if i == j else weight * c**2
    return loss


def draws(num_rows: int, num_features: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    shape = num_rows, num_features
    a, b = (3 * torch.randn(shape, generator=rng, dtype=torch.float64) + 1 for _ in range(2))
    return a, b


@pytest.mark.parametrize("eps", [1e-5, 0.5])
@pytest.mark.parametrize(("weight", "value"), [(5e-3, 5e-3), (0.3, 0.3), ("1/d", 1 / 4)])
def test_equals_the_definition(weight: float, value: float, eps: float) -> None:
    a, b = draws(7, 4)
    expected = slow(a, b, value, eps)
    assert barlow_twins_loss(a, b, off_diagonal_weight=weight, eps=eps).item() == pytest.approx(
        expected, abs=1e-10
    )
    assert BarlowTwins(weight, eps)(a, b).item() == pytest.approx(expected, abs=1e-10)


def test_defaults_are_those_of_the_paper() -> None:
    a, b = draws(7, 4)
    assert BarlowTwins()(a, b).item() == pytest.approx(slow(a, b, 5e-3, 1e-5), abs=1e-10)


def test_identical_decorrelated_views_give_zero_and_opposite_ones_four_a_feature() -> None:
    # Columns of a Hadamard matrix: mean 0, deviation 1, uncorrelated.
    x = torch.tensor([[1.0, 1], [1, -1]], dtype=torch.float64)
    x = torch.kron(torch.kron(x, x), x)[:, 1:]
    assert barlow_twins_loss(x, x).item() == pytest.approx(0, abs=1e-8)
    assert barlow_twins_loss(x, 5 * x + 2).item() == pytest.approx(0, abs=1e-8)
    assert barlow_twins_loss(x, -x, eps=1e-12).item() == pytest.approx(4 * 7, abs=1e-9)
    # One feature seven times: the diagonal is perfect, 7 * 6 elements beside it are 1.
    same = x[:, :1].expand(-1, 7)
    assert barlow_twins_loss(same, same, off_diagonal_weight=0.1, eps=1e-12).item() == pytest.approx(
        4.2, abs=1e-9
    )


@pytest.mark.slow
def test_expectation_over_independent_views() -> None:
    num_rows, num_features, weight = 16, 8, 0.2
    # The squared correlation of independent Gaussians has mean 1 / (N - 1).
    chance = 1 / (num_rows - 1)
    expected = num_features * (1 + chance) + weight * num_features * (num_features - 1) * chance
    losses = [
        barlow_twins_loss(*draws(num_rows, num_features, seed), off_diagonal_weight=weight, eps=1e-12).item()
        for seed in range(1500)
    ]
    error = torch.tensor(losses).std().item() / math.sqrt(len(losses))
    assert error < 0.05
    assert sum(losses) / len(losses) == pytest.approx(expected, abs=4 * error)


def test_derivatives() -> None:
    a, b = (x.requires_grad_() for x in draws(5, 3))
    assert torch.autograd.gradcheck(lambda a, b: barlow_twins_loss(a, b, off_diagonal_weight=0.3), (a, b))
    assert torch.autograd.gradgradcheck(lambda a: barlow_twins_loss(a, b, off_diagonal_weight=0.3), (a,))


def test_collapse_has_finite_gradients() -> None:
    a = torch.ones(4, 3, requires_grad=True)
    loss = barlow_twins_loss(a, a.detach())
    loss.backward()
    assert loss.item() == pytest.approx(3)
    assert a.grad is not None
    assert a.grad.isfinite().all()


def test_half_precision_and_autocast_are_computed_in_single() -> None:
    a, b = (x.bfloat16() for x in draws(16, 4))
    expected = barlow_twins_loss(a.float(), b.float())
    torch.testing.assert_close(barlow_twins_loss(a, b), expected, rtol=0, atol=0)
    with torch.autocast("cpu"):
        torch.testing.assert_close(barlow_twins_loss(a.float(), b.float()), expected, rtol=0, atol=0)


def test_config_is_plain_and_shown() -> None:
    loss = copy.deepcopy(BarlowTwins("1/d"))
    assert loss.config == {"off_diagonal_weight": "1/d", "eps": 1e-5}
    loss.config["eps"] = 7.0  # a copy
    assert repr(loss) == "BarlowTwins(off_diagonal_weight='1/d', eps=1e-05)"


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("a: .* N at least 2", {"a": torch.ones(1, 2)}),
        ("a: floating point", {"a": torch.ones(3)}),
        ("b: .* got .*shape", {"b": torch.ones(3, 3)}),
        ("b: finite", {"b": torch.full((3, 2), math.nan)}),
        ("off_diagonal_weight: '1/d'", {"off_diagonal_weight": "1/N"}),
        ("off_diagonal_weight: a finite", {"off_diagonal_weight": -1.0}),
        ("off_diagonal_weight: a finite", {"off_diagonal_weight": math.nan}),
        ("eps: a finite positive", {"eps": -1e-5}),
        ("eps: a finite positive", {"eps": 0}),
    ],
)
def test_bad_arguments_are_named(message: str, arguments: dict[str, object]) -> None:
    views = {"a": torch.ones(3, 2), "b": torch.ones(3, 2)}
    with pytest.raises(ValueError, match=message):
        barlow_twins_loss(**views | arguments)  # type: ignore[arg-type]
    if not {"a", "b"} & set(arguments):
        with pytest.raises(ValueError, match=message):
            BarlowTwins(**arguments)  # type: ignore[arg-type]
