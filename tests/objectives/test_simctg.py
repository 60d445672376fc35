"""SimCTG against a loop, closed forms, memory, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.objectives import row_tiles
from nearfar.objectives.simctg import SimCTG, simctg_loss
from nearfar.testing import LargestTensor, two_views


def slow(first: Tensor, second: Tensor, margin: float) -> float:
    """The definition in both directions, one pair at a time."""
    a, b = first.detach(), second.detach()
    num, loss = len(a), 0.0
    for rows, keys in ((a, b), (b, a)):
        s = [[float(F.cosine_similarity(x, y, dim=0)) for y in keys] for x in rows]
        loss += sum(max(0.0, margin - s[i][i] + s[i][j]) for i in range(num) for j in range(num) if i != j)
    return loss / (2 * num * (num - 1))


@pytest.mark.parametrize("numbers", [1, 80, 2**22])
@pytest.mark.parametrize("margin", [0.0, 0.5, 2.0])
def test_equals_the_definition(margin: float, numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_tiles, "NUMBERS", numbers)
    first, second = two_views()
    expected = slow(first, second, margin)
    assert expected > 0
    assert SimCTG(margin)(first, second).item() == pytest.approx(expected, rel=1e-11)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    assert SimCTG(margin)(2 * second[order], 3 * first[order]).item() == pytest.approx(expected, rel=1e-11)


def test_known_answers() -> None:
    ones, eye = torch.ones(5, 3), torch.eye(5)
    assert simctg_loss(ones, ones).item() == pytest.approx(0.5)  # equal rows: the margin
    assert simctg_loss(eye, eye).item() == 0  # a difference of 1 is beyond it
    assert simctg_loss(eye, eye, margin=1.25).item() == pytest.approx(0.25)
    # The wrong key is right: one cosine of the four others is 1, the own one 0.
    assert simctg_loss(eye, eye.roll(1, 0)).item() == pytest.approx(0.5 + 1 / 4)
    # The paper's: rows with themselves, so s_ii = 1.
    first, _ = two_views()
    cosine = F.normalize(first) @ F.normalize(first).mT
    excess = (0.5 - 1 + cosine).relu().fill_diagonal_(0).sum() / 30
    torch.testing.assert_close(simctg_loss(first, first), excess)


def test_derivatives(monkeypatch: pytest.MonkeyPatch) -> None:
    for numbers in (1, 2**22):
        monkeypatch.setattr(row_tiles, "NUMBERS", numbers)
        assert torch.autograd.gradcheck(simctg_loss, two_views())


def test_no_table_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_tiles, "NUMBERS", 2**20)
    first, second = two_views(4096, 4, torch.float32)
    with LargestTensor() as memory:
        simctg_loss(first, second).backward()
    assert memory.numbers < 4096**2 / 8


def test_half_precision_is_computed_in_single() -> None:
    first, second = two_views(dtype=torch.bfloat16)
    torch.testing.assert_close(
        simctg_loss(first, second), simctg_loss(first.float(), second.float()), rtol=0, atol=0
    )


def test_bad_arguments_are_named() -> None:
    bad: Any
    for bad in (-0.1, math.nan):
        with pytest.raises(ValueError, match="margin: "):
            SimCTG(bad)
        with pytest.raises(ValueError, match="margin: "):
            simctg_loss(*two_views(), margin=bad)
    with pytest.raises(ValueError, match="first: .* N at least 2"):
        simctg_loss(torch.ones(1, 2), torch.ones(1, 2))
    with pytest.raises(ValueError, match="second: shape"):
        simctg_loss(torch.ones(3, 2), torch.ones(4, 2))
