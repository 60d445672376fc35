"""What a rule is, and what it is asked about."""

from __future__ import annotations

from collections import abc
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

Gather: TypeAlias = abc.Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Block:
    """Part of the comparison a rule is asked about.

    Attributes:
        rows: Rows of the block, in the order in which they are visited.
        keys: Keys of the block, likewise.
        device: Where answers are wanted.
        problems: Which of the independent problems (flattened leading dimensions), ``None`` for all.
        row_order: Position in the batch of every row when they are visited in another order, ``(N,)``.
        key_order: The same for the keys, ``(M,)``; the same object in self-contrast.
    """

    rows: range
    keys: range
    device: torch.device
    problems: slice | None = None
    row_order: Tensor | None = None
    key_order: Tensor | None = None

    @property
    def ordered(self) -> bool:
        """Whether ``rows`` and ``keys`` are positions in the batch."""
        return self.row_order is None and self.key_order is None

    @property
    def row_index(self) -> Tensor:
        """Positions of the rows in the batch, shape ``(rows, 1)``."""
        return _positions(self.rows, self.row_order, self.device)[:, None]

    @property
    def key_index(self) -> Tensor:
        """Positions of the keys in the batch, shape ``(1, keys)``."""
        return _positions(self.keys, self.key_order, self.device)[None]

    def of_rows(self, values: Tensor) -> Tensor:
        """What belongs to the block's rows of ``values``, shape ``(..., N)``.

        Args:
            values: One value a row, ``(N,)``, or with a leading dimension of problems ``(B, N)``.
        """
        return self._part(values, self.rows, self.row_order)

    def of_keys(self, values: Tensor) -> Tensor:
        """What belongs to the block's keys of ``values``, shape ``(..., M)``; Args as :meth:`of_rows`."""
        return self._part(values, self.keys, self.key_order)

    def _part(self, values: Tensor, part: range, order: Tensor | None) -> Tensor:
        if values.dim() > 1:
            values = values.flatten(0, -2)[self.problems or slice(None)]
        chosen = slice(part.start, part.stop)
        return values[..., chosen if order is None else order[chosen].to(values.device)].to(self.device)


def _positions(part: range, order: Tensor | None, device: torch.device) -> Tensor:
    if order is None:
        return torch.arange(part.start, part.stop, device=device)
    return order[part.start : part.stop].to(device)


@dataclass(frozen=True, eq=False)
class Rule:
    """One answer to "may row i see key j"; subclasses say which."""

    @property
    def symmetric(self) -> bool:
        """Whether (i, j) and (j, i) always get the same answer when rows and keys are the same."""
        return False

    def keep(self, block: Block) -> Tensor | bool:
        """``True``, ``False``, or a boolean tensor of shape ``(rows, keys)``.

        With a leading dimension, it is that of the block's problems.

        Args:
            block: The part asked about.

        Raises:
            NotImplementedError: In the base class.
        """
        raise NotImplementedError

    def log_weight(self, block: Block) -> Tensor | None:
        """Added to the logits of a block, shape ``(rows, keys)``; ``None`` for nothing.

        Args:
            block: The part asked about.
        """
        del block
        return None

    @property
    def weighted(self) -> bool:
        """Whether any block may have a log-weight."""
        return False

    def check(self, lead: torch.Size, num_rows: int, num_keys: int) -> None:
        """Raise ValueError when the rule's own tensors do not fit these rows and keys.

        Args:
            lead: Leading dimensions of ``q``.
            num_rows: Rows of ``q``.
            num_keys: Rows of ``k``.
        """
        del lead, num_rows, num_keys

    @property
    def group_ids(self) -> tuple[Tensor, Tensor] | None:
        """Ids of rows and keys by which sorting makes whole blocks trivial, if any."""
        return None

    @property
    def sorting_ids(self) -> tuple[Tensor, Tensor] | None:
        """Ids by which sorting makes most blocks trivial, if any: those of :attr:`group_ids`, or more."""
        return self.group_ids

    def for_other_keys(self, key_ids: Tensor | None) -> Rule:
        """What is left of the rule for keys that are not of the batch, such as a queue's.

        Args:
            key_ids: Their ids, shape ``(M,)``, if they have any.

        Returns:
            ``All()`` for rules of positions; rules of ids go on with the new ids.
        """
        del key_ids
        return All()

    def gathered(self, of_rows: Gather, of_keys: Gather) -> Rule:
        """The rule of the whole batch, when it is spread over processes.

        Args:
            of_rows: Joins what all processes have for their rows, from ``(n,)`` to ``(N,)``.
            of_keys: The same for the keys.
        """
        del of_rows, of_keys
        return self

    def __and__(self, other: Rule) -> Rule:
        from nearfar.objectives.denominator.combine import And

        if not isinstance(other, Rule):
            return NotImplemented
        return And(self, other)


@dataclass(frozen=True, eq=False)
class All(Rule):
    """Every key."""

    @property
    def symmetric(self) -> bool:
        """Always."""
        return True

    def keep(self, block: Block) -> bool:
        """Always ``True``; Args as :meth:`Rule.keep`."""
        del block
        return True


def negated(answer: Tensor | bool) -> Tensor | bool:
    """The opposite of a rule's answer.

    Args:
        answer: ``True``, ``False`` or booleans, shape ``(rows, keys)``.
    """
    return ~answer if isinstance(answer, Tensor) else not answer
