r"""Log-sum-exp of a batch compared with itself, and its gradient, from half of the tiles.

The logits are symmetric, so a tile (I, J) above the diagonal serves the rows of I and, read by columns, the
rows of J. With :math:`P_{ij} = 2^{s_{ij} - \mathrm{lse}_i}` and upstream gradients g the gradient is
:math:`dx_i = \sum_j (g_i P_{ij} + g_j P_{ji}) x_j`; tiles are computed a second time rather than stored. Per pass n^2 d
multiply-adds for n rows: fewer, recomputation included, than the dense form needs without.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.objectives.tiles import Logits, OnlineSum, Schedule, Sweep, Tiling, Upstream, spans, two_sided


def upper_tiles(num_rows: int, tiling: Tiling) -> Schedule:
    """Tiles on and above the diagonal, row by row.

    Args:
        num_rows: N.
        tiling: Size of the tiles, as many rows as keys.
    """
    pieces = spans(num_rows, tiling.rows)
    return [(rows, keys) for i, rows in enumerate(pieces) for keys in pieces[i:]]


def forward(x: Tensor, sweep: Sweep, schedule: Schedule) -> OnlineSum:
    """Sums of 2^s of every row over the scheduled tiles.

    Args:
        x: Rows, shape ``(B, N, d)``; their dot products are the logits (natural units).
        sweep: How to go through them, with a symmetric rule and one order for rows and keys.
        schedule: Tiles to visit, each unordered pair of row blocks at most once.
    """
    sums = OnlineSum(x, x.shape[:2], shift=sweep.shift)
    logits_of = Logits(x, sweep)
    for tile in sweep.visit(x, schedule):
        logits = logits_of(tile, tile.of_rows(x), tile.of_keys(x))
        sides = (-1,) if tile.on_diagonal else (-1, -2)
        if sweep.shift:
            tile.hide(logits, -torch.inf)
            for dim in sides:
                sums.absorb(tile, logits, dim, out=logits_of.scratch(logits.shape))
        else:
            tile.hide(logits.exp2_(), 0)
            for dim in sides:
                sums.add(tile, logits, dim)
    return sums


def backward(x: Tensor, upstream: Upstream, sweep: Sweep, schedule: Schedule) -> Tensor:
    """Gradient with respect to ``x``.

    Args:
        x: Rows, shape ``(B, N, d)``.
        upstream: Of every row's log-sum-exp.
        sweep: As :func:`forward`.
        schedule: As :func:`forward`.
    """
    out = torch.zeros_like(x)
    logits_of = Logits(x, sweep)
    for tile in sweep.visit(x, schedule):
        left, right = tile.of_rows(x), tile.of_keys(x)
        logits = logits_of(tile, left, right)
        scratch = logits_of.scratch(logits.shape)
        weights = two_sided(tile, logits, scratch, upstream, upstream, shift=sweep.shift)
        tile.of_rows(out).baddbmm_(weights, right)
        if not tile.on_diagonal:
            tile.of_keys(out).baddbmm_(weights.mT, left)
    return out
