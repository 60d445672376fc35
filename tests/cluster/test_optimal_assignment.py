"""The optimal assignment against all assignments there are."""

from __future__ import annotations

import itertools

import pytest
import torch

from nearfar.cluster import greedy_assignment, optimal_assignment
from nearfar.errors import ConfigError, DataError
from nearfar.runtime import numpy_generator

pytest.importorskip("scipy")


def best_of_all(scores: torch.Tensor, least: list[int], most: list[int]) -> float:
    """The largest total over all labellings with sizes in bounds."""
    n, m = scores.shape
    best = -float("inf")
    for labels in itertools.product(range(m), repeat=n):
        if all(least[j] <= labels.count(j) <= most[j] for j in range(m)):
            best = max(best, sum(scores[i, j].item() for i, j in enumerate(labels)))
    return best


@pytest.mark.parametrize(("n", "m"), [(6, 3), (7, 3), (5, 2), (4, 4), (5, 4), (3, 1)])
def test_balanced(n: int, m: int) -> None:
    for case in range(5):
        scores = torch.from_numpy(numpy_generator(0, "optimal", n, m, case).normal(size=(n, m)))
        labels = optimal_assignment(scores)
        sizes = labels.bincount(minlength=m)
        assert sizes.min() >= n // m
        assert sizes.max() <= -(-n // m)
        total = scores.gather(1, labels[:, None]).sum().item()
        assert total == pytest.approx(best_of_all(scores, [n // m] * m, [-(-n // m)] * m))


def test_capacities() -> None:
    for case in range(5):
        scores = torch.from_numpy(numpy_generator(0, "capacities", case).normal(size=(6, 3)))
        capacities = [0, 4, 3]
        labels = optimal_assignment(scores, torch.tensor(capacities))
        total = scores.gather(1, labels[:, None]).sum().item()
        assert total == pytest.approx(best_of_all(scores, [0] * 3, capacities))


def test_never_below_greedy() -> None:
    scores = torch.from_numpy(numpy_generator(0, "greedy").normal(size=(103, 10)))
    best, ours = (
        scores.gather(1, assign(scores)[:, None]).sum() for assign in (optimal_assignment, greedy_assignment)
    )
    assert best > ours
    assert optimal_assignment(torch.zeros(0, 2)).tolist() == []


def test_too_large_and_too_few() -> None:
    with pytest.raises(ConfigError, match=r"'optimal' takes at most 2,000,000 scores .* use 'greedy'"):
        optimal_assignment(torch.zeros(2001, 1000))
    with pytest.raises(ConfigError, match=r"50,000,000 pairs .* 20,000 points x 2 centres"):
        optimal_assignment(torch.zeros(20_000, 2))
    with pytest.raises(DataError, match="together at least 4"):
        optimal_assignment(torch.zeros(4, 2), torch.tensor([1, 1]))
