r"""Log-sum-exp of rows over keys, of keys over rows as well if wanted, and the gradients.

One pass of tiles serves both directions. With fixed keys (a queue, a momentum encoder) the forward pass
accumulates :math:`U_i = \sum_j P_{ij} k_j` beside the sums, as flash attention does, and the backward pass is a product
with it: no tile is computed twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nearfar.objectives.denominator import Rule
from nearfar.objectives.tiles import (
    LOG2E,
    Logits,
    OnlineSum,
    Order,
    Tiling,
    Upstream,
    chunks,
    exponentials,
    part,
    spans,
    two_sided,
)


@dataclass(frozen=True)
class Cross:
    """One comparison of rows with keys.

    Attributes:
        rule: Which keys count.
        tiling: Size of the tiles.
        order: Order of rows and keys.
        shift: Whether logits may be large (online maximum).
    """

    rule: Rule
    tiling: Tiling
    order: Order
    shift: bool


def forward(
    a: Tensor, k: Tensor, cross: Cross, *, columns: bool, mean_key: bool
) -> tuple[OnlineSum, OnlineSum | None, Tensor | None]:
    """Sums of 2^s of every row, of every key, and the mean key of every row.

    Args:
        a: Rows, shape ``(B, N, d)``.
        k: Keys, shape ``(B, M, d)``.
        cross: The comparison.
        columns: Whether to sum over rows for every key as well.
        mean_key: Whether to return the mean of the keys by softmax weight, shape ``(B, N, d)``.
    """
    over_keys = OnlineSum(a, a.shape[:2], shift=cross.shift)
    over_rows = OnlineSum(a, k.shape[:2], shift=cross.shift) if columns else None
    mean = torch.zeros_like(a) if mean_key else None
    logits_of = Logits(a, cross.rule, cross.tiling, cross.order)
    for problems in chunks(len(a), cross.tiling):
        for rows in spans(a.shape[1], cross.tiling.rows):
            left = part(a, problems, rows) * LOG2E
            for keys in spans(k.shape[1], cross.tiling.keys):
                block, keep = logits_of.allowed(problems, rows, keys)
                if keep is False:
                    continue
                right = part(k, problems, keys)
                logits = logits_of(block, left, right)
                if cross.shift and keep is not True:
                    logits.masked_fill_(~torch.as_tensor(keep), -torch.inf)
                if over_rows is not None and cross.shift:
                    peak = over_rows.raise_peak(problems, keys, logits, -2)
                    terms = torch.sub(logits, peak[..., None, :], out=logits_of.scratch(logits.shape))
                    over_rows.add(problems, keys, terms.exp2_(), -2)
                if cross.shift:
                    assert over_keys.peak is not None
                    before = part(over_keys.peak, problems, rows).clone()
                    peak = over_keys.raise_peak(problems, rows, logits, -1)
                    terms = logits.sub_(peak[..., None]).exp2_()
                    if mean is not None:
                        part(mean, problems, rows).mul_(torch.exp2(before - peak)[..., None])
                else:
                    terms = exponentials(logits, keep)
                    if over_rows is not None:
                        over_rows.add(problems, keys, terms, -2)
                over_keys.add(problems, rows, terms, -1)
                if mean is not None:
                    part(mean, problems, rows).baddbmm_(terms, right)
    if mean is not None:
        mean /= torch.where(over_keys.total > 0, over_keys.total, 1)[..., None]
    return over_keys, over_rows, mean


def backward(
    a: Tensor, k: Tensor, cross: Cross, by_row: Upstream, by_key: Upstream | None
) -> tuple[Tensor, Tensor]:
    """Gradients with respect to rows and keys.

    Args:
        a: Rows, shape ``(B, N, d)``.
        k: Keys, shape ``(B, M, d)``.
        cross: The comparison.
        by_row: Of the sums over keys.
        by_key: Of the sums over rows, if there are any.
    """
    grad_a, grad_k = torch.zeros_like(a), torch.zeros_like(k)
    logits_of = Logits(a, cross.rule, cross.tiling, cross.order)
    for problems in chunks(len(a), cross.tiling):
        for rows in spans(a.shape[1], cross.tiling.rows):
            left, of_rows = part(a, problems, rows), by_row.part(problems, rows)
            scaled, weighted = left * LOG2E, left * of_rows.coefficient[..., None]
            for keys in spans(k.shape[1], cross.tiling.keys):
                block, keep = logits_of.allowed(problems, rows, keys)
                if keep is False:
                    continue
                right = part(k, problems, keys)
                weights = logits_of(block, scaled, right)
                if by_key is not None:
                    scratch, of_keys = logits_of.scratch(weights.shape), by_key.part(problems, keys)
                    weights = two_sided(weights, keep, scratch, of_rows, of_keys, shift=cross.shift)
                    part(grad_k, problems, keys).baddbmm_(weights.mT, left)
                else:  # a row's coefficient can wait: no pass over the tile for it
                    if cross.shift:
                        weights.sub_(of_rows.offset[..., None])
                    exponentials(weights, keep)
                    part(grad_k, problems, keys).baddbmm_(weights.mT, weighted)
                part(grad_a, problems, rows).baddbmm_(weights, right)
    return (grad_a.mul_(by_row.coefficient[..., None]) if by_key is None else grad_a), grad_k
