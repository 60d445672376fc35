"""Greedy assignment under capacities by deferred acceptance: all points at once, not one pair after the other.

Taking the largest remaining pair again and again gives the only stable matching there is when points and centres rank
by the same scores; Gale and Shapley's proposals find the same one. Every free point proposes to the best centre that
it may still hope for; every centre keeps the best of those who proposed so far, as many as it holds, and the rest are
free again. The weakest that a full centre keeps is its bar, and a bar only ever rises.

It ends: no pair is proposed twice, because a point that is turned away was below the bar and stays below it. With n
points and m centres there are at most n m proposals, and a round without one is the last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from nearfar.errors import DataError

BLOCK = 2**19  # scores looked at at a time


@dataclass
class Bars:
    """What a proposal to each centre has to beat: its score, or at the same score its place among the points.

    Attributes:
        score: Shape ``(m,)``; minus infinity while a centre has room, infinity if it holds nobody.
        point: Shape ``(m,)``.
    """

    score: Tensor
    point: Tensor

    @classmethod
    def of(cls, capacities: Tensor, dtype: torch.dtype) -> Bars:
        """Bars before the first round.

        Args:
            capacities: Shape ``(m,)``.
            dtype: Of scores.
        """
        score = torch.full(capacities.shape, -torch.inf, dtype=dtype, device=capacities.device)
        return cls(score.masked_fill(capacities == 0, torch.inf), torch.full_like(capacities, -1))

    def best(self, scores: Tensor, points: Tensor, centers: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Highest score of every row that passes, and its column; minus infinity where none does.

        Args:
            scores: Shape ``(k, c)``.
            points: Which points the rows are, shape ``(k,)``.
            centers: Which centres the columns are, row by row, increasing, shape ``(k, c)``; all by default.
        """
        bar = self.score if centers is None else self.score[centers]
        value, column = torch.where(scores < bar, -torch.inf, scores).max(1)
        # Below its bar a pair is out for certain; at the bar the place decides, and that is rare.
        center = column if centers is None else centers.gather(1, column[:, None])[:, 0]
        tied = ((value == self.score[center]) & (points > self.point[center])).nonzero()[:, 0]
        if len(tied):
            bar = self.score if centers is None else self.score[centers[tied]]
            place = self.point if centers is None else self.point[centers[tied]]
            open_ = (scores[tied] > bar) | ((scores[tied] == bar) & (points[tied, None] < place))
            value[tied], column[tied] = scores[tied].where(open_, -torch.inf).max(1)
        return value, column


Propose: TypeAlias = Callable[[Tensor, Bars], tuple[Tensor, Tensor]]


class Acceptance:
    """Proposals so far. Whoever proposes first, the end is the same, so points may be kept back and join later.

    Args:
        n: Points.
        capacities: Of the centres, int64, shape ``(m,)``.
        dtype: Of scores.

    Attributes:
        labels: Centre of every point, -1 where there is none; int64, shape ``(n,)``.
        bars: What a proposal has to beat.
    """

    def __init__(self, n: int, capacities: Tensor, dtype: torch.dtype) -> None:
        self.capacities = capacities
        self.labels = torch.full((n,), -1, device=capacities.device)
        self.bars = Bars.of(capacities, dtype)
        self._held = torch.empty(n, dtype=dtype, device=capacities.device)

    def run(self, free: Tensor, propose: Propose) -> None:
        """Rounds until nobody is free who has anybody left to propose to.

        Args:
            free: Points without a centre that take part, increasing, shape ``(k,)``.
            propose: From free points, increasing, shape ``(k,)``, and the bars to the best score that passes and its
                centre, both ``(k,)``; minus infinity where none passes.
        """
        while len(free):
            score, center = propose(free, self.bars)
            hopeful = score > -torch.inf
            free = self._round(free[hopeful], score[hopeful], center[hopeful])

    def _round(self, free: Tensor, score: Tensor, center: Tensor) -> Tensor:
        """One round of proposals; who is free after it."""
        labels, held, m = self.labels, self._held, len(self.capacities)
        touched = torch.zeros(m + 1, dtype=torch.bool, device=free.device)
        touched[center] = True
        holders = touched[labels].nonzero()[:, 0]  # -1 is the last, which nobody touches
        labels[free], held[free] = center, score
        point = torch.cat([holders, free])
        if len(holders):
            point = point.sort().values
        # Best first within each centre: sorted by the last criterion first, as points are already.
        point = point[descending(held[point]).sort(stable=True).indices]
        of_point, order = labels[point].int().sort(stable=True)
        point, of_point = point[order], of_point.long()
        count = torch.bincount(of_point, minlength=m)
        rank = torch.arange(len(point), device=point.device) - (count.cumsum(0) - count)[of_point]
        room = self.capacities[of_point]
        weakest = point[rank == room - 1]
        full = labels[weakest]
        self.bars.score[full], self.bars.point[full] = held[weakest], weakest
        lost = point[rank >= room]
        labels[lost] = -1
        return lost.sort().values


def descending(scores: Tensor) -> Tensor:
    """Integers that sort as the scores do from the largest down; several times faster to sort.

    Args:
        scores: float32 or float64, shape ``(n,)``.

    Returns:
        int32 or int64, same shape.

    Example:
        >>> descending(torch.tensor([-2.0, 0.5, 3.0, -0.0])).argsort().tolist()
        [2, 1, 3, 0]
    """
    wide = scores.dtype == torch.float64
    bits = (scores + 0.0).view(torch.int64 if wide else torch.int32)  # -0 becomes 0
    top = torch.iinfo(bits.dtype).max
    return ~(bits ^ ((bits >> (63 if wide else 31)) & top))


def balanced_capacities(n: int, m: int, *, device: torch.device | None = None) -> tuple[Tensor, int]:
    """What each centre holds at least, and how many hold one more.

    Args:
        n: Points.
        m: Centres.
        device: Of the result.

    Returns:
        int64, shape ``(m,)``, and the rest.

    Example:
        >>> balanced_capacities(7, 3)
        (tensor([2, 2, 2]), 1)
    """
    return torch.full((m,), n // m, device=device), n % m


def greedy_labels(scores: Tensor, capacities: Tensor | None = None) -> Tensor:
    """As :func:`greedy_assignment`, of scores that are known to be in order.

    Args:
        scores: Shape ``(n, m)``.
        capacities: Shape ``(m,)``; balanced by default.

    Returns:
        Shape ``(n,)``.
    """
    n, m = scores.shape
    rest = 0
    if capacities is None:
        capacities, rest = balanced_capacities(n, m, device=scores.device)
    labels = _accepted(scores, None, capacities)
    if rest:
        left = (labels < 0).nonzero()[:, 0]
        labels[left] = _accepted(scores, left, torch.ones_like(capacities))
    return labels


def _accepted(scores: Tensor, left: Tensor | None, capacities: Tensor) -> Tensor:
    found = Acceptance(len(scores) if left is None else len(left), capacities, scores.dtype)
    found.run(torch.arange(len(found.labels), device=scores.device), _from_rows(scores, left))
    return found.labels


def _from_rows(scores: Tensor, left: Tensor | None) -> Propose:
    """Proposals from a matrix of scores, or from some rows of it."""
    step = max(BLOCK // scores.shape[1], 1)

    def propose(free: Tensor, bars: Bars) -> tuple[Tensor, Tensor]:
        if left is None and len(free) == len(scores) and not bars.score.isfinite().any():
            return _first(scores, bars, step)
        value, column = scores.new_empty(len(free)), torch.empty_like(free)
        for start in range(0, len(free), step):
            points = free[start : start + step]
            part = slice(start, start + len(points))
            rows = scores.index_select(0, points if left is None else left[points])
            value[part], column[part] = bars.best(rows, points)
        return value, column

    return propose


def _first(scores: Tensor, bars: Bars, step: int) -> tuple[Tensor, Tensor]:
    """Nobody is held yet, so that all centres with any room are open."""
    if bool((bars.score == -torch.inf).all()):
        found = [part.max(1) for part in scores.split(step)]
    else:
        found = [torch.where(bars.score > 0, -torch.inf, part).max(1) for part in scores.split(step)]
    return torch.cat([value for value, _ in found]), torch.cat([column for _, column in found])


@torch.no_grad()
def greedy_assignment(scores: Tensor, capacities: Tensor | None = None) -> Tensor:
    """Points to centres, the largest remaining score first, each centre up to its capacity.

    Exactly what a loop over all pairs gives, sorted by score, equals by point and then by centre. By default sizes
    are balanced in the two phases of SBCL (Hou et al., ICCV 2023, algorithm 1): each of m centres takes floor(n / m)
    points, and then each takes at most one of those that are left.

    Args:
        scores: Any finite numbers, larger is better, shape ``(n, m)``.
        capacities: Points that each centre may take, shape ``(m,)``; together at least n.

    Returns:
        Centre of every point, int64, shape ``(n,)``.

    Raises:
        DataError: If scores are no matrix of finite numbers, or the points do not fit.

    Example:
        >>> greedy_assignment(torch.tensor([[0.9, 0.8], [0.7, 0.1], [0.6, 0.5], [0.3, 0.2]])).tolist()
        [0, 0, 1, 1]
    """
    scores = checked_scores(scores)
    return greedy_labels(scores, checked_capacities(scores, capacities))


def checked_scores(scores: Tensor) -> Tensor:
    """Scores as float32 or float64.

    Args:
        scores: Wanted of shape ``(n, m)``.

    Raises:
        DataError: If they are no matrix of finite numbers with a column.
    """
    if not isinstance(scores, Tensor) or scores.dim() != 2 or scores.is_complex() or not scores.shape[1]:
        got = f"{scores.dtype} of shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else repr(scores)
        raise DataError(f"scores: a tensor (n, m) of real numbers with m of at least 1 expected, got {got}")
    if scores.dtype not in (torch.float32, torch.float64):
        scores = scores.double() if not scores.is_floating_point() else scores.float()
    if not scores.sum().isfinite() and len(wrong := (~scores.isfinite()).nonzero()):
        row, column = wrong[0].tolist()
        raise DataError(
            f"scores: finite numbers expected, got {scores[row, column].item()} at row {row}, column {column}"
        )
    return scores


def checked_capacities(scores: Tensor, capacities: Tensor | None) -> Tensor | None:
    """Capacities as int64 where the scores are.

    Args:
        scores: Shape ``(n, m)``.
        capacities: Wanted of shape ``(m,)``.

    Raises:
        DataError: If they are not m numbers of at least 0 that add up to n or more.
    """
    if capacities is None:
        return None
    n, m = scores.shape
    found = torch.as_tensor(capacities, device=scores.device)
    if found.shape != (m,) or found.is_floating_point() or bool((found < 0).any()):
        raise DataError(f"capacities: {m} integers of at least 0 expected, got {found.tolist()}")
    if int(found.sum()) < n:
        raise DataError(
            f"capacities: together at least {n}, one place for each point, expected, got {int(found.sum())}"
        )
    return found.long()
