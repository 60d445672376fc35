"""Mined negatives against sorting everything; the loss against a loop and InfoNCE."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.neighbors import nearest
from nearfar.objectives import InfoNCE, LearnableTemperature, row_tiles
from nearfar.objectives.mined import MinedInfoNCE, candidate_cosines, mined_negatives, positive_and_mined
from nearfar.testing import LargestTensor, draw


def ranked(q: Tensor, k: Tensor, i: int, *, own: bool) -> list[int]:
    """Other keys of row i, most alike first."""
    cosines = F.cosine_similarity(q[i], k).tolist()
    return sorted((j for j in range(len(k)) if not (own and j == i)), key=lambda j: -cosines[j])


@pytest.mark.parametrize("tile", [1, 7, None])
@pytest.mark.parametrize("num_keys", [20, 33])
def test_finds_what_sorting_finds(tile: int | None, num_keys: int) -> None:
    q, k = draw(20, 5), draw(num_keys, 5, seed=1)
    found = mined_negatives(q, k, 4, tile=tile)
    assert found.tolist() == [ranked(q, k, i, own=num_keys == 20)[:4] for i in range(20)]
    library = nearest(q, 4, k, metric="cosine", exclude_self=num_keys == 20)[1]
    assert torch.equal(found, library)


def test_more_than_there_are() -> None:
    q, k = draw(6, 5), draw(6, 5, seed=1)
    found = mined_negatives(q, k, 100)
    assert found.shape == (6, 5)
    assert [sorted(row) for row in found.tolist()] == [[j for j in range(6) if j != i] for i in range(6)]


@pytest.mark.parametrize(
    ("band", "places"),
    [
        ((0.0, 1.0), range(20)),
        ((0.5, 1.0), range(10)),
        ((0.5, 0.9), range(2, 10)),
        ((0.0, 0.1), range(18, 20)),
        ((0.33, 0.36), range(12, 14)),  # ranks 12.8 to 13.4 from above, rounded outwards
    ],
)
def test_a_band_is_a_range_of_ranks(band: tuple[float, float], places: range) -> None:
    q, k = draw(21, 5), draw(21, 5, seed=1)
    for i, row in enumerate(mined_negatives(q, k, 100, band=band).tolist()):
        assert row == [ranked(q, k, i, own=True)[place] for place in places]
    few = mined_negatives(q, k, 1, band=band)
    assert torch.equal(few, mined_negatives(q, k, 100, band=band)[:, :1])


def test_a_band_leaves_quantiles() -> None:
    q, k = draw(101, 5), draw(101, 5, seed=1)
    cosines = F.cosine_similarity(q[:, None], k, dim=-1)
    others = cosines[~torch.eye(101, dtype=torch.bool)].view(101, 100)
    low, high = others.quantile(0.495, 1), others.quantile(0.905, 1)
    found = cosines.gather(1, mined_negatives(q, k, 100, band=(0.5, 0.9)))
    assert found.shape == (101, 40)
    assert ((found > low[:, None]) & (found < high[:, None])).all()


def test_excluded_keys_are_not_found() -> None:
    q, k = draw(12, 4), draw(12, 4, seed=1)
    ids = torch.arange(12) % 4
    found = mined_negatives(q, k, 5, exclude=(ids, ids))
    for i, row in enumerate(found.tolist()):
        assert row == [j for j in ranked(q, k, i, own=True) if j % 4 != i % 4][:5]
    assert (mined_negatives(q, k, 5, exclude=(0 * ids, 0 * ids)) == -1).all()
    some = mined_negatives(q, k, 11, exclude=(ids, ids))
    assert ((some >= 0).sum(1) == 9).all()
    assert (some[:, 9:] == -1).all()


def test_candidate_cosines(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k = draw(9, 4).requires_grad_(), draw(7, 4, seed=1).requires_grad_()
    places = torch.randint(7, (9, 5), generator=torch.Generator().manual_seed(0))
    expected = F.cosine_similarity(q[:, None], k[places], dim=-1)
    upstream = draw(9, 5, seed=2)
    wanted = torch.autograd.grad((expected * upstream).sum(), (q, k))
    for numbers in (2**20, 5 * 4 * 2, 1):
        monkeypatch.setattr(row_tiles, "NUMBERS", numbers)
        found = candidate_cosines(q, k, places)
        torch.testing.assert_close(found, expected)
        for got, want in zip(torch.autograd.grad((found * upstream).sum(), (q, k)), wanted, strict=True):
            torch.testing.assert_close(got, want)


def test_loss_is_the_loop() -> None:
    first, second = draw(15, 5), draw(15, 5, seed=1)
    losses = []
    for i in range(15):
        logits = (F.cosine_similarity(first[i], second) / 0.2).tolist()
        seen = [i, *ranked(first, second, i, own=True)[:4]]
        losses.append(math.log(math.fsum(math.exp(logits[j]) for j in seen)) - logits[i])
    assert MinedInfoNCE(0.2, count=4)(first, second).item() == pytest.approx(math.fsum(losses) / 15)
    assert positive_and_mined(first, second, 4)[:, 0].tolist() == list(range(15))


@pytest.mark.parametrize("count", [14, 15, 1000])
def test_all_keys_are_infonce(count: int) -> None:
    first, second = (draw(15, 5, seed=i).requires_grad_() for i in range(2))
    found, wanted = MinedInfoNCE(count=count)(first, second), InfoNCE()(first, second)
    torch.testing.assert_close(found, wanted)
    for got, want in zip(
        torch.autograd.grad(found, (first, second)), torch.autograd.grad(wanted, (first, second)), strict=True
    ):
        torch.testing.assert_close(got, want)


def test_fewer_negatives_are_easier_and_hard_ones_harder() -> None:
    first, second = draw(60, 5), draw(60, 5, seed=1)
    losses = [MinedInfoNCE(count=count)(first, second).item() for count in (1, 4, 16, 59)]
    assert losses == sorted(losses)
    easier = MinedInfoNCE(count=4, band=(0.0, 0.5))(first, second).item()
    assert easier < losses[1]


def test_gradients() -> None:
    inputs = tuple(draw(6, 3, seed=i).requires_grad_() for i in range(2))
    assert torch.autograd.gradcheck(MinedInfoNCE(0.5, count=2), inputs)
    loss = MinedInfoNCE(LearnableTemperature(0.2), count=2).double()
    loss(*inputs).backward()
    assert all(p.grad is not None and p.grad.abs() > 0 for p in loss.parameters())


def test_half_precision_is_computed_in_single() -> None:
    inputs = [draw(8, 4, seed=i).bfloat16() for i in range(2)]
    found = MinedInfoNCE(count=3)(*inputs)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, MinedInfoNCE(count=3)(*(x.float() for x in inputs)))


@pytest.mark.parametrize("band", [None, (0.5, 0.9)])
def test_no_table_of_all_pairs(monkeypatch: pytest.MonkeyPatch, band: tuple[float, float] | None) -> None:
    monkeypatch.setattr(row_tiles, "NUMBERS", 2**20)
    first, second = (draw(4096, 16, seed=i).float().requires_grad_() for i in range(2))
    with LargestTensor() as largest:
        MinedInfoNCE(band=band)(first, second).backward()
    assert 2**20 // 2 <= largest.numbers < 4096**2 / 8


def test_bad_input() -> None:
    q = draw(5, 3)
    for count in (0, -3):
        with pytest.raises(ValueError, match="count"):
            mined_negatives(q, q, count)
        with pytest.raises(ValueError, match="count"):
            MinedInfoNCE(count=count)
    for band in ((0.5, 0.5), (0.9, 0.1), (-0.1, 0.5), (0.5, 1.1), (math.nan, 1.0)):
        with pytest.raises(ValueError, match="band"):
            mined_negatives(q, q, 1, band=band)
        with pytest.raises(ValueError, match="band"):
            MinedInfoNCE(band=band)
    with pytest.raises(ValueError, match="k: a key"):
        mined_negatives(q[:1], q[:1], 1)
    with pytest.raises(ValueError, match="k: torch.float64 with 3"):
        mined_negatives(q, q[:, :2], 1)
    with pytest.raises(ValueError, match="exclude"):
        mined_negatives(q, q, 1, exclude=(torch.zeros(5), torch.zeros(5)))
    with pytest.raises(ValueError, match="exclude"):
        mined_negatives(q, q, 1, exclude=(torch.zeros(5).long(), torch.zeros(4).long()))
    with pytest.raises(ValueError, match="first: .*at least 2"):
        MinedInfoNCE()(q[:1], q[:1])
    with pytest.raises(ValueError, match="second: shape"):
        MinedInfoNCE()(q, q[:3])
