"""Hidden masks: shares, spans and the last step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch

from nearfar.augment.series import HiddenBinomial, HiddenContinuous, HiddenLast


def test_binomial_share(rng: torch.Generator) -> None:
    mask = HiddenBinomial(keep=0.3)(torch.zeros(1_000, 100, 5), rng).hidden_mask
    assert mask is not None
    assert mask.double().mean().item() == pytest.approx(0.3, abs=5 * (0.21 / 1e5) ** 0.5)
    assert HiddenBinomial().keep == 0.5


def test_one_span_lies_uniformly(rng: torch.Generator, fits: Callable[..., bool]) -> None:
    view = HiddenContinuous(num_spans=1, ratio=0.25)(torch.zeros(20_000, 12, 1), rng)
    hidden = ~view.hidden_mask[..., 0]  # type: ignore[index]
    assert (hidden.sum(1) == 3).all()
    start = hidden.int().argmax(1)
    assert hidden.gather(1, start[:, None] + torch.arange(3)).all()
    assert fits(Counter(start.tolist()), dict.fromkeys(range(10), 1 / 10))


def test_spans_are_independent_and_at_least_one_step(rng: torch.Generator) -> None:
    hidden = ~HiddenContinuous()(torch.zeros(20_000, 9, 1), rng).hidden_mask[..., 0]  # type: ignore[index]
    # Five single steps, drawn with replacement from nine.
    assert hidden.sum(1).max() == 5
    assert hidden.double().mean().item() == pytest.approx(1 - (8 / 9) ** 5, abs=0.006)


def test_last_is_the_last_valid_step(rng: torch.Generator) -> None:
    valid = torch.tensor([[True, True, True, False], [False, True, True, True]])
    mask = HiddenLast()(torch.zeros(2, 4, 1), rng, valid=valid).hidden_mask
    assert mask is not None
    assert mask[..., 0].tolist() == [[True, True, False, True], [True, True, True, False]]
