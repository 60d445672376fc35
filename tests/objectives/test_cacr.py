"""CACR against a loop, its limits, memory, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.objectives import row_tiles
from nearfar.objectives.cacr import CACR, cacr_loss
from nearfar.testing import LargestTensor


def draws(num_views: int = 3, num: int = 5, dim: int = 4, dtype: torch.dtype = torch.float64) -> Tensor:
    rng = torch.Generator().manual_seed(num)
    rows = torch.randn(num, dim, generator=rng, dtype=torch.float64)
    views = rows + torch.randn(num_views, num, dim, generator=rng, dtype=torch.float64)
    return views.to(dtype).requires_grad_()


def weighted(costs: list[float], sharpness: float) -> float:
    weights = [math.exp(sharpness * cost) for cost in costs]
    return sum(w * cost for w, cost in zip(weights, costs, strict=True)) / sum(weights)


def slow(
    views: Tensor, t_pos: float, t_neg: float, alpha: float = 1, beta: float = 1, tau_plus: float = 0
) -> float:
    """The definition, one query at a time."""
    z = F.normalize(views.detach(), dim=-1).tolist()
    queries = [(v, i) for v in range(len(z)) for i in range(len(z[0]))]
    loss = 0.0
    for v, i in queries:
        cost = {(w, j): math.dist(z[v][i], z[w][j]) ** 2 for w, j in queries if (w, j) != (v, i)}
        positives = [c for (_, j), c in cost.items() if j == i]
        repelling = weighted([c for (_, j), c in cost.items() if j != i], -t_neg)
        repelling = (repelling - tau_plus * sum(positives) / len(positives)) / (1 - tau_plus)
        loss += alpha * weighted(positives, t_pos) - beta * repelling
    return loss / len(queries)


@pytest.mark.parametrize("numbers", [1, 150, 2**22])
@pytest.mark.parametrize("num_views", [2, 3])
@pytest.mark.parametrize(
    "options", [(1.0, 2.0), (0.5, 0.9, 2.0, 0.5), (0.0, 5.0, 0.0, 3.0), (3.0, 1.0, 1.0, 1.0, 0.1)]
)
def test_equals_the_definition(
    options: tuple[float, ...], num_views: int, numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_tiles, "NUMBERS", numbers)
    named = dict(zip(("t_pos", "t_neg", "alpha", "beta", "tau_plus"), options, strict=False))
    views = draws(num_views)
    expected = slow(views, **named)
    loss = CACR(**named)  # type: ignore[arg-type]
    more = views[2:] if num_views > 2 else None
    assert loss(views[0], views[1], more).item() == pytest.approx(expected, rel=1e-11)
    order = torch.tensor([3, 1, 0, 2, 4])
    again = 7 * views[:, order].flip(0)
    assert cacr_loss(again, **named).item() == pytest.approx(expected, rel=1e-11)  # type: ignore[arg-type]


def test_limits() -> None:
    views = draws()
    z = F.normalize(views.detach(), dim=-1)
    every = (z.flatten(0, 1)[:, None] - z.flatten(0, 1)).square().sum(-1).reshape(3, 5, 3, 5)
    same = torch.eye(5, dtype=torch.bool)[None, :, None].expand(3, 5, 3, 5)
    # No sharpness: mean alignment minus mean distance.
    expected = every[same].sum() / (3 * 5 * 2) - every[~same].mean()
    torch.testing.assert_close(cacr_loss(views, t_pos=0, t_neg=0).detach(), expected)
    # One positive has all the weight, whatever its sharpness.
    pair = views[:2]
    torch.testing.assert_close(cacr_loss(pair, t_pos=0, beta=0), cacr_loss(pair, t_pos=9, beta=0))
    plain = (z[0] - z[1]).square().sum(-1).mean()
    torch.testing.assert_close(cacr_loss(pair, beta=0).detach(), plain)
    # Infinitely sharp: the hardest negative, and the farthest positive.
    nearest = every.masked_fill(same, math.inf).amin((2, 3)).mean()
    torch.testing.assert_close(cacr_loss(views, t_neg=1e5, alpha=0).detach(), -nearest)
    farthest = every.masked_fill(~same, 0).amax((2, 3)).mean()
    torch.testing.assert_close(cacr_loss(views, t_pos=1e5, beta=0).detach(), farthest)


def test_known_answers() -> None:
    ones, eye = torch.ones(3, 5, 4), torch.eye(5).expand(3, 5, 5)
    assert cacr_loss(ones).item() == pytest.approx(0, abs=1e-5)
    assert cacr_loss(eye).item() == pytest.approx(-2, abs=1e-5)
    # The expected cost under true negatives: a tenth of the negatives is positive, at distance 0.
    assert cacr_loss(eye, tau_plus=0.1).item() == pytest.approx(-2 / 0.9, abs=1e-5)


@pytest.mark.parametrize("numbers", [1, 2**22])
def test_derivatives(numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_tiles, "NUMBERS", numbers)
    assert torch.autograd.gradcheck(lambda x: cacr_loss(x, t_neg=1.5, tau_plus=0.1), draws(3, 3, 3))
    assert torch.autograd.gradgradcheck(cacr_loss, draws(2, 2, 3))
    # Detached weights: the gradient of a weighted sum with given weights, and the same value.
    views = draws()
    torch.testing.assert_close(cacr_loss(views, detach_weights=True), cacr_loss(views))
    z = F.normalize(views, dim=-1).flatten(0, 1)
    cost = 2 - 2 * z @ z.mT
    sample = torch.arange(15) % 5
    same, itself = sample[:, None] == sample, torch.eye(15, dtype=torch.bool)
    near = (-2 * cost.detach()).masked_fill(same, -math.inf).softmax(1)
    far = cost.detach().masked_fill(~same | itself, -math.inf).softmax(1)
    expected = torch.autograd.grad(((far - near) * cost).sum(1).mean(), views)
    found = torch.autograd.grad(cacr_loss(views, detach_weights=True), views)
    torch.testing.assert_close(found, expected)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(torch.autograd.grad(cacr_loss(views), views), expected)


def test_no_table_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_tiles, "NUMBERS", 2**20)
    views = draws(2, 2048, 4, torch.float32)  # 4096 queries
    with LargestTensor() as memory:
        cacr_loss(views).backward()
    assert memory.numbers < 4096**2 / 8


def test_half_precision_is_computed_in_single() -> None:
    views = draws(dtype=torch.bfloat16)
    torch.testing.assert_close(cacr_loss(views), cacr_loss(views.float()), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["t_pos", "t_neg", "alpha", "beta", "tau_plus"])
def test_bad_numbers_are_named(name: str) -> None:
    for bad in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"{name}: "):
            CACR(**{name: bad})  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=f"{name}: "):
            cacr_loss(draws(), **{name: bad})  # type: ignore[arg-type]


def test_bad_views_are_named() -> None:
    first, second, third = draws()
    for bad in (draws(1), draws(2, 1), first):
        with pytest.raises(ValueError, match="views: "):
            cacr_loss(bad)
    for bad in (third, third[None, :4], third[None].float()):
        with pytest.raises(ValueError, match="more: "):
            CACR()(first, second, bad)
    with pytest.raises(ValueError, match="second: shape"):
        CACR()(first, second[:4])
