r"""Log-sum-exp of rows over keys, of keys over rows as well if wanted, and the gradients.

One pass of tiles serves both directions. With fixed keys (a queue, a momentum encoder) the forward pass
accumulates :math:`U_i = \sum_j P_{ij} k_j` beside the sums, as flash attention does, and the backward pass is a product
with it: no tile is computed twice.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.objectives.tiles import Logits, OnlineSum, Sweep, Upstream, grid, two_sided


def forward(
    a: Tensor, k: Tensor, sweep: Sweep, *, columns: bool, mean_key: bool
) -> tuple[OnlineSum, OnlineSum | None, Tensor | None]:
    """Sums of 2^s of every row, of every key, and the mean key of every row.

    Args:
        a: Rows, shape ``(B, N, d)``.
        k: Keys, shape ``(B, M, d)``.
        sweep: How to go through them.
        columns: Whether to sum over rows for every key as well.
        mean_key: Whether to return the mean of the keys by softmax weight, shape ``(B, N, d)``.
    """
    over_keys = OnlineSum(a, a.shape[:2], shift=sweep.shift)
    over_rows = OnlineSum(a, k.shape[:2], shift=sweep.shift) if columns else None
    mean = torch.zeros_like(a) if mean_key else None
    logits_of = Logits(a, sweep)
    for tile in sweep.visit(a, grid(a.shape[1], k.shape[1], sweep.tiling)):
        terms = logits_of(tile, tile.of_rows(a), tile.of_keys(k))
        if sweep.shift:
            tile.hide(terms, -torch.inf)
            if over_rows is not None:
                over_rows.absorb(tile, terms, -2, out=logits_of.scratch(terms.shape))
            terms, shrunk = over_keys.absorb(tile, terms, -1, out=terms)
            if mean is not None:
                tile.of_rows(mean).mul_(shrunk[..., None])
        else:
            tile.hide(terms.exp2_(), 0)
            over_keys.add(tile, terms, -1)
            if over_rows is not None:
                over_rows.add(tile, terms, -2)
        if mean is not None:
            tile.of_rows(mean).baddbmm_(terms, tile.of_keys(k))
    if mean is not None:
        mean /= torch.where(over_keys.total > 0, over_keys.total, 1)[..., None]
    return over_keys, over_rows, mean


def backward(
    a: Tensor, k: Tensor, sweep: Sweep, by_row: Upstream, by_key: Upstream | None
) -> tuple[Tensor, Tensor]:
    """Gradients with respect to rows and keys.

    Args:
        a: Rows, shape ``(B, N, d)``.
        k: Keys, shape ``(B, M, d)``.
        sweep: How to go through them.
        by_row: Of the sums over keys.
        by_key: Of the sums over rows, if there are any.
    """
    grad_a, grad_k = torch.zeros_like(a), torch.zeros_like(k)
    logits_of = Logits(a, sweep)
    weighted = a if by_key is not None else a * by_row.coefficient[..., None]
    for tile in sweep.visit(a, grid(a.shape[1], k.shape[1], sweep.tiling)):
        right = tile.of_keys(k)
        weights = logits_of(tile, tile.of_rows(a), right)
        if by_key is not None:
            scratch = logits_of.scratch(weights.shape)
            weights = two_sided(tile, weights, scratch, by_row, by_key, shift=sweep.shift)
        else:  # a row's coefficient can wait: no pass over the tile for it
            if sweep.shift:
                weights.sub_(tile.of_rows(by_row.offset)[..., None])
            tile.hide(weights.exp2_(), 0)
        tile.of_keys(grad_k).baddbmm_(weights.mT, tile.of_rows(weighted))
        tile.of_rows(grad_a).baddbmm_(weights, right)
    return (grad_a.mul_(by_row.coefficient[..., None]) if by_key is None else grad_a), grad_k
