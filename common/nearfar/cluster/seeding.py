"""First centres: far from each other, drawn by chance in proportion to the squared distance (k-means++).

Differs from Arthur and Vassilvitskii (SODA 2007) for many centres: the first are drawn one by one, later ones in
batches of an eighth of those there are, so that distances are renewed by few products of matrices; and from a sample
of the points where there are many to a centre.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.cluster.points import ROWS, Points

SAMPLE, FEWEST = 32, 2**11  # points a centre, and at least
STEPS = 2.0**30  # of a distance, so that weights are integers and add up exactly


def seeds(points: Points, m: int, generator: torch.Generator) -> Tensor:
    """Centres to start from.

    Args:
        points: Shape ``(n, d)``, with n of at least ``m``.
        m: How many.
        generator: What is drawn comes from here.

    Returns:
        On the grid, float64, shape ``(m, d)``; rows of the points, no row twice.
    """
    if len(points) > (most := max(SAMPLE * m, FEWEST)):
        points = points.take(sample(len(points), most, generator).to(points.rows.device))
    n = len(points)
    weight = torch.ones(n, dtype=torch.int64, device=points.rows.device)
    distance = torch.full((n,), torch.inf, device=points.rows.device)
    chosen = torch.zeros(n, dtype=torch.bool, device=points.rows.device)
    order: list[Tensor] = []
    count = 0
    while count < m:
        rows = _drawn(weight, min(max(count // 8, 1), m - count), generator)
        order.append(rows)
        count += len(rows)
        chosen[rows] = True
        centers = points.rows[rows].double()
        for start in range(0, n, ROWS):
            part = torch.arange(start, min(start + ROWS, n), device=rows.device)
            near = -points.scores(centers, part).amax(1)
            distance[part] = torch.minimum(distance[part], near)
        weight = (distance * STEPS).long().clamp(min=0).masked_fill(chosen, 0)
        if not weight.any():  # copies of what there is are all that is left
            weight = (~chosen).long()
    return points.rows[torch.cat(order)].double()


def _drawn(weight: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """At most ``count`` different rows with a chance in proportion to their weight."""
    upto = weight.cumsum(0)
    # A share of the sum, not a number below it: a sum that is slightly different leads to the same rows.
    share = torch.rand(count, generator=generator, device=generator.device, dtype=torch.float64)
    place = (share.to(weight.device) * upto[-1]).long().clamp(max=upto[-1] - 1)
    rows: Tensor = torch.searchsorted(upto, place, right=True).unique()
    return rows


def sample(n: int, count: int, generator: torch.Generator) -> Tensor:
    """Different rows, in increasing order, int64, shape ``(count,)``.

    Args:
        n: Rows to draw from.
        count: How many.
        generator: What is drawn comes from here.

    Example:
        >>> sample(3, 3, torch.Generator()).tolist()
        [0, 1, 2]
    """
    return torch.randperm(n, generator=generator, device=generator.device)[:count].sort().values
