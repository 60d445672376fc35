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
        row_weight: Weight of every row in the mean, shape ``(B, N)`` or broadcastable; ``None`` for ones.
    """

    lse: Tensor
    logit: Tensor
    weight: Tensor
    certain: bool
    row_weight: Tensor | None = None

    @property
    def counts(self) -> Tensor:
        """Which rows have a positive, a denominator and a weight, shape ``(B, N)``."""
        counts = (self.weight > 0) & (self.lse > -torch.inf)
        return counts if self.row_weight is None else counts & (self.row_weight > 0)

    def losses(self) -> Tensor:
        """Loss of every row, 0 for those that do not count, shape ``(B, N)``."""
        losses = self.lse - self.logit
        return losses if self.certain else torch.where(self.counts, losses, 0)

    def check_not_empty(self, ranks: Ranks) -> None:
        """Raise ValueError if no row counts; on a GPU, which would have to be waited for, :meth:`marked` says so.

        Args:
            ranks: Whose rows are one batch.

        Raises:
            ValueError: If no row counts.
        """
        known = self.certain and self.row_weight is None
        if known or self.lse.is_cuda or bool(ranks.total(self.counts.sum())):
            return
        if not bool(ranks.total((self.weight > 0).sum())):
            raise ValueError(
                "positives: at least one row with a positive expected, got none; on_empty='zero' allows it"
            )
        if self.row_weight is not None and not bool(ranks.total((self.row_weight > 0).sum())):
            raise ValueError("row_weight: at least one positive weight expected, got none")
        raise ValueError(
            "denominator: at least one row with a positive and a key in its denominator expected, got none; "
            "on_empty='zero' allows it"
        )

    def marked(self, loss: Tensor, ranks: Ranks) -> Tensor:
        """The loss as it is; on a GPU, NaN if no row counts.

        Args:
            loss: Scalar, or shape ``(B, N)``.
            ranks: Whose rows are one batch.
        """
        if not self.lse.is_cuda or (self.certain and self.row_weight is None):
            return loss
        return torch.where(ranks.total(self.counts.sum()) > 0, loss, torch.nan)


def reduce(directions: list[Direction], reduction: str, ranks: Ranks) -> Tensor:
    """The average of the directions, each reduced over its rows.

    Args:
        directions: One or two.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        ranks: Whose rows are one batch.

    Returns:
        Scalar or ``(B, N)``.
    """
    parts = [_reduced(direction, reduction, ranks) for direction in directions]
    loss = torch.stack(parts).mean(0)
    return loss if reduction == "none" else ranks.loss(loss)


def _reduced(direction: Direction, reduction: str, ranks: Ranks) -> Tensor:
    losses, weight = direction.losses(), direction.row_weight
    if reduction == "none":
        return losses if weight is None else losses * weight
    weight = torch.ones_like(losses) if weight is None else weight.expand_as(losses)
    if not direction.certain:
        weight = weight * direction.counts
    part = (weight * losses).sum()
    if reduction == "sum":
        return part
    # A sum of weights is 0 only where all losses are.
    total = ranks.total(weight.sum()).clamp(min=torch.finfo(losses.dtype).tiny)
    part = part / total
    if weight.requires_grad:  # the quotient's other half, by way of the mean of all processes
        part = part - ranks.total(part) * (weight.sum() - weight.sum().detach()) / total
    return part


def log_add(x: Tensor, y: Tensor) -> Tensor:
    """log(e^x + e^y) with gradient zero, not NaN, where both are empty.

    Args:
        x: Shape ``(B, N)``, minus infinity for empty sums.
        y: Same shape as ``x``.
    """
    empty = (x == -torch.inf) & (y == -torch.inf)
    total = torch.logaddexp(x.masked_fill(empty, 0), y.masked_fill(empty, 0))
    return total.masked_fill(empty, -torch.inf)
