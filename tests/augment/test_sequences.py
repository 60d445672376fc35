"""The law of crop, mask and reorder (mclrec.md section 3.1) and what they never do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nearfar.augment import crop, mask, reorder, two_views

Operator = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]


def rows(length: int, count: int, width: int = 12) -> tuple[Tensor, Tensor]:
    """``count`` equal rows 1..length, padded to ``width``."""
    items = torch.zeros(count, width, dtype=torch.int64)
    items[:, :length] = torch.arange(1, length + 1)
    return items, torch.full((count,), length)


def uniform(counts: Counter[object], cells: int, draws: int) -> bool:
    """Chi-square against equal cells; 5 standard deviations of the statistic are let pass."""
    expected = draws / cells
    statistic = sum((counts.get(cell, 0) - expected) ** 2 / expected for cell in counts)
    statistic += (cells - len(counts)) * expected
    return bool(statistic < (cells - 1) + 5 * (2 * (cells - 1)) ** 0.5)


def test_crop_starts_are_uniform_and_counts_rounded_down() -> None:
    items, lengths = rows(7, 20_000)
    out, size = crop(items, lengths, torch.Generator().manual_seed(0))
    assert (size == 3).all()
    assert (out[:, 3:] == 0).all()
    assert (out[:, 1:3] == out[:, :2] + 1).all()
    assert uniform(Counter(out[:, 0].tolist()), 5, 20_000)


def test_mask_sets_are_uniform() -> None:
    items, lengths = rows(5, 20_000)
    out, size = mask(items, lengths, torch.Generator().manual_seed(0))
    assert (size == 5).all()
    hidden = out[:, :5] == 0
    assert (hidden.sum(1) == 2).all()
    assert (out[:, 5:] == 0).all()
    assert ((out == items) | (out == 0)).all()
    assert uniform(Counter(map(tuple, hidden.int().tolist())), 10, 20_000)


def test_reorder_shuffles_one_window_uniformly() -> None:
    items, lengths = rows(4, 30_000)
    out, size = reorder(items, lengths, torch.Generator().manual_seed(0), ratio=0.8)  # window of 3, 2 starts
    assert (size == 4).all()
    assert (out.sort(1).values == items.sort(1).values).all()
    counts = Counter(map(tuple, out[:, :4].tolist()))
    # 3! orders of the first three and of the last three; the two windows share the identity
    # and the transpositions (2 3) ... only orders that fix 1 or 4 may appear.
    assert all(order[0] == 1 or order[3] == 4 for order in counts)
    both = [order for order in counts if order[0] == 1 and order[3] == 4]
    single = [order for order in counts if order not in both]
    assert uniform(Counter({o: counts[o] for o in single}), 8, sum(counts[o] for o in single))
    assert sum(counts[o] for o in both) / 30_000 == pytest.approx(4 / 12, abs=0.02)


def test_operator_pairs_are_uniform_and_different() -> None:
    items, lengths = rows(10, 30_000)
    (a, a_len), (b, b_len) = two_views(items, lengths, torch.Generator().manual_seed(0))

    def name(view: Tensor, size: Tensor) -> list[str]:
        kinds = []
        for row, n in zip(view.tolist(), size.tolist(), strict=True):
            kinds.append("crop" if n == 5 else "mask" if 0 in row[:10] else "reorder")
        return kinds

    pairs = Counter(zip(name(a, a_len), name(b, b_len), strict=True))
    assert all(first != second for first, second in pairs)
    assert uniform(Counter(pairs), 6, 30_000)


@pytest.mark.parametrize("operator", [crop, mask, reorder])
def test_input_untouched_same_seed_same_view(operator: Operator) -> None:
    items, lengths = rows(9, 50)
    before = items.clone()
    first = operator(items, lengths, torch.Generator().manual_seed(3))
    again = operator(items, lengths, torch.Generator().manual_seed(3))
    other = operator(items, lengths, torch.Generator().manual_seed(4))
    assert torch.equal(items, before)
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])
    assert first[0].dtype == items.dtype
    assert first[0].shape == items.shape


def test_mixed_lengths_stay_inside_their_row() -> None:
    rng = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 13, (500,), generator=rng)
    items = torch.arange(1, 501)[:, None].repeat(1, 12) * (torch.arange(12) < lengths[:, None])
    for view, size in two_views(items, lengths, rng):
        assert (size >= 1).all()
        assert (size <= lengths).all()
        padding = torch.arange(12) >= size[:, None]
        assert (view[padding] == 0).all()
        assert ((view == 0) | (view == torch.arange(1, 501)[:, None])).all()
        assert (view[:, :1].new_ones(500) * (view != 0).any(1)).all(), "a view must show at least one item"
        single = lengths == 1
        assert torch.equal(view[single], items[single])


def test_extremes_of_the_ratios() -> None:
    items, lengths = rows(6, 20)
    rng = torch.Generator().manual_seed(0)
    for operator in (crop, mask, reorder):
        out, size = operator(items, lengths, rng, ratio=0.0)
        assert torch.equal(out, items)
        assert torch.equal(size, lengths)
    out, _ = reorder(items, lengths, rng, ratio=1.0)
    assert (out.sort(1).values == items.sort(1).values).all()
