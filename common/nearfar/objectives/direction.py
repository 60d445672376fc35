"""The parts of one direction of a loss (rows over keys, or keys over rows) and their reduction."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nearfar.objectives.ranks import Ranks


@dataclass(frozen=True)
class Direction:
    """Loss of every row, in parts.

    Attributes:
        lse: Log-sum-exp over the denominator, shape ``(B, N)``, minus infinity where it is empty.
        logit: Mean logit of the positives, shape ``(B, N)``.
        weight: Their total weight, 0 for none, shape ``(B, N)`` or broadcastable.
        certain: Whether every row is known to have a positive, and it in the denominator.
    """

    lse: Tensor
    logit: Tensor
    weight: Tensor
    certain: bool

    @property
    def counts(self) -> Tensor:
        """Which rows have a positive and a denominator, shape ``(B, N)``."""
        return (self.weight > 0) & (self.lse > -torch.inf)

    def losses(self) -> Tensor:
        """Loss of every row, 0 for those that do not count, shape ``(B, N)``."""
        losses = self.lse - self.logit
        return losses if self.certain else torch.where(self.counts, losses, 0)

    def check_not_empty(self, ranks: Ranks) -> None:
        """Raise ValueError if no row counts.

        Args:
            ranks: Whose rows are one batch.

        Raises:
            ValueError: If no row counts.
        """
        if self.certain or bool(ranks.total(self.counts.sum())):
            return
        if not bool(ranks.total((self.weight > 0).sum())):
            raise ValueError(
                "positives: at least one row with a positive expected, got none; on_empty='zero' allows it"
            )
        raise ValueError(
            "denominator: at least one row with a positive and a key in its denominator expected, got none; "
            "on_empty='zero' allows it"
        )


def reduce(directions: list[Direction], row_weight: Tensor | None, reduction: str, ranks: Ranks) -> Tensor:
    """The average of the directions, each reduced over its rows.

    Args:
        directions: One or two.
        row_weight: Shape ``(B, N)`` or broadcastable.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        ranks: Whose rows are one batch.

    Returns:
        Scalar or ``(B, N)``.
    """
    parts = []
    for direction in directions:
        losses = direction.losses()
        if reduction == "none":
            parts.append(losses if row_weight is None else losses * row_weight)
            continue
        weight = torch.ones_like(losses) if row_weight is None else row_weight.expand_as(losses)
        if not direction.certain:
            weight = weight * direction.counts
        part = (weight * losses).sum()
        parts.append(
            part / ranks.total(weight.sum()).clamp(min=_tiny(losses)) if reduction == "mean" else part
        )
    loss = torch.stack(parts).mean(0)
    return loss if reduction == "none" else ranks.loss(loss)


def log_add(x: Tensor, y: Tensor) -> Tensor:
    """log(e^x + e^y) with gradient zero, not NaN, where both are empty.

    Args:
        x: Shape ``(B, N)``, minus infinity for empty sums.
        y: Same shape as ``x``.
    """
    empty = (x == -torch.inf) & (y == -torch.inf)
    total = torch.logaddexp(x.masked_fill(empty, 0), y.masked_fill(empty, 0))
    return total.masked_fill(empty, -torch.inf)


def _tiny(like: Tensor) -> float:
    # A sum of weights is 0 only where all losses are.
    return torch.finfo(like.dtype).tiny
