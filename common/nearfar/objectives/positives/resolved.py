"""Positives ready for use, and what all kinds of them need."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from nearfar.objectives.denominator import Rule
from nearfar.objectives.ranks import Ranks


class Resolved(Protocol):
    """Positives of one direction, ready for use.

    Attributes:
        always: Whether every row is known to have a positive.
        single: Whether no row has more than one.
        local: Whether the positives of a process's rows are among its own keys.
        rule: Which pairs are positive.
    """

    @property
    def always(self) -> bool: ...
    @property
    def single(self) -> bool: ...
    @property
    def local(self) -> bool: ...
    @property
    def rule(self) -> Rule: ...

    def logit(self, a: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Mean logit of the positives of every row, and their total weight.

        Args:
            a: Left operand of the comparison, shape ``(B, N, d)``.
            k: Right operand, shape ``(B, M, d)``; the same object as ``a`` in symmetric self-contrast.

        Returns:
            Two tensors of shape ``(B, N)``, or broadcastable to it; a row without positives has 0 in both.
        """
        ...

    def gathered(self, ranks: Ranks) -> Resolved:
        """The same when the batch is spread over processes.

        Args:
            ranks: Who holds which rows and keys.
        """
        ...


def own_rows(first: int, a: Tensor) -> slice:
    """The rows of ``a`` among those of all processes.

    Args:
        first: Position of the first of them.
        a: Shape ``(B, N, d)``.
    """
    return slice(first, first + a.shape[-2])


def only_alone(positives: Resolved, ranks: Ranks, name: str) -> Resolved:
    """The positives, if the batch is not spread over processes.

    Args:
        positives: Of one process.
        ranks: Who holds which rows and keys.
        name: What to call them.

    Raises:
        ValueError: If it is.
    """
    if ranks.group is not None:
        raise ValueError(
            f"positives: 'paired', ('paired', P), labels or Soft expected with group=, got {name}, whose positions "
            "mean one process's batch"
        )
    return positives


def mean_logit(a: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Dot product of every row with its target, divided by the weight; 0 where that is 0.

    Args:
        a: Shape ``(B, N, d)``.
        target: Weighted sum of each row's positives, shape ``(B, N, d)``.
        weight: Their total weight, shape ``(B, N)`` or broadcastable.
    """
    return (a * target).sum(-1) / torch.where(weight > 0, weight, 1) * (weight > 0)


def check_pair_weights(name: str, weights: Tensor) -> None:
    """Raise ValueError unless all weights are finite and not negative.

    Args:
        name: What to call them.
        weights: Any shape ``(...,)``.

    Raises:
        ValueError: If one is not.
    """
    if not bool((weights >= 0).all() & weights.isfinite().all()):
        raise ValueError(f"positives: {name} finite and not negative expected")
