"""Deferred acceptance against the loop that it stands for, and where it could be slow or never end."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.cluster import acceptance, greedy_assignment, optimal_assignment
from nearfar.errors import DataError
from nearfar.runtime import numpy_generator


def by_loop(scores: NDArray[np.float64], capacities: list[int] | None = None) -> list[int]:
    """All pairs by score, equals by point and then by centre; one after the other."""
    n, m = scores.shape
    labels = [-1] * n
    phases = [[n // m] * m, [1] * m] if capacities is None else [list(capacities)]
    for room in phases:
        left = {i for i in range(n) if labels[i] < 0}
        for pair in np.argsort(-scores.ravel(), kind="stable").tolist():
            i, j = divmod(pair, m)
            if i in left and room[j]:
                labels[i] = j
                room[j] -= 1
                left.remove(i)
    return labels


def problem(case: int) -> NDArray[np.float64]:
    """Continuous scores, scores with many ties, copies of points, copies of points and centres, in turn."""
    rng = numpy_generator(0, "problem", case)
    m = int(rng.integers(1, 13))
    n = int(rng.integers(m, 121))
    scores = rng.normal(size=(n, m))
    if case % 4 == 1:
        scores = np.round(scores)
    if case % 4 >= 2:
        scores = scores[rng.integers(0, max(n // 4, 1), n)]
    if case % 4 == 3:
        scores = scores[:, rng.integers(0, m, m)]
    return scores.astype(np.float32).astype(np.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_against_the_loop(dtype: torch.dtype) -> None:
    for case in range(300):
        scores = problem(case)
        found = greedy_assignment(torch.from_numpy(scores).to(dtype))
        assert found.tolist() == by_loop(scores), case


def test_against_the_loop_with_capacities() -> None:
    """Some of them zero, some more than there are points, some with places to spare."""
    for case in range(200):
        scores = problem(case)
        n, m = scores.shape
        rng = numpy_generator(0, "capacities", case)
        capacities = rng.integers(0, 2 * n // m + 2, m)
        capacities[rng.integers(m)] += max(n - capacities.sum(), 0)
        found = greedy_assignment(torch.from_numpy(scores), torch.from_numpy(capacities))
        assert found.tolist() == by_loop(scores, capacities.tolist()), case


def test_blocks_have_no_seams(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = torch.from_numpy(problem(1))
    expected = greedy_assignment(scores)
    monkeypatch.setattr(acceptance, "BLOCK", 7)
    assert torch.equal(greedy_assignment(scores), expected)


def test_minus_zero_is_zero() -> None:
    scores = torch.tensor([[-0.0, 0.0], [0.0, -0.0], [0.0, 0.0], [-0.0, -0.0]])
    assert greedy_assignment(scores).tolist() == [0, 0, 1, 1]


def rounds(monkeypatch: pytest.MonkeyPatch, scores: Tensor) -> tuple[Tensor, int]:
    """Labels, and how many rounds of proposals they took."""
    calls = []
    one = acceptance.Acceptance._round

    def counted(self: acceptance.Acceptance, free: Tensor, score: Tensor, center: Tensor) -> Tensor:
        calls.append(1)
        return one(self, free, score, center)

    monkeypatch.setattr(acceptance.Acceptance, "_round", counted)
    return greedy_assignment(scores), len(calls)


def test_equal_scores_take_a_round_a_centre(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a round a point; and of points that all agree on the order of centres the same is true."""
    n, m = 20_000, 100
    labels, count = rounds(monkeypatch, torch.zeros(n, m))
    assert torch.equal(labels, torch.arange(n) // (n // m))
    assert count <= m
    agreed = torch.arange(m, 0, -1.0).expand(n, m)
    labels, count = rounds(monkeypatch, agreed)
    assert torch.equal(labels, torch.arange(n) // (n // m))
    assert count <= m


def test_a_chain_of_displacements_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each newcomer sends one point on to the next centre; rounds stay within the bound of n m proposals."""
    n = 200
    scores = torch.full((n, n), -1.0)
    for i in range(n):
        scores[i, i] = 2 * i
        scores[i, min(i + 1, n - 1)] = max(2 * i + 1, scores[i, min(i + 1, n - 1)].item())
    labels, count = rounds(monkeypatch, scores)
    assert labels.tolist() == by_loop(scores.double().numpy())
    assert count <= n * n


def test_small_shapes() -> None:
    assert greedy_assignment(torch.zeros(0, 3)).tolist() == []
    assert greedy_assignment(torch.randn(5, 1, generator=torch.Generator())).tolist() == [0] * 5
    assert greedy_assignment(torch.eye(4)[[2, 0, 3, 1]]).tolist() == [2, 0, 3, 1]
    assert greedy_assignment(torch.tensor([[1, 3, 2]])).tolist() == [1]


def test_at_least_half_of_the_optimum() -> None:
    pytest.importorskip("scipy")
    worst = 1.0
    for case in range(60):
        rng = numpy_generator(0, "half", case)
        m = int(rng.integers(1, 9))
        scores = torch.from_numpy(rng.normal(size=(m * int(rng.integers(1, 60 // m + 1)), m)))
        scores -= scores.min()
        best = scores.gather(1, optimal_assignment(scores)[:, None]).sum()
        ours = scores.gather(1, greedy_assignment(scores)[:, None]).sum()
        assert ours <= best * (1 + 1e-12)
        worst = min(worst, (ours / best).item() if best > 0 else 1.0)
    assert worst >= 0.5


def test_greedy_is_not_optimal() -> None:
    """So that the comparison above compares two different things."""
    scores = torch.tensor([[0.9, 0.8], [0.7, 0.1]])
    assert greedy_assignment(scores).tolist() == [0, 1]
    totals = [scores[0, a] + scores[1, b] for a, b in itertools.permutations(range(2))]
    assert max(totals) == scores[0, 1] + scores[1, 0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("assign", [greedy_assignment, optimal_assignment])
def test_scores_that_are_not_finite(assign: object, bad: float) -> None:
    scores = torch.zeros(5, 3)
    scores[3, 2] = bad
    with pytest.raises(DataError, match=r"scores: .* got (nan|inf|-inf) at row 3, column 2"):
        assign(scores)  # type: ignore[operator]


def test_large_finite_scores_are_no_infinity() -> None:
    huge = torch.full((4, 2), 3e38)
    assert greedy_assignment(huge).tolist() == [0, 0, 1, 1]


def test_bad_input() -> None:
    with pytest.raises(DataError, match=r"scores: .*\(n, m\).* got torch.float32 of shape \(3,\)"):
        greedy_assignment(torch.zeros(3))
    with pytest.raises(DataError, match=r"scores: .* shape \(3, 0\)"):
        greedy_assignment(torch.zeros(3, 0))
    with pytest.raises(DataError, match="scores: .* got 'scores'"):
        greedy_assignment("scores")  # type: ignore[arg-type]
    scores = torch.zeros(4, 2)
    for wrong in ([1, 1, 2], [-1, 5], [2.0, 2.0]):
        with pytest.raises(DataError, match="capacities: 2 integers of at least 0"):
            greedy_assignment(scores, torch.tensor(wrong))
    with pytest.raises(DataError, match="capacities: together at least 4, .* got 3"):
        greedy_assignment(scores, torch.tensor([1, 2]))
