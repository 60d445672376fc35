"""InfoNCE with whitened positives against its parts, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.objectives import InfoNCE, LearnableTemperature
from nearfar.objectives.logsumexp import small_tiles
from nearfar.objectives.whitened import WhitenedInfoNCE
from nearfar.testing import LargestTensor, two_views


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def slow(
    first: Tensor, second: Tensor, groups: int, num_pos: int, temperature: float, rng: torch.Generator
) -> float:
    """Eigenvectors for the whitening, one pair at a time for the loss."""
    a, b = first.detach(), second.detach()
    num, dim = a.shape
    loss = 0.0
    for _ in range(num_pos):
        white = torch.empty_like(b)
        for columns in torch.randperm(dim, generator=rng).split(dim // groups):
            part = b[:, columns] - b[:, columns].mean(0)
            values, vectors = torch.linalg.eigh(part.mT @ part / num)
            white[:, columns] = part @ (vectors / (values + 1e-5).sqrt()) @ vectors.mT
        for i in range(num):
            s = [float(F.cosine_similarity(a[i], white[j], dim=0)) / temperature for j in range(num)]
            loss += math.log(sum(map(math.exp, s))) - s[i]
    return loss / (num * num_pos)


@pytest.mark.parametrize("edge", [None, 4])
@pytest.mark.parametrize(
    ("groups", "num_pos", "temperature"), [(2, 3, 0.05), (3, 1, 0.5), (1, 2, 0.1), (6, 2, 0.1)]
)
def test_equals_the_definition(groups: int, num_pos: int, temperature: float, edge: int | None) -> None:
    first, second = two_views(9, 6)
    loss = WhitenedInfoNCE(6, groups, num_pos, temperature)
    expected = slow(first, second, groups, num_pos, temperature, seeded())
    with small_tiles(edge):
        assert loss(first, second, seeded()).item() == pytest.approx(expected, rel=1e-8)
    order = torch.randperm(9, generator=seeded(1))
    assert loss(first[order], second[order], seeded()).item() == pytest.approx(expected, rel=1e-8)


def test_one_feature_a_group_is_infonce_with_standardised_keys() -> None:
    first, second = two_views(9, 6)
    standard = (second - second.mean(0)) / (second.var(0, correction=0) + 1e-5).sqrt()
    expected = InfoNCE(0.05)(first, standard)
    torch.testing.assert_close(WhitenedInfoNCE(6, 6)(first, second, seeded()), expected)


def test_positives_have_partitions_of_their_own() -> None:
    first, second = two_views(9, 6)
    one, five = (WhitenedInfoNCE(6, 2, num_pos)(first, second, seeded()).item() for num_pos in (1, 5))
    assert one != pytest.approx(five, rel=1e-3)
    # The first of five is the only one; equal partitions would have made the mean of five that one.
    assert WhitenedInfoNCE(6, 2, 1)(first, second, seeded()).item() == one


def test_derivatives() -> None:
    first, second = two_views(5, 4)
    loss = WhitenedInfoNCE(4, 2, 2, 0.5)
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b, seeded()), (first, second))
    with small_tiles(3):
        assert torch.autograd.gradcheck(lambda a, b: loss(a, b, seeded()), (first, second))
    temperature = LearnableTemperature(0.5)
    WhitenedInfoNCE(4, 2, temperature=temperature)(first, second, seeded()).backward()
    assert temperature.log_scale.grad is not None
    assert temperature.log_scale.grad != 0
    plain, frozen = (
        torch.autograd.grad(WhitenedInfoNCE(4, 2, detach=d)(first, second, seeded()), second)[0]
        for d in (False, True)
    )
    assert frozen.abs().sum() > 0
    assert not torch.allclose(plain, frozen)


def test_no_table_of_all_pairs() -> None:
    first, second = two_views(4096, 4, torch.float32)
    with small_tiles(256), LargestTensor() as memory:
        WhitenedInfoNCE(4, 2, 2)(first, second, seeded()).backward()
    assert memory.numbers < 4096**2 / 8


def test_half_precision_is_computed_in_single() -> None:
    first, second = two_views(9, 6, dtype=torch.bfloat16)
    loss = WhitenedInfoNCE(6, 2)
    expected = loss(first.float(), second.float(), seeded())
    torch.testing.assert_close(loss(first, second, seeded()), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("groups: a divisor of dim=6 expected, got 4", {"groups": 4}),
        ("num_pos: ", {"num_pos": 0}),
        ("temperature: ", {"temperature": -1.0}),
        ("eps: ", {"eps": 0.0}),
    ],
)
def test_bad_arguments_are_named(message: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=message):
        WhitenedInfoNCE(**{"dim": 6, "groups": 2} | options)


def test_bad_views_are_named() -> None:
    with pytest.raises(ValueError, match="first: 6 features"):
        WhitenedInfoNCE(6, 2)(torch.ones(3, 4), torch.ones(3, 4), seeded())
    with pytest.raises(ValueError, match="second: shape"):
        WhitenedInfoNCE(6, 2)(torch.ones(3, 6), torch.ones(4, 6), seeded())
