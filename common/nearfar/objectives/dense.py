"""Reference backend: the whole logit matrix in memory, plain autograd, every derivative exact."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nearfar.objectives.denominator import Block, Rule
from nearfar.objectives.joint import Selection
from nearfar.objectives.tiles import Order


def dense_log_sum_exp(
    a: Tensor, k: Tensor, rule: Rule, *, columns: bool, order: Order
) -> tuple[Tensor, Tensor | None]:
    """Log-sum-exp of every row over its keys and, if wanted, of every key over its rows.

    Args:
        a: Left operand, shape ``(B, N, d)``.
        k: Right operand, shape ``(B, M, d)``.
        rule: Which keys count.
        columns: Whether to sum over rows for every key as well.
        order: Positions of rows and keys where they are not 0, 1, 2, ...

    Returns:
        Shapes ``(B, N)`` and ``(B, M)``, minus infinity where nothing counts.
    """
    logits = a @ k.mT
    block = _whole(a, k, order)
    logits, keep = _weighted(logits, rule, block), rule.keep(block)
    return _sum(logits, keep, -1), _sum(logits, keep, -2) if columns else None


def dense_log_sum_exps(
    a: Tensor, k: Tensor, selections: Sequence[Selection], *, order: Order
) -> list[Tensor]:
    """Several log-sum-exps of every row over its keys from one matrix of logits.

    Args:
        a: Left operand, shape ``(B, N, d)``.
        k: Right operand, shape ``(B, M, d)``.
        selections: What counts for each, and the scale of its logits.
        order: As of :func:`dense_log_sum_exp`.

    Returns:
        One of shape ``(B, N)`` a selection, minus infinity where nothing counts.
    """
    logits, block = a @ k.mT, _whole(a, k, order)
    sums = []
    for rule, scale in ((selection.rule, selection.scale) for selection in selections):
        factor = scale[..., None] if isinstance(scale, Tensor) else scale
        scaled = logits if isinstance(scale, float) and scale == 1 else logits * factor
        sums.append(_sum(_weighted(scaled, rule, block), rule.keep(block), -1))
    return sums


def _whole(a: Tensor, k: Tensor, order: Order) -> Block:
    return Block(range(a.shape[1]), range(k.shape[1]), a.device, None, order.rows, order.keys)


def _weighted(logits: Tensor, rule: Rule, block: Block) -> Tensor:
    weight = rule.log_weight(block)
    return logits if weight is None else logits + weight.to(logits)


def _sum(logits: Tensor, keep: Tensor | bool, dim: int) -> Tensor:
    if keep is True:
        return logits.logsumexp(dim)
    keep = torch.as_tensor(keep, device=logits.device)
    keep = keep.expand(logits.shape[-2:]) if keep.dim() < 2 else keep  # often one mask for all problems
    # Nothing but minus infinity has no gradient: such rows are summed as they are and then replaced.
    empty = ~keep.any(dim)
    total = logits.masked_fill(~(keep | empty.unsqueeze(dim)), -torch.inf).logsumexp(dim)
    return total.masked_fill(empty, -torch.inf)
