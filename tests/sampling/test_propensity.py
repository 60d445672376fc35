"""Drawn pairs: weights against loops, frequencies against weights, limits, and rows that have nobody."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from nearfar.sampling import propensity
from nearfar.sampling.propensity import (
    PairRule,
    draw_negatives,
    draw_pairs,
    draw_positive,
    propensity_weights,
    surface_similarity,
)


def table(n: int = 3, m: int = 8, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    similarity, surface = (torch.rand(n, m, generator=rng, dtype=torch.float64) for _ in range(2))
    return similarity, surface


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def slow(v: list[float], u: list[float], gamma: float, temperature: float, floor: float) -> list[float]:
    """The definition, one number at a time."""
    total = math.fsum(math.exp(x / temperature) for x in u)
    weight = [a**gamma / max(math.exp(b / temperature) / total, floor) for a, b in zip(v, u, strict=True)]
    return [w / math.fsum(weight) for w in weight]


@pytest.mark.parametrize("options", [(1.0, 0.1, 1e-3), (2.5, 0.3, 0.1), (0.0, 0.2, 1e-6)])
def test_weights_equal_the_definition(options: tuple[float, float, float]) -> None:
    similarity, surface = table()
    named: dict[str, Any] = dict(zip(("gamma", "surface_temperature", "floor"), options, strict=True))
    found = propensity_weights(similarity, surface, **named)
    expected = [slow(v, u, *options) for v, u in zip(similarity.tolist(), surface.tolist(), strict=True)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    # Who is no candidate might as well not be there.
    among = torch.ones(3, 8, dtype=torch.bool)
    among[:, [1, 6]] = False
    left = [0, 2, 3, 4, 5, 7]
    found = propensity_weights(similarity, surface, candidates=among, **named)
    torch.testing.assert_close(
        found[:, left], propensity_weights(similarity[:, left], surface[:, left], **named)
    )
    assert not found[:, [1, 6]].any()


def test_limits() -> None:
    similarity, surface = table()
    alone = similarity / similarity.sum(1, keepdim=True)
    torch.testing.assert_close(propensity_weights(similarity, torch.full_like(surface, 0.3)), alone)
    torch.testing.assert_close(propensity_weights(similarity, surface, surface_temperature=1e9), alone)
    torch.testing.assert_close(propensity_weights(similarity, surface, floor=1.0), alone)
    uniform = torch.full_like(similarity, 1 / 8)
    torch.testing.assert_close(propensity_weights(similarity, torch.ones_like(surface), gamma=0), uniform)
    # Alike in meaning and far on the surface comes first.
    weight = propensity_weights(torch.tensor([[0.8, 0.8, 0.2]]), torch.tensor([[0.9, 0.1, 0.1]]))[0]
    assert weight[1] > weight[2] > weight[0]


def test_nobody_to_draw() -> None:
    similarity, surface = table()
    none = torch.zeros(3, 8, dtype=torch.bool)
    none[1, 5] = True
    weight = propensity_weights(similarity, surface, candidates=none)
    assert weight.sum(1).tolist() == pytest.approx([0, 1, 0])
    drawn = draw_negatives(similarity, surface, generator(), count=3, rule=PairRule(guard=2), candidates=none)
    assert drawn.tolist() == [[-1] * 3, [5] * 3, [-1] * 3]


def test_negatives_come_as_often_as_their_weights_say() -> None:
    similarity, surface = table()
    rule = PairRule(guard=0.7)
    drawn = draw_negatives(similarity, surface, generator(), count=200_000, rule=rule)
    weight = propensity_weights(similarity, surface, candidates=similarity < 0.7)
    for row in range(3):
        share = drawn[row].bincount(minlength=8) / 200_000
        assert (share - weight[row]).abs().max() < 0.005
        assert not share[similarity[row] >= 0.7].any()


@pytest.mark.parametrize("top", [1, 3, 8, 50])
def test_positives_are_among_the_most_alike(top: int) -> None:
    similarity, surface = table()
    many, alike = (x.repeat_interleave(20_000, 0) for x in (similarity, surface))
    drawn = draw_positive(many, alike, generator(), rule=PairRule(top=top)).reshape(3, 20_000)
    weight = propensity_weights(similarity, surface)
    for row in range(3):
        most = similarity[row].topk(min(top, 8)).indices
        expected = torch.zeros(8, dtype=torch.float64)
        expected[most] = weight[row, most] / weight[row, most].sum()
        share = drawn[row].bincount(minlength=8) / 20_000
        assert (share - expected).abs().max() < 0.015


def test_weighted_means_are_unbiased() -> None:
    similarity, surface = table(1, 12, 3)
    value = torch.linspace(1, 2, 12, dtype=torch.float64) ** 3
    # What was drawn by the weights, divided by them, is the mean of all.
    drawn = draw_negatives(similarity, surface, generator(), count=400_000, rule=PairRule(guard=2))[0]
    weight = propensity_weights(similarity, surface)[0]
    assert (value / (12 * weight))[drawn].mean().item() == pytest.approx(value.mean().item(), rel=0.01)
    # What the surface alone chose, weighted by the inverse of its propensity, is that too.
    surface = surface / 3
    chosen = torch.softmax(surface[0] / 0.1, 0).multinomial(400_000, True, generator=generator(1))
    inverse = propensity_weights(similarity, surface, gamma=0, floor=1e-9)[0][chosen]
    assert ((inverse * value[chosen]).sum() / inverse.sum()).item() == pytest.approx(
        value.mean().item(), rel=0.01
    )
    assert abs(value[chosen].mean() / value.mean() - 1) > 0.05


def test_draws_are_those_of_the_generator() -> None:
    similarity, surface = table(20)
    first, again, other = (
        draw_negatives(similarity, surface, generator(seed), count=9) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def batch(n: int = 40) -> tuple[Tensor, Tensor]:
    rng = generator(7)
    return torch.randn(n, 3, generator=rng), torch.randint(9, (n,), generator=rng).float()


def test_pairs_are_the_draws_from_the_whole_table(monkeypatch: pytest.MonkeyPatch) -> None:
    side, surface = batch()
    rule = PairRule(top=5, guard=0.6, gamma=2.0)
    positive, negatives = draw_pairs(side, surface, generator(), count=6, rule=rule)
    for scores in (1, 90, 1000):
        monkeypatch.setattr(propensity, "SCORES", scores)
        again = draw_pairs(side, surface, generator(), count=6, rule=rule)
        assert torch.equal(positive, again[0])
        assert torch.equal(negatives, again[1])
    unit = torch.nn.functional.normalize(side, dim=1)
    similarity = (1 + unit @ unit.T) / 2
    hidden = similarity.clone().fill_diagonal_(-1)
    for row in range(40):
        assert positive[row] in hidden[row].topk(5).indices
        assert row not in negatives[row]
        assert positive[row] not in negatives[row]
        assert (similarity[row, negatives[row]] < 0.6).all()
    # Where the guard lets the most alike through, the positive is still not its own negative.
    for seed in range(5):
        positive, negatives = draw_pairs(side, surface, generator(seed), count=50, rule=PairRule(guard=2))
        assert not (negatives == positive[:, None]).any()
        assert (negatives.sort(1).values.diff(dim=1) == 0).any()  # with replacement


def test_surface_similarity_is_that_of_ranks() -> None:
    ranks = propensity._ranks(torch.tensor([3.0, -1.0, 3.0, 100.0, 7.0]))
    assert ranks.tolist() == [1.5, 0, 1.5, 4, 3]
    alike = surface_similarity(ranks, ranks)
    assert alike[0].tolist() == pytest.approx([1, 0.625, 1, 0.375, 0.625])
    assert alike[1, 3] == 0
    assert (propensity._ranks(torch.ones(5)) == 2).all()


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("gamma: a finite number", {"gamma": -1.0}),
        ("surface_temperature: a finite positive", {"surface_temperature": 0.0}),
        ("floor: a finite positive", {"floor": 0.0}),
        ("guard: a finite positive", {"guard": 0.0}),
        ("top: at least 1", {"top": 0}),
    ],
)
def test_bad_numbers_are_named(message: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=message):
        PairRule(**options)


def test_bad_tables_are_named() -> None:
    similarity, surface = table()
    for message, arguments in (
        ("similarity: floating point", (torch.ones(2, 2, dtype=torch.int64), surface)),
        (r"similarity: numbers in \[0, 1\]", (similarity - 1, surface)),
        (r"surface: numbers in \[0, 1\]", (similarity, surface + 1)),
        ("surface: one shape", (similarity, surface[:2])),
    ):
        with pytest.raises(ValueError, match=message):
            propensity_weights(*arguments)
    with pytest.raises(ValueError, match=r"candidates: bool of shape \(3, 8\)"):
        propensity_weights(similarity, surface, candidates=torch.ones(3, 8))
    with pytest.raises(ValueError, match="count: at least 1"):
        draw_negatives(similarity, surface, generator(), count=0)
    side, scores = batch()
    for message, given in (
        ("side: .* N at least 2", (side[:1], scores[:1])),
        ("surface: .*", (side, scores[:3])),
        ("side: finite", (side / 0, scores)),
    ):
        with pytest.raises(ValueError, match=message):
            draw_pairs(*given, generator(), count=2)
    with pytest.raises(ValueError, match="count: at least 1"):
        draw_pairs(side, scores, generator(), count=0)
