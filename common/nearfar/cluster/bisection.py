"""Halving again and again with sizes known in advance.

Of two centres and two sizes the best assignment is known: sort by the difference of the two scores and cut. So any
number of clusters of floor(n / m) or ceil(n / m) points comes out exactly, in O(n d log m).
"""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.cluster.acceptance import descending
from nearfar.cluster.points import ROWS, Points
from nearfar.cluster.seeding import sample, seeds

SAMPLE = 2**14  # points that decide on the direction of a cut
ITERATIONS = 6


def pieces(points: Points, m: int, most: int, generator: torch.Generator) -> list[tuple[Tensor, int]]:
    """Parts of the points, each with the number of clusters that it is to become.

    Args:
        points: Shape ``(n, d)``.
        m: Clusters in all.
        most: Points in a part that need not be halved; one cluster's part never is.
        generator: What is drawn comes from here.

    Returns:
        Rows, increasing, and clusters. Parts of n points and m clusters have n // m points a cluster, as all have,
        or one more for some.
    """
    least = len(points) // m
    found: list[tuple[Tensor, int]] = []
    waiting = [(torch.arange(len(points), device=points.rows.device), m)]
    while waiting:
        rows, parts = waiting.pop()
        if parts == 1 or len(rows) <= most:
            found.append((rows, parts))
            continue
        left = parts // 2
        more = len(rows) - least * parts
        first = left * least + (more * left + parts // 2) // parts
        inside = _cut(points, rows, first, generator)
        waiting += [(rows[~inside], parts - left), (rows[inside], left)]
    return found


def _cut(points: Points, rows: Tensor, first: int, generator: torch.Generator) -> Tensor:
    """Which of the rows are in the first part."""
    few = rows
    if len(rows) > SAMPLE:
        few = rows[sample(len(rows), SAMPLE, generator).to(rows.device)]
    some = points.take(few)
    count = min(max(round(first * len(few) / len(rows)), 1), len(few) - 1)
    pair = seeds(some, 2, generator)
    everyone = torch.arange(len(few), device=rows.device)
    before = None
    for _ in range(ITERATIONS):
        inside = _top(_along(some, pair, everyone), count)
        if before is not None and torch.equal(inside, before):
            break
        before = inside
        pair = some.centers(*some.sums((~inside).long(), 2))
    return _top(_along(points, pair, rows), first)


def _along(points: Points, pair: Tensor, rows: Tensor) -> Tensor:
    """Products with the difference of two centres, exact, float64."""
    direction = pair[0] - pair[1]
    return torch.cat([points.rows.index_select(0, part).double() @ direction for part in rows.split(ROWS)])


def _top(value: Tensor, count: int) -> Tensor:
    inside = torch.zeros(len(value), dtype=torch.bool, device=value.device)
    inside[descending(value.float()).sort(stable=True).indices[:count]] = True
    return inside
