"""Largest logit, hardest key and number of keys of every row, tile by tile; no gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.objectives.denominator import Rule
from nearfar.objectives.gemm import fast_gemm
from nearfar.objectives.tiles import LN2, Logits, Order, Schedule, Sweep, Tiling, grid


@torch.no_grad()
def row_maxima(a: Tensor, k: Tensor, rule: Rule, order: Order | None = None) -> Tensor:
    """Largest logit among the keys a rule leaves, without the rule's log-weights.

    Args:
        a: Left operand, shape ``(B, N, d)``.
        k: Right operand, shape ``(B, M, d)``.
        rule: Which keys count.
        order: Positions of rows and keys where they are not 0, 1, 2, ...

    Returns:
        Shape ``(B, N)``, minus infinity where no key counts.
    """
    return _hardest(a, k, rule, order)[0] * LN2


@torch.no_grad()
def hardest_keys(a: Tensor, k: Tensor, rule: Rule) -> Tensor:
    """Which key a rule leaves has the largest logit, the first of equal ones.

    Args:
        a: Left operand, shape ``(B, N, d)``.
        k: Right operand, shape ``(B, M, d)``.
        rule: Which keys count.

    Returns:
        Positions among the keys, shape ``(B, N)``, int64; -1 where no key counts.
    """
    return _hardest(a, k, rule, None)[1]


def _hardest(a: Tensor, k: Tensor, rule: Rule, order: Order | None) -> tuple[Tensor, Tensor]:
    """Largest logit, base 2, and its place among the keys as they are visited."""
    best = a.new_full(a.shape[:2], -torch.inf)
    place = torch.full(a.shape[:2], -1, dtype=torch.int64, device=a.device)
    sweep, schedule = _sweep(a, k, rule, order)
    logits_of = Logits(a, sweep, weighted=False)
    with fast_gemm(a, sweep.tiling.rows):
        for tile in sweep.visit(a, schedule):
            logits = tile.hide(logits_of(tile, tile.of_rows(a), tile.of_keys(k)), -torch.inf)
            largest, key = logits.max(-1)
            seen, where = tile.of_rows(best), tile.of_rows(place)
            better = largest > seen
            where.copy_(torch.where(better, key + tile.block.keys.start, where))
            seen.copy_(torch.where(better, largest, seen))
    return best, place


def row_counts(a: Tensor, k: Tensor, rule: Rule, order: Order | None = None) -> Tensor:
    """How many keys a rule leaves every row; no logit is computed for it.

    Args:
        a: Left operand, shape ``(B, N, d)``.
        k: Right operand, shape ``(B, M, d)``.
        rule: Which keys count.
        order: Positions of rows and keys where they are not 0, 1, 2, ...

    Returns:
        Shape ``(B, N)``, int64.
    """
    count = torch.zeros(a.shape[:2], dtype=torch.int64, device=a.device)
    sweep, schedule = _sweep(a, k, rule, order)
    for tile in sweep.visit(a, schedule):
        counted = tile.keep.sum(-1) if isinstance(tile.keep, Tensor) else len(tile.block.keys)
        tile.of_rows(count).add_(counted)
    return count


def _sweep(a: Tensor, k: Tensor, rule: Rule, order: Order | None) -> tuple[Sweep, Schedule]:
    tiling = Tiling.choose((len(a), a.shape[1], k.shape[1]), a.device)
    return Sweep(rule, tiling, order or Order()), grid(a.shape[1], k.shape[1], tiling)


def beats(value: Tensor, others: Tensor) -> Tensor:
    """Whether a value is larger than others by more than rounding: equal rows beat nobody.

    Args:
        value: Shape ``(..., N)``.
        others: Same shape as ``value``, computed in another order of summation.
    """
    margin = 32 * torch.finfo(value.dtype).eps * value.abs().clamp(min=1)
    return value - others > margin
