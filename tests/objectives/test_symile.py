"""Symile against loops over all combinations, its limits, memory, and XOR, which no pairwise loss can see."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nearfar.objectives import InfoNCE, LearnableTemperature, row_tiles
from nearfar.objectives.logsumexp import small_tiles
from nearfar.objectives.symile import Symile, multilinear_product, symile_loss
from nearfar.testing import LargestTensor


def draws(modalities: int = 3, num: int = 5, dim: int = 4, dtype: torch.dtype = torch.float64) -> Tensor:
    rng = torch.Generator().manual_seed(num)
    x = torch.randn(modalities, num, dim, generator=rng, dtype=torch.float64)
    return x.to(dtype).requires_grad_()


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def product(rows: list[list[float]]) -> float:
    return math.fsum(math.prod(column) for column in zip(*rows, strict=True))


def unit_rows(views: Tensor) -> list[list[list[float]]]:
    rows: list[list[list[float]]] = F.normalize(views.detach().double(), dim=-1).tolist()
    return rows


def slow_n_squared(views: Tensor, temperature: float) -> float:
    """Every combination of every anchor, one at a time."""
    unit = unit_rows(views)
    modalities, num = len(unit), len(unit[0])
    losses = []
    for m, i in itertools.product(range(modalities), range(num)):
        others = [view for n, view in enumerate(unit) if n != m]
        combinations = itertools.product(range(num), repeat=modalities - 1)
        scores = [
            product([unit[m][i], *(view[j] for view, j in zip(others, rows, strict=True))]) / temperature
            for rows in combinations
        ]
        true = product([view[i] for view in unit]) / temperature
        losses.append(math.log(math.fsum(map(math.exp, scores))) - true)
    return sum(losses) / len(losses)


def slow_n(views: Tensor, temperature: float, rng: torch.Generator) -> float:
    """One order for every modality that is not the anchor; a row's own place holds the true combination."""
    unit = unit_rows(views)
    num = len(unit[0])
    losses = []
    for m in range(len(unit)):
        orders = {n: torch.randperm(num, generator=rng).tolist() for n in range(len(unit)) if n != m}
        for i in range(num):
            scores = [
                product([unit[m][i], *(unit[n][i if i == j else order[j]] for n, order in orders.items())])
                for j in range(num)
            ]
            losses.append(
                math.log(math.fsum(math.exp(s / temperature) for s in scores)) - scores[i] / temperature
            )
    return sum(losses) / len(losses)


@pytest.mark.parametrize("edge", [None, 1, 3])
@pytest.mark.parametrize("temperature", [0.05, 1.0])
@pytest.mark.parametrize("modalities", [2, 3, 4])
def test_n_equals_the_definition(modalities: int, temperature: float, edge: int | None) -> None:
    views = draws(modalities)
    with small_tiles(edge):
        found = symile_loss(views, temperature=temperature, rng=seeded()).item()
    assert found == pytest.approx(slow_n(views, temperature, seeded()), rel=1e-10)


# 5 rows of 4 features: 45 numbers for an anchor; below that an anchor's own table is cut.
@pytest.mark.parametrize("numbers", [1, 9, 20, 45, 100, 2**22])
@pytest.mark.parametrize("temperature", [0.05, 1.0])
@pytest.mark.parametrize("modalities", [2, 3])
def test_n_squared_equals_the_definition(
    modalities: int, temperature: float, numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_tiles, "NUMBERS", numbers)
    views = draws(modalities)
    found = symile_loss(views, temperature=temperature, negatives="n_squared").item()
    assert found == pytest.approx(slow_n_squared(views, temperature), rel=1e-10)
    order = torch.tensor([3, 1, 0, 2, 4])
    again = symile_loss(3 * views[:, order].flip(0), temperature=temperature, negatives="n_squared")
    assert again.item() == pytest.approx(found, rel=1e-10)


def test_two_modalities_are_clip() -> None:
    first, second = draws(2)
    found = Symile(0.1, "n_squared")(first, second)
    torch.testing.assert_close(found, InfoNCE(0.1, symmetric=True)(first, second), rtol=1e-12, atol=0)


def test_equal_rows_and_one_row() -> None:
    ones = torch.ones(3, 6, 4)
    assert symile_loss(ones, rng=seeded()).item() == pytest.approx(math.log(6))
    assert symile_loss(ones, negatives="n_squared").item() == pytest.approx(math.log(36))
    alone = ones[:, :1].clone().requires_grad_()
    loss = symile_loss(alone, rng=seeded()) + symile_loss(alone, negatives="n_squared")
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert alone.grad is not None
    assert alone.grad.abs().max() < 1e-6


def test_signs_of_two_modalities_cancel() -> None:
    views = draws()
    flipped = views * torch.tensor([-1.0, 1, -1])[:, None, None]
    torch.testing.assert_close(multilinear_product(flipped), multilinear_product(views))
    for negatives in ("n", "n_squared"):
        torch.testing.assert_close(
            symile_loss(flipped, negatives=negatives, rng=seeded()),
            symile_loss(views, negatives=negatives, rng=seeded()),
        )
    before = views.detach().clone()
    multilinear_product(views)
    torch.testing.assert_close(
        views.detach(), before, rtol=0, atol=0
    )  # the released helper multiplies in place


@pytest.mark.parametrize("numbers", [9, 2**22])
def test_derivatives(numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_tiles, "NUMBERS", numbers)
    views = draws(3, 3, 3)
    assert torch.autograd.gradcheck(lambda x: symile_loss(x, temperature=0.5, negatives="n_squared"), views)
    assert torch.autograd.gradcheck(lambda x: symile_loss(x, temperature=0.5, rng=seeded()), views)
    with small_tiles(2):
        assert torch.autograd.gradcheck(lambda x: symile_loss(x, temperature=0.5, rng=seeded()), views)
    temperature = LearnableTemperature(0.5)
    for negatives in ("n", "n_squared"):
        loss = Symile(temperature, negatives)(views[0], views[1], views[2:], seeded())
        (grad,) = torch.autograd.grad(loss, temperature.log_scale)
        assert grad != 0


def test_n_has_no_table_of_all_pairs() -> None:
    views = draws(3, 4096, 4, torch.float32)
    with small_tiles(256), LargestTensor() as memory:
        symile_loss(views, rng=seeded()).backward()
    assert memory.numbers < 4096**2 / 8


def test_n_squared_has_no_table_of_one_anchor(monkeypatch: pytest.MonkeyPatch) -> None:
    num, dim = 64, 4
    monkeypatch.setattr(row_tiles, "NUMBERS", 1024)
    with LargestTensor() as memory:
        symile_loss(draws(3, num, dim, torch.float32), negatives="n_squared").backward()
    # One anchor has num^2 scores and num^2 dim products, all have num^3.
    assert 900 < memory.numbers <= 1024 < num**2 / 3


def test_half_precision_is_computed_in_single() -> None:
    views = draws(dtype=torch.bfloat16)
    for negatives in ("n", "n_squared"):
        found = symile_loss(views, negatives=negatives, rng=seeded())
        wide = symile_loss(views.float(), negatives=negatives, rng=seeded())
        torch.testing.assert_close(found, wide, rtol=0, atol=0)


def test_bad_arguments_are_named() -> None:
    first, second, third = draws()
    with pytest.raises(ValueError, match="negatives: 'n' expected for more than 3"):
        symile_loss(draws(4), negatives="n_squared")
    with pytest.raises(ValueError, match="negatives: 'n' or"):
        Symile(negatives="all")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="rng: a generator"):
        symile_loss(draws())
    for bad in (draws(1), first, draws()[:, :0]):
        with pytest.raises(ValueError, match="views: "):
            symile_loss(bad, rng=seeded())
    for bad in (third, third[None, :4], third[None].float()):
        with pytest.raises(ValueError, match="more: "):
            Symile()(first, second, bad, seeded())


BITS, DIM = 3, 32


def trained_accuracy(loss: nn.Module, score: Any, steps: int) -> float:
    """How often c = a xor b is found among all codes, after training encoders of a, b and c."""
    rng = torch.Generator().manual_seed(0)
    codes = torch.arange(2**BITS)
    bits = (codes[:, None] >> torch.arange(BITS)) & 1
    vectors = 2.0 * bits - 1

    def encoder() -> nn.Sequential:
        model = nn.Sequential(nn.Linear(BITS, 64), nn.Tanh(), nn.Linear(64, DIM))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(
                    torch.randn(parameter.shape, generator=rng) * (0.5 if parameter.dim() > 1 else 0.1)
                )
        return model

    encoders = nn.ModuleList(encoder() for _ in range(3))
    optimizer = torch.optim.Adam(encoders.parameters(), lr=0.01)
    for _ in range(steps):
        a, b = torch.randint(2**BITS, (2, 128), generator=rng)
        x, y, z = (encode(vectors[code]) for encode, code in zip(encoders, (a, b, a ^ b), strict=True))
        optimizer.zero_grad()
        loss(x, y, z[None], rng).backward()
        optimizer.step()
    with torch.no_grad():
        a, b = (grid.flatten() for grid in torch.meshgrid(codes, codes, indexing="ij"))
        x, y, z = (F.normalize(e(vectors[code])) for e, code in zip(encoders, (a, b, codes), strict=True))
        found = score(x, y, z).argmax(1) == a ^ b
        return float(found.double().mean())


class Pairwise(nn.Module):
    """CLIP between all pairs of modalities."""

    def forward(self, first: Tensor, second: Tensor, more: Tensor, rng: torch.Generator) -> Tensor:
        clip = InfoNCE(0.1, symmetric=True)
        pairs = (first, second), (first, more[0]), (second, more[0])
        return torch.stack([clip(x, y) for x, y in pairs]).sum()


def test_xor_needs_the_three_together() -> None:
    # One score of a pair and a code, and that of three.
    pairwise = trained_accuracy(Pairwise(), lambda x, y, z: (x + y) @ z.mT, steps=150)
    together = trained_accuracy(Symile(0.1), lambda x, y, z: (x * y) @ z.mT, steps=300)
    assert pairwise < 3 / 2**BITS  # chance is 1/8
    assert together > 0.95
