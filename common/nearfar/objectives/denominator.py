"""Which keys stand in the denominator of which rows, answered block by block.

A rule is asked about a block of rows and keys and answers ``True`` (all of them), ``False`` (none: the
block is skipped) or a boolean tensor; an N x M mask never exists unless the user brings one. Rules
combine: ``NotSelf() & NotSame(ids)``.
"""

from __future__ import annotations

from collections import abc
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

__all__ = [
    "All",
    "Block",
    "Callable",
    "LogWeight",
    "Mask",
    "NotBand",
    "NotPositive",
    "NotSame",
    "NotSelf",
    "Nothing",
    "OnlySame",
    "Rule",
]


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

    def check(self, num_rows: int, num_keys: int) -> None:
        """Raise ValueError when the rule's own tensors do not fit this many rows and keys.

        Args:
            num_rows: Rows of ``q``.
            num_keys: Rows of ``k``.
        """
        del num_rows, num_keys

    @property
    def group_ids(self) -> tuple[Tensor, Tensor] | None:
        """Ids of rows and keys by which sorting makes whole blocks trivial, if any."""
        return None

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
        return _And(self, other)


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


@dataclass(frozen=True, eq=False)
class Nothing(Rule):
    """No key of the batch: the denominator is the queue, the extra negatives and the positive."""

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
        return block.key_index != block.row_index + self.offset


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
class OnlySame(Rule):
    """Keys whose id equals the row's (Multistage Contrastive Learning, 2024).

    Attributes:
        ids: Integers, shape ``(N,)``, or ``(..., N)`` with the leading dimensions of ``q``.
        key_ids: The same for the keys, shape ``(M,)``; ``None`` when they are those of the rows.
    """

    ids: Tensor
    key_ids: Tensor | None = None

    def __post_init__(self) -> None:
        for name, ids in (("ids", self.ids), ("key_ids", self.key_ids)):
            if ids is None:
                continue
            if not isinstance(ids, Tensor) or ids.dim() < 1 or ids.is_floating_point():
                got = f"{ids.dtype} of shape {tuple(ids.shape)}" if isinstance(ids, Tensor) else repr(ids)
                raise ValueError(f"{type(self).__name__}.{name}: integer tensor (N,) expected, got {got}")

    @property
    def symmetric(self) -> bool:
        """When rows and keys carry the same ids."""
        return self.key_ids is None

    def keep(self, block: Block) -> Tensor | bool:
        """Equal ids; Args as :meth:`Rule.keep`."""
        rows, keys = block.of_rows(self.ids), block.of_keys(self._key_ids)
        # On a GPU the question would cost a wait for the device in every block.
        if not rows.is_cuda and (rows.amax() < keys.amin() or keys.amax() < rows.amin()):
            return False
        return rows[..., :, None] == keys[..., None, :]

    def check(self, num_rows: int, num_keys: int) -> None:
        """Raise ValueError unless there is one id per row and key; Args as :meth:`Rule.check`.

        Raises:
            ValueError: If a length is wrong.
        """
        for name, ids, size in (("ids", self.ids, num_rows), ("key_ids", self._key_ids, num_keys)):
            if ids.shape[-1] != size:
                raise ValueError(
                    f"denominator: {type(self).__name__}.{name} of length {size} expected, got {ids.shape[-1]}"
                )

    @property
    def group_ids(self) -> tuple[Tensor, Tensor] | None:
        """The ids, unless they differ between problems."""
        return (self.ids, self._key_ids) if self.ids.dim() == self._key_ids.dim() == 1 else None

    def gathered(self, of_rows: Gather, of_keys: Gather) -> Rule:
        """The rule with the ids of all processes; Args as :meth:`Rule.gathered`."""
        return type(self)(of_rows(self.ids), None if self.key_ids is None else of_keys(self.key_ids))

    def for_other_keys(self, key_ids: Tensor | None) -> Rule:
        """The same rule with the new ids, if there are any; Args as :meth:`Rule.for_other_keys`."""
        return All() if key_ids is None else type(self)(self.ids, key_ids)

    @property
    def _key_ids(self) -> Tensor:
        return self.ids if self.key_ids is None else self.key_ids


@dataclass(frozen=True, eq=False)
class NotSame(OnlySame):
    """Keys whose id differs from the row's: no false negatives of the same label, item or user.

    Attributes as :class:`OnlySame`.
    """

    def keep(self, block: Block) -> Tensor | bool:
        """Different ids; Args as :meth:`Rule.keep`."""
        return _negated(super().keep(block))

    @property
    def group_ids(self) -> None:
        """Nothing: hardly a block could be skipped."""
        return


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


@dataclass(frozen=True, eq=False)
class Mask(Rule):
    """Keys marked in a dense mask, for small N.

    Attributes:
        mask: Booleans, shape ``(N, M)``, or ``(..., N, M)`` with the leading dimensions of ``q``.
    """

    mask: Tensor

    def __post_init__(self) -> None:
        if not isinstance(self.mask, Tensor) or self.mask.dtype != torch.bool or self.mask.dim() < 2:
            got = (
                f"{self.mask.dtype} of shape {tuple(self.mask.shape)}"
                if isinstance(self.mask, Tensor)
                else repr(self.mask)
            )
            raise ValueError(f"Mask.mask: boolean tensor (N, M) expected, got {got}")

    def keep(self, block: Block) -> Tensor:
        """Its part of the mask; Args as :meth:`Rule.keep`."""
        mask = self.mask
        if mask.dim() > 2:
            mask = mask.flatten(0, -3)[block.problems or slice(None)]
        if not block.ordered:
            rows, keys = block.row_index.to(mask.device), block.key_index.to(mask.device)
            return mask[..., rows, keys].to(block.device)
        return mask[..., block.rows.start : block.rows.stop, block.keys.start : block.keys.stop].to(
            block.device
        )

    def check(self, num_rows: int, num_keys: int) -> None:
        """Raise ValueError unless the mask has this shape; Args as :meth:`Rule.check`.

        Raises:
            ValueError: If the shape is wrong.
        """
        if self.mask.shape[-2:] != (num_rows, num_keys):
            expected, got = (num_rows, num_keys), tuple(self.mask.shape[-2:])
            raise ValueError(f"denominator: Mask.mask of shape {expected} expected, got {got}")

    def gathered(self, of_rows: Gather, of_keys: Gather) -> Rule:
        """Not possible; Args as :meth:`Rule.gathered`.

        Raises:
            ValueError: Always.
        """
        del of_rows, of_keys
        raise ValueError("denominator: Mask cannot be spread over processes; Callable(rows, keys) can")


@dataclass(frozen=True, eq=False)
class Callable(Rule):
    """Keys a function of the positions says yes to.

    Attributes:
        function: Called with row positions ``(rows, 1)`` and key positions ``(1, keys)``; returns
            booleans ``(rows, keys)``.
        is_symmetric: Promise that (i, j) and (j, i) get the same answer.
    """

    function: abc.Callable[[Tensor, Tensor], Tensor]
    is_symmetric: bool = False

    @property
    def symmetric(self) -> bool:
        """As promised."""
        return self.is_symmetric

    def keep(self, block: Block) -> Tensor:
        """The function's answer; Args as :meth:`Rule.keep`.

        Raises:
            ValueError: If the answer is not boolean or does not have the block's shape.
        """
        answer = self.function(block.row_index, block.key_index)
        expected = (len(block.rows), len(block.keys))
        if answer.dtype != torch.bool or answer.shape[-2:] != expected:
            raise ValueError(
                f"denominator: the function of Callable returned {answer.dtype} of shape "
                f"{tuple(answer.shape)}, torch.bool of shape {expected} expected"
            )
        return answer


@dataclass(frozen=True, eq=False)
class LogWeight(Rule):
    """Every key, its term multiplied by exp(weight): hardness or popularity weights of pairs.

    Attributes:
        function: Called with row positions ``(rows, 1)`` and key positions ``(1, keys)``; returns the
            natural logarithm of the weights, ``(rows, keys)``. They receive no gradient.
        is_symmetric: Promise that (i, j) and (j, i) get the same weight.
    """

    function: abc.Callable[[Tensor, Tensor], Tensor]
    is_symmetric: bool = False

    @property
    def symmetric(self) -> bool:
        """As promised."""
        return self.is_symmetric

    @property
    def weighted(self) -> bool:
        """Always."""
        return True

    def keep(self, block: Block) -> bool:
        """Always ``True``; Args as :meth:`Rule.keep`."""
        del block
        return True

    def log_weight(self, block: Block) -> Tensor:
        """The function's answer, detached; Args as :meth:`Rule.log_weight`."""
        return self.function(block.row_index, block.key_index).detach()


@dataclass(frozen=True, eq=False, init=False)
class _Combined(Rule):
    parts: tuple[Rule, ...]

    def __init__(self, *parts: Rule) -> None:
        flat: list[Rule] = []
        for part in parts:
            flat += part.parts if isinstance(part, type(self)) else [part]
        object.__setattr__(self, "parts", tuple(flat))

    @property
    def symmetric(self) -> bool:
        return all(part.symmetric for part in self.parts)

    @property
    def weighted(self) -> bool:
        return any(part.weighted for part in self.parts)

    def log_weight(self, block: Block) -> Tensor | None:
        weights = [w for part in self.parts if (w := part.log_weight(block)) is not None]
        return sum(weights[1:], weights[0]) if weights else None

    def check(self, num_rows: int, num_keys: int) -> None:
        for part in self.parts:
            part.check(num_rows, num_keys)

    def gathered(self, of_rows: Gather, of_keys: Gather) -> Rule:
        return type(self)(*(part.gathered(of_rows, of_keys) for part in self.parts))

    def for_other_keys(self, key_ids: Tensor | None) -> Rule:
        return type(self)(*(part.for_other_keys(key_ids) for part in self.parts))

    @property
    def group_ids(self) -> tuple[Tensor, Tensor] | None:
        return next((part.group_ids for part in self.parts if part.group_ids is not None), None)


class _And(_Combined):
    def keep(self, block: Block) -> Tensor | bool:
        answer: Tensor | bool = True
        for part in self.parts:
            more = part.keep(block)
            if more is False:
                return False
            if more is not True:
                answer = more if answer is True else answer & more
        return answer


class _Or(_Combined):
    def keep(self, block: Block) -> Tensor | bool:
        answer: Tensor | bool = False
        for part in self.parts:
            more = part.keep(block)
            if more is True:
                return True
            if more is not False:
                answer = more if answer is False else answer | more
        return answer


@dataclass(frozen=True, eq=False)
class _Not(Rule):
    rule: Rule

    @property
    def symmetric(self) -> bool:
        return self.rule.symmetric

    def keep(self, block: Block) -> Tensor | bool:
        return _negated(self.rule.keep(block))


def _negated(answer: Tensor | bool) -> Tensor | bool:
    return ~answer if isinstance(answer, Tensor) else not answer


def has_part(rule: Rule, kind: type[Rule]) -> bool:
    """Whether a rule is of this kind, or a combination with one that is.

    Args:
        rule: Asked about.
        kind: Its class.
    """
    return isinstance(rule, kind) or (
        isinstance(rule, _Combined) and any(has_part(p, kind) for p in rule.parts)
    )


def with_positives(rule: Rule, positive: Rule, *, include: bool, itself: bool) -> Rule:
    """The denominator once the positives are known.

    Args:
        rule: What the user asked for.
        positive: Which pairs are positive.
        include: Whether positives belong to the denominator, whatever the rule says, or never.
        itself: Whether rows and keys are the same, so that no row is its own positive.
    """
    parts = [p for p in (rule.parts if isinstance(rule, _And) else (rule,)) if not isinstance(p, NotPositive)]
    base = _And(*parts) if len(parts) > 1 else parts[0] if parts else All()
    if not include:
        return _And(base, _Not(positive))
    # These never take a positive away.
    if all(
        isinstance(p, All | LogWeight) or (itself and isinstance(p, NotSelf) and not p.offset) for p in parts
    ):
        return base
    return _Or(base, positive)
