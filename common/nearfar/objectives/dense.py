"""Reference backend: the whole logit matrix in memory, plain autograd, every derivative exact."""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.objectives.denominator import Block, Rule
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
    block = Block(range(a.shape[1]), range(k.shape[1]), a.device, None, order.rows, order.keys)
    if (weight := rule.log_weight(block)) is not None:
        logits = logits + weight.to(logits)
    keep = rule.keep(block)
    return _sum(logits, keep, -1), _sum(logits, keep, -2) if columns else None


def _sum(logits: Tensor, keep: Tensor | bool, dim: int) -> Tensor:
    if keep is True:
        return logits.logsumexp(dim)
    keep = torch.as_tensor(keep, device=logits.device)
    keep = keep.expand(logits.shape[-2:]) if keep.dim() < 2 else keep  # often one mask for all problems
    # Nothing but minus infinity has no gradient: such rows are summed as they are and then replaced.
    empty = ~keep.any(dim)
    total = logits.masked_fill(~(keep | empty.unsqueeze(dim)), -torch.inf).logsumexp(dim)
    return total.masked_fill(empty, -torch.inf)
