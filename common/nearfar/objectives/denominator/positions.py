"""Rules about positions in the batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nearfar.objectives.denominator.rule import Block, Rule


@dataclass(frozen=True, eq=False)
class Nothing(Rule):
    """No key of the batch: the denominator is the queue, the extra negatives and the positive.

    Without any of the former, as in the first step with an empty queue, nothing is compared and the loss is 0.
    """

    @property
    def symmetric(self) -> bool:
        """Always."""
        return True

    def keep(self, block: Block) -> bool:
        """Always ``False``; Args as :meth:`Rule.keep`."""
        del block
        return False


@dataclass(frozen=True, eq=False)
class NotSelf(Rule):
    """Every key but the row's own, at position ``i + offset``."""

    offset: int = 0

    @property
    def symmetric(self) -> bool:
        """Without an offset."""
        return self.offset == 0

    def keep(self, block: Block) -> Tensor | bool:
        """All but one diagonal; Args as :meth:`Rule.keep`."""
        if block.ordered or (self.offset == 0 and block.row_order is block.key_order):
            first, last = block.rows.start + self.offset, block.rows.stop - 1 + self.offset
            if last < block.keys.start or first >= block.keys.stop:
                return True
        partner = block.row_index + self.offset
        if not (block.ordered or partner.is_cuda) and not torch.isin(partner, block.key_index).any():
            return True
        return block.key_index != partner


@dataclass(frozen=True, eq=False)
class NotBand(Rule):
    """Keys more than ``width`` positions away, as for neighbours in time.

    Raises:
        ValueError: If ``width`` is negative.
    """

    width: int

    def __post_init__(self) -> None:
        if self.width < 0:
            raise ValueError(f"NotBand.width: 0 or more expected, got {self.width}")

    @property
    def symmetric(self) -> bool:
        """Always."""
        return True

    def keep(self, block: Block) -> Tensor | bool:
        """All but a band around the diagonal; Args as :meth:`Rule.keep`."""
        if block.ordered:
            nearest = max(block.keys.start - block.rows.stop, block.rows.start - block.keys.stop) + 1
            if nearest > self.width:
                return True
            farthest = max(block.keys.stop - block.rows.start, block.rows.stop - block.keys.start) - 1
            if farthest <= self.width:
                return False
        return (block.row_index - block.key_index).abs() > self.width


@dataclass(frozen=True, eq=False)
class NotPositive(Rule):
    """Every key but the positives of the row (decoupled: DCL, Yeh et al., ECCV 2022)."""

    def keep(self, block: Block) -> Tensor | bool:
        """Unknown before ``contrast`` has put the positives in; Args as :meth:`Rule.keep`.

        Raises:
            TypeError: When the rule is used without ``contrast``.
        """
        del block
        raise TypeError("NotPositive() has a meaning only as the denominator of contrast()")
