"""A weighted sum is the sum of its terms, which stay visible; state and after_step go through."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from nearfar.objectives import InfoNCE, LearnableTemperature, NTXent
from nearfar.objectives.moco import MoCo
from nearfar.objectives.weighted_sum import WeightedSum
from nearfar.testing import draw


def test_is_the_sum() -> None:
    first, second = (draw(5, 3, seed=i).requires_grad_() for i in range(2))
    loss = WeightedSum(across=(0.3, InfoNCE(0.2)), among=(2.0, NTXent()), silent=(0.0, InfoNCE()))
    assert loss.terms == {}
    found = loss(first, second)
    expected = 0.3 * InfoNCE(0.2)(first, second) + 2 * NTXent()(first, second)
    torch.testing.assert_close(found, expected)
    for got, want in zip(
        torch.autograd.grad(found, (first, second)),
        torch.autograd.grad(expected, (first, second)),
        strict=True,
    ):
        torch.testing.assert_close(got, want)
    assert list(loss.terms) == ["across", "among", "silent"]
    assert torch.equal(loss.terms["among"], NTXent()(first, second))
    assert torch.equal(loss.terms["silent"], InfoNCE()(first, second))
    assert not any(term.requires_grad for term in loss.terms.values())
    assert torch.autograd.gradcheck(loss, (first, second))


def test_terms_are_those_of_the_last_call() -> None:
    loss = WeightedSum(only=(1.0, InfoNCE()))
    loss(draw(5, 3), draw(5, 3, seed=1))
    last = loss(draw(6, 3), draw(6, 3, seed=1))
    assert torch.equal(loss.terms["only"], last)


def test_parameters_state_and_config() -> None:
    loss = WeightedSum(
        warm=(0.5, InfoNCE(LearnableTemperature(0.2))), queued=(1.0, MoCo(3, queue=8))
    ).double()
    assert [name for name, _ in loss.named_parameters()] == ["objectives.warm.temperature.log_scale"]
    assert loss.config == {"warm": 0.5, "queued": 1.0}
    first, target = draw(5, 3), draw(5, 3, seed=1)
    loss(first, target)
    loss.after_step()
    queued = loss.objectives["queued"]
    assert isinstance(queued, MoCo)
    assert len(queued.queue) == 5
    again = WeightedSum(warm=(0.5, InfoNCE(LearnableTemperature())), queued=(1.0, MoCo(3, queue=8))).double()
    again.load_state_dict(loss.state_dict())
    assert torch.equal(again(first, target), loss(first, target))


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="weighted: at least one"):
        WeightedSum()
    for weight in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="pull: a finite number"):
            WeightedSum(pull=(weight, InfoNCE()))
    with pytest.raises(ValueError, match="pull: .*as objective"):
        WeightedSum(pull=(1.0, torch.cosine_similarity))  # type: ignore[arg-type]
    for name in ("keys", "forward"):
        weighted: dict[str, tuple[float, nn.Module]] = {name: (1.0, InfoNCE())}
        with pytest.raises(ValueError, match=f"{name}: another name"):
            WeightedSum(**weighted)
