"""Assignment of very many points to very many centres: each point knows the few centres that are nearest to it.

A point is compared with the :data:`COMPARED` centres around the centre that it has, or around the nearest of some heads
if it has none yet. The best :data:`LISTED` of these are its list. Deferred acceptance runs on the lists; a point that
all centres on its list have turned away gets a new list, the best of all the centres that would take it. The last few
points take what places are left.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from nearfar.cluster.acceptance import Acceptance, Bars, Propose, greedy_labels
from nearfar.cluster.bisection import pieces
from nearfar.cluster.points import Points

LISTED = 16
COMPARED = 192
GROUP = 64  # centres to a head
RENEWED = 8  # lists of a point, before at most LAST points take what places are left
LAST = 2_000
STEP = 2**12  # points at a time
BLOCK = 8  # columns whose largest stands for them
FEW = 512  # columns


def listed_assignment(
    points: Points, centers: Tensor, generator: torch.Generator, labels: Tensor | None = None
) -> Tensor:
    """Balanced labels, greedy among the pairs on the lists.

    The centres that most points are nearest to are those that hold one more.

    Args:
        points: Shape ``(n, d)``.
        centers: On the grid, shape ``(m, d)``.
        generator: For heads, if there are no labels.
        labels: The centre that every point has, shape ``(n,)``.

    Returns:
        int64, shape ``(n,)``.
    """
    n, m = len(points), len(centers)
    score, center = _lists(points, centers, _buckets(points, centers, generator, labels))
    first = center.gather(1, score.max(1).indices[:, None])[:, 0]
    demand = torch.bincount(first, minlength=m)
    capacities = torch.full((m,), n // m, device=center.device)
    capacities[demand.sort(descending=True, stable=True).indices[: n % m]] += 1

    found = Acceptance(n, capacities, score.dtype)
    free, renewed = torch.arange(n, device=center.device), 0
    while len(free):
        found.run(free, _from_lists(score, center))
        # Everybody else is settled for now. Some centre has room while a point is free, so that this ends.
        free = (found.labels < 0).nonzero()[:, 0]
        if renewed >= RENEWED and len(free) <= LAST:
            _fill(points, centers, capacities, found.labels, free)
            break
        renewed += 1
        for start in range(0, len(free), STEP):
            lost = free[start : start + STEP]
            score[lost], center[lost] = _open(points, centers, lost, found.bars, center.shape[1])
    return found.labels


def _fill(points: Points, centers: Tensor, capacities: Tensor, labels: Tensor, free: Tensor) -> None:
    """Places that are left, greedily, without moving anybody: long chains of moves for a few points gain nothing."""
    room = capacities - torch.bincount(labels[labels >= 0], minlength=len(centers))
    open_ = room.nonzero()[:, 0]
    labels[free] = open_[greedy_labels(points.scores(centers[open_], free), room[open_])]


def _from_lists(score: Tensor, center: Tensor) -> Propose:
    def propose(free: Tensor, bars: Bars) -> tuple[Tensor, Tensor]:
        value, column = torch.empty(len(free), device=free.device), torch.empty_like(free)
        for start in range(0, len(free), STEP * 4):
            part = slice(start, start + STEP * 4)
            listed = center.index_select(0, free[part])
            value[part], place = bars.best(score.index_select(0, free[part]), free[part], listed)
            column[part] = listed.gather(1, place[:, None])[:, 0]
        return value, column

    return propose


def _open(points: Points, centers: Tensor, rows: Tensor, bars: Bars, count: int) -> tuple[Tensor, Tensor]:
    """The best of all centres that would take them; minus infinity beyond."""
    score = points.scores(centers, rows)
    passes = (score > bars.score) | ((score == bars.score) & (rows[:, None] < bars.point))
    return best_columns(score.masked_fill_(~passes, -torch.inf), count)


def _lists(
    points: Points, centers: Tensor, buckets: Iterable[tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """Scores and centres, increasing, of every point's list, float32 and int64, shape ``(n, LISTED)``."""
    n, count = len(points), min(LISTED, len(centers))
    score = torch.empty(n, count, device=centers.device)
    center = torch.empty(n, count, dtype=torch.int64, device=centers.device)
    for rows, near in buckets:
        some = centers.index_select(0, near)
        for part in rows.split(STEP):
            score[part], column = best_columns(points.scores(some, part), count)
            center[part] = near[column]
    return score, center


def _buckets(
    points: Points, centers: Tensor, generator: torch.Generator, labels: Tensor | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Points, and the centres they are compared with, increasing."""
    everyone = torch.arange(len(points), device=centers.device)
    if len(centers) <= COMPARED:
        yield everyone, torch.arange(len(centers), device=centers.device)
        return
    # Centres are points here; their rounding to the coarser grid only decides who is compared with whom.
    heads = Points(centers.float(), points.metric, points.shift, points.scale)
    if labels is None:
        heads = _heads(heads, generator)
        labels = torch.cat(
            [points.scores(heads.rows.double(), part).max(1).indices for part in everyone.split(STEP)]
        )
    order = labels.int().sort(stable=True).indices
    parts = order.split(torch.bincount(labels, minlength=len(heads)).tolist())
    around = torch.arange(len(heads), device=centers.device).split(STEP // 4)
    near = torch.cat([best_columns(heads.scores(centers, part), COMPARED)[1] for part in around])
    yield from ((rows, near[number]) for number, rows in enumerate(parts) if len(rows))


def _heads(centers: Points, generator: torch.Generator) -> Points:
    """Means of groups of centres."""
    count = -(-len(centers) // GROUP)
    which = torch.empty(len(centers), dtype=torch.int64, device=centers.rows.device)
    for number, (rows, _) in enumerate(pieces(centers, count, 0, generator)):
        which[rows] = number
    heads = centers.centers(*centers.sums(which, count))
    return Points(heads.float(), centers.metric, centers.shift, centers.scale)


def best_columns(score: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` largest of every row in order of their columns, and these.

    A value among the largest lies in a block whose maximum is among the largest maxima, so only these are searched:
    twice as fast as searching all of a thousand columns, and slower for two hundred.

    Args:
        score: Shape ``(k, c)``.
        count: At most c.

    Returns:
        Both of shape ``(k, count)``.

    Example:
        >>> best_columns(torch.tensor([[1.0, 4.0, 2.0, 3.0]]), 2)
        (tensor([[4., 3.]]), tensor([[1, 3]]))
    """
    whole = score.shape[1] // BLOCK * BLOCK
    if len(score) == 0 or whole < max(2 * BLOCK * count, FEW):
        column = score.topk(count, dim=1, sorted=False).indices.sort(1).values
        return score.gather(1, column), column
    maxima = score[:, :whole].reshape(len(score), -1, BLOCK).amax(2)
    block = maxima.topk(count, dim=1, sorted=False).indices.sort(1).values
    within = torch.arange(BLOCK, device=score.device)
    column = (block[:, :, None] * BLOCK + within).flatten(1)
    rest = torch.arange(whole, score.shape[1], device=score.device).expand(len(score), -1)
    column = torch.cat([column, rest], 1)
    place = score.gather(1, column).topk(count, dim=1, sorted=False).indices
    column = column.gather(1, place).sort(1).values
    return score.gather(1, column), column
