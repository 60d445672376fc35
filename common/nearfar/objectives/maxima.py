"""Largest logit and number of keys of every row, tile by tile; no gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.objectives.denominator import Rule
from nearfar.objectives.gemm import fast_gemm
from nearfar.objectives.tiles import LN2, Logits, Order, Sweep, Tiling, grid


@torch.no_grad()
def row_maxima(a: Tensor, k: Tensor, rule: Rule, order: Order | None = None) -> tuple[Tensor, Tensor]:
    """Largest logit among the keys a rule leaves, and how many it leaves.

    Args:
        a: Left operand, shape ``(B, N, d)``.
        k: Right operand, shape ``(B, M, d)``.
        rule: Which keys count.
        order: Positions of rows and keys where they are not 0, 1, 2, ...

    Returns:
        Maxima ``(B, N)``, minus infinity where no key counts, and counts ``(B, N)``, int64.
    """
    shape = a.shape[:2]
    best = a.new_full(shape, -torch.inf)
    count = torch.zeros(shape, dtype=torch.int64, device=a.device)
    tiling = Tiling.choose((*shape, k.shape[1]), a.device)
    logits_of = Logits(a, Sweep(rule, tiling, order or Order()), weighted=False)
    with fast_gemm(a, tiling.rows):
        for tile in logits_of.visit(len(a), grid(a.shape[1], k.shape[1], tiling)):
            logits = tile.hide(logits_of(tile, tile.of_rows(a), tile.of_keys(k)), -torch.inf)
            counted = tile.keep.sum(-1) if isinstance(tile.keep, Tensor) else len(tile.block.keys)
            tile.of_rows(count).add_(counted)
            seen = tile.of_rows(best)
            seen.copy_(torch.maximum(seen, logits.amax(-1)))
    return best * LN2, count


def beats(value: Tensor, others: Tensor) -> Tensor:
    """Whether a value is larger than others by more than rounding: equal rows beat nobody.

    Args:
        value: Shape ``(..., N)``.
        others: Same shape as ``value``, computed in another order of summation.
    """
    margin = 32 * torch.finfo(value.dtype).eps * value.abs().clamp(min=1)
    return value - others > margin
