"""Alignment and uniformity as a loss, against a loop over pairs and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nearfar.objectives.align_uniform import AlignUniform, align_uniform_loss
from nearfar.objectives.logsumexp import small_tiles
from nearfar.testing import LargestTensor, two_views


def slow(first: Tensor, second: Tensor, weight: float, t: float, power: float) -> float:
    """The definition, one pair at a time."""

    def unit(rows: Tensor) -> list[list[float]]:
        return [[x / math.hypot(*row) for x in row] for row in rows.tolist()]

    a, b = unit(first), unit(second)
    loss: float = sum(math.dist(x, y) ** power for x, y in zip(a, b, strict=True)) / len(a)
    for z in (a, b):
        pairs = [math.exp(-t * math.dist(z[i], z[j]) ** 2) for i in range(len(z)) for j in range(i)]
        loss += weight / 2 * math.log(sum(pairs) / len(pairs))
    return loss


@pytest.mark.parametrize("edge", [None, 1, 4])
@pytest.mark.parametrize("options", [(1.0, 2.0, 2.0), (0.5, 1.0, 3.0), (0.0, 2.0, 1.0), (2.0, 5.0, 2.0)])
def test_equals_the_definition(options: tuple[float, float, float], edge: int | None) -> None:
    first, second = two_views()
    with small_tiles(edge):
        found = AlignUniform(*options)(first, second)
    assert found.item() == pytest.approx(slow(first, second, *options), rel=1e-11)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    assert AlignUniform(*options)(first[order], 7 * second[order]).item() == pytest.approx(
        found.item(), rel=1e-11
    )


def test_known_answers() -> None:
    ones, eye = torch.ones(5, 3), torch.eye(5)
    assert align_uniform_loss(ones, ones).item() == pytest.approx(0, abs=1e-6)
    assert align_uniform_loss(ones, -ones).item() == pytest.approx(4, abs=1e-5)
    assert align_uniform_loss(eye, eye, weight=0.5).item() == pytest.approx(-2, abs=1e-5)  # weight * -2 t


def test_derivatives() -> None:
    assert torch.autograd.gradcheck(lambda *x: align_uniform_loss(*x, weight=0.7, power=3.0), two_views(4))
    with small_tiles(3):
        assert torch.autograd.gradcheck(align_uniform_loss, two_views(4))


def test_no_table_of_all_pairs() -> None:
    first, second = two_views(4096, 4, torch.float32)
    with small_tiles(256), LargestTensor() as memory:
        align_uniform_loss(first, second).backward()
    assert memory.numbers < 4096**2 / 8


def test_half_precision_is_computed_in_single() -> None:
    first, second = two_views(8, dtype=torch.bfloat16)
    torch.testing.assert_close(
        align_uniform_loss(first, second), align_uniform_loss(first.float(), second.float()), rtol=0, atol=0
    )


@pytest.mark.parametrize("name", ["weight", "t", "power"])
def test_bad_numbers_are_named(name: str) -> None:
    for bad in (-1.0, math.nan):
        with pytest.raises(ValueError, match=f"{name}: a finite"):
            AlignUniform(**{name: bad})
        with pytest.raises(ValueError, match=f"{name}: a finite"):
            align_uniform_loss(*two_views(), **{name: bad})  # type: ignore[arg-type]


def test_bad_views_are_named() -> None:
    with pytest.raises(ValueError, match="first: .* N at least 2"):
        align_uniform_loss(torch.ones(1, 2), torch.ones(1, 2))
    with pytest.raises(ValueError, match=r"second: shape \(3, 2\) expected"):
        align_uniform_loss(torch.ones(3, 2), torch.ones(4, 2))
