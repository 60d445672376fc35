"""Compositions against doing one after the other; choices against their weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import torch

from nearfar.augment.series import (
    Compose,
    Flip,
    HiddenLast,
    Identity,
    Jitter,
    LowPass,
    Mixup,
    OneOf,
    Permutation,
    Reverse,
    Scaling,
)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def data(num: int = 6, steps: int = 9) -> torch.Tensor:
    return torch.randn(num, steps, 2, generator=torch.Generator().manual_seed(8), dtype=torch.float64)


def test_equals_one_after_the_other() -> None:
    x, generator = data(), seeded()
    ops = (Scaling(), Permutation(), Jitter(), LowPass(), Reverse(), Jitter(p=0.5))
    composed = Compose(ops)(x, seeded())
    expected = x
    for op in ops:
        expected = op(expected, generator).apply(expected)
    torch.testing.assert_close(composed.apply(x), expected, rtol=0, atol=1e-12)
    assert composed.previous is not None
    assert Compose(ops[:4])(x, seeded()).previous is None  # one stage: a filter comes last


def test_padding_is_handed_on() -> None:
    x, generator = data(), seeded()
    valid = (torch.arange(9) >= 2).expand(6, -1)
    ops = (LowPass(), Reverse(), LowPass(), Mixup(), HiddenLast())
    composed = Compose(ops)(x, seeded(), valid=valid)
    expected = x
    for op in ops:
        expected = op(expected, generator, valid=valid).apply(expected)
    torch.testing.assert_close(composed.apply(x), expected, rtol=0, atol=1e-12)
    assert composed.hidden_mask is not None
    assert composed.hidden_mask[..., 0].sum(1).tolist() == [8] * 6


def test_what_reads_values_is_given_the_view_so_far() -> None:
    x = data()
    alone = Mixup(alpha=1.0)(-x, seeded()).apply(-x)
    composed = Compose((Flip(), Mixup(alpha=1.0)))
    assert composed.reads_values
    assert not Compose((Flip(),)).reads_values
    torch.testing.assert_close(composed(x, seeded()).apply(x), alone, rtol=0, atol=1e-14)


def test_nested_probability_is_all_or_nothing() -> None:
    x = data(1_000)
    out = Compose((Flip(), LowPass(cutoff=0.2), Reverse()), p=0.4)(x, seeded()).apply(x)
    whole = Compose((Flip(), LowPass(cutoff=0.2), Reverse()))(x, seeded()).apply(x)
    untouched = (out == x).all(2).all(1)
    changed = (out - whole).abs().amax((1, 2)) < 1e-12
    assert (untouched ^ changed).all()
    assert 0.3 < changed.double().mean() < 0.5


def test_one_of_follows_its_weights(fits: Callable[..., bool]) -> None:
    x = data(20_000, 5)
    ops = (Flip(), LowPass(cutoff=0.5), Reverse(), Identity())
    out = OneOf(ops, weights=(1, 2, 0, 1))(x, seeded()).apply(x)
    alone = torch.stack([op(x, seeded()).apply(x) for op in ops])
    matches = (alone - out).abs().amax((2, 3)) < 1e-12
    assert (matches.sum(0) == 1).all()
    assert fits(Counter(matches.int().argmax(0).tolist()), {0: 0.25, 1: 0.5, 3: 0.25})
    equal = OneOf(ops)(x, seeded()).apply(x)
    chosen = ((alone - equal).abs().amax((2, 3)) < 1e-12).int().argmax(0)
    assert fits(Counter(chosen.tolist()), dict.fromkeys(range(4), 0.25))


def test_one_of_masks_hidden_states_of_its_rows_only() -> None:
    x = data(100)
    view = OneOf((HiddenLast(), Flip()))(x, seeded())
    assert view.hidden_mask is not None
    hidden = ~view.hidden_mask[:, -1, 0]
    flipped = (view.apply(x) == -x).all(2).all(1)
    assert (hidden ^ flipped).all()
    assert hidden.any()
    assert flipped.any()
