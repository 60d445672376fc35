"""Rules as a truth table over comparisons of one integer a row with one integer a key.

A compiled kernel cannot call :meth:`Rule.keep`. Nearly every rule, however, asks a few questions of one form: are the
number of row i and the number of key j equal (positions, ids, labels), or close (positions in time)? A
:class:`TruthTable` holds the numbers and, for each of the 2^c answers to c questions, whether the key counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nearfar.objectives.denominator import All, Block, NotBand, Nothing, NotSame, NotSelf, OnlySame, Rule
from nearfar.objectives.denominator.combine import And, Not, Or
from nearfar.objectives.positives.labels import SameLabel
from nearfar.objectives.positives.shifts import Diagonal, Partner

MOST_CONDITIONS = 4
# Positions stay below this, so their sums and differences fit into 32 bits.
FAR = 2**30


@dataclass(frozen=True)
class Condition:
    """One question: the numbers of row and key are equal, or at most ``reach`` apart.

    Attributes:
        key: Conditions with the same key are one.
        numbers: The numbers of a block's rows and keys, ``(..., N)`` and ``(..., M)``.
        reach: ``None`` for equality.
        positional: Whether all numbers are positions, which fit into 32 bits.
    """

    key: tuple[object, ...]
    numbers: Callable[[Block], tuple[Tensor, Tensor]] = field(compare=False)
    reach: int | None = None
    positional: bool = True


Asked = Callable[[Condition], bool]


class _UnknownRuleError(Exception):
    """A rule that is no combination of known comparisons."""


@dataclass(frozen=True)
class TruthTable:
    """A rule as far as a kernel can know it.

    Attributes:
        conditions: At most :data:`MOST_CONDITIONS`; the one with a reach, if any, is the last.
        truth: Bit c is the rule's answer in case c, whose bit i says whether condition i holds.
    """

    conditions: tuple[Condition, ...]
    truth: int

    @classmethod
    def of(cls, rule: Rule) -> TruthTable | None:
        """The table of a rule, ``None`` for rules (or combinations too large) that have none.

        Args:
            rule: Any rule; those of other classes than the known ones, subclasses included, have none.

        Example:
            >>> from nearfar.objectives.denominator import Mask, NotBand, NotSelf
            >>> TruthTable.of(NotSelf()).truth  # yes where positions differ, no where they are equal
            1
            >>> TruthTable.of(NotSelf(1) & NotBand(2)).truth  # yes in case 0 of 0..3 only
            1
            >>> TruthTable.of(Mask(torch.ones(2, 2, dtype=torch.bool))) is None
            True
        """
        asked: list[Condition] = []

        def collect(condition: Condition) -> bool:
            if condition not in asked:
                asked.append(condition)
            return False

        try:
            _answer(rule, collect)
        except _UnknownRuleError:
            return None
        conditions = sorted(asked, key=lambda condition: condition.reach is not None)
        if len(conditions) > MOST_CONDITIONS or sum(c.reach is not None for c in conditions) > 1:
            return None
        truth = 0
        for case in range(2 ** len(conditions)):
            holding = [c for i, c in enumerate(conditions) if case >> i & 1]
            truth |= _answer(rule, holding.__contains__) << case
        return cls(tuple(conditions), truth)

    @property
    def reach(self) -> int | None:
        """That of the last condition, ``None`` if all ask for equality."""
        return self.conditions[-1].reach if self.conditions else None

    def numbers(self, block: Block) -> tuple[Tensor, Tensor]:
        """What the kernel compares.

        Args:
            block: All rows and keys.

        Returns:
            Integers ``(c, B', N)`` and ``(c, B', M)`` for c conditions, where B' is 1 unless problems differ.
        """
        if not self.conditions:  # a kernel cannot be handed nothing
            return (torch.zeros(1, 1, 1, dtype=torch.int32, device=block.device),) * 2
        dtype = torch.int32 if all(c.positional for c in self.conditions) else torch.int64
        rows, keys = zip(*(c.numbers(block) for c in self.conditions), strict=True)
        return _stacked(rows, dtype), _stacked(keys, dtype)


def _stacked(side: tuple[Tensor, ...], dtype: torch.dtype) -> Tensor:
    flat = [x.reshape(-1, x.shape[-1]).to(dtype) for x in side]
    num_problems = max(len(x) for x in flat)
    return torch.stack([x.expand(num_problems, -1) for x in flat])


def _answer(rule: Rule, holds: Asked) -> bool:
    """The rule's answer for a pair of which the conditions are known."""
    kind = type(rule)  # not isinstance: a subclass may answer otherwise
    if kind is All or kind is Nothing:
        return kind is All
    if isinstance(rule, NotSelf) and kind is NotSelf:
        return not holds(_offset(rule.offset, None))
    if isinstance(rule, NotBand) and kind is NotBand:
        return not holds(_near(rule.width))
    if isinstance(rule, OnlySame | NotSame) and kind in (OnlySame, NotSame):
        keys = rule.ids if rule.key_ids is None else rule.key_ids
        return holds(_same(rule.ids, keys)) == (kind is OnlySame)
    if isinstance(rule, Diagonal) and kind is Diagonal:
        return holds(_offset(rule.offset, rule.size))
    if isinstance(rule, Partner) and kind is Partner:
        return holds(_partner(rule.partners))
    if isinstance(rule, SameLabel) and kind is SameLabel:
        same = holds(_same_label(rule.q_labels, rule.k_labels))
        return not holds(_offset(0, None)) and same if rule.itself else same
    if isinstance(rule, Not) and kind is Not:
        return not _answer(rule.rule, holds)
    if isinstance(rule, And | Or) and kind in (And, Or):
        answers = [_answer(part, holds) for part in rule.parts]  # every part is asked
        return all(answers) if kind is And else any(answers)
    raise _UnknownRuleError


def _offset(offset: int, size: int | None) -> Condition:
    offset = max(-FAR, min(offset, FAR))

    def numbers(block: Block) -> tuple[Tensor, Tensor]:
        partner = block.row_index[:, 0] + offset
        return partner if size is None else partner % size, block.key_index[0]

    return Condition(("offset", offset, size), numbers)


def _near(width: int) -> Condition:
    width = min(width, FAR)
    return Condition(("near", width), lambda block: (block.row_index[:, 0], block.key_index[0]), width)


def _same(ids: Tensor, key_ids: Tensor) -> Condition:
    key = ("same", id(ids), id(key_ids))
    return Condition(key, lambda block: (block.of_rows(ids), block.of_keys(key_ids)), positional=False)


def _same_label(q_labels: Tensor, k_labels: Tensor) -> Condition:
    def numbers(block: Block) -> tuple[Tensor, Tensor]:
        # A row without a label gets a number that no key has.
        rows, keys = block.of_rows(q_labels).long(), block.of_keys(k_labels).long()
        return rows.masked_fill(rows < 0, -1), keys.masked_fill(keys < 0, -2)

    return Condition(("same label", id(q_labels), id(k_labels)), numbers, positional=False)


def _partner(partners: Tensor) -> Condition:
    return Condition(
        ("partner", id(partners)),
        lambda block: (block.of_rows(partners), block.key_index[0]),
        positional=True,
    )
