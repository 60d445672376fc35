"""Rules made of rules, and what becomes of a rule when the positives are known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nearfar.objectives.denominator.given import LogWeight
from nearfar.objectives.denominator.ids import NotSame
from nearfar.objectives.denominator.positions import NotPositive, NotSelf
from nearfar.objectives.denominator.rule import All, Block, Gather, Rule, negated


@dataclass(frozen=True, eq=False, init=False)
class Combined(Rule):
    """Several rules."""

    parts: tuple[Rule, ...]

    def __init__(self, *parts: Rule) -> None:
        flat: list[Rule] = []
        for part in parts:
            flat += part.parts if isinstance(part, type(self)) else [part]
        object.__setattr__(self, "parts", tuple(flat))

    @property
    def symmetric(self) -> bool:
        """When all parts are."""
        return all(part.symmetric for part in self.parts)

    @property
    def weighted(self) -> bool:
        """When any part is."""
        return any(part.weighted for part in self.parts)

    def log_weight(self, block: Block) -> Tensor | None:
        """Sum of those of the parts; Args as :meth:`Rule.log_weight`."""
        weights = [w for part in self.parts if (w := part.log_weight(block)) is not None]
        return sum(weights[1:], weights[0]) if weights else None

    def check(self, lead: torch.Size, num_rows: int, num_keys: int) -> None:
        """Check every part; Args as :meth:`Rule.check`."""
        for part in self.parts:
            part.check(lead, num_rows, num_keys)

    def gathered(self, of_rows: Gather, of_keys: Gather) -> Rule:
        """Gather every part; Args as :meth:`Rule.gathered`."""
        return type(self)(*(part.gathered(of_rows, of_keys) for part in self.parts))

    def for_other_keys(self, key_ids: Tensor | None) -> Rule:
        """What is left of every part; Args as :meth:`Rule.for_other_keys`."""
        return type(self)(*(part.for_other_keys(key_ids) for part in self.parts))

    @property
    def group_ids(self) -> tuple[Tensor, Tensor] | None:
        """Those of the first part that has any."""
        return next((part.group_ids for part in self.parts if part.group_ids is not None), None)

    @property
    def sorting_ids(self) -> tuple[Tensor, Tensor] | None:
        """Those of the first part that has any."""
        return next((part.sorting_ids for part in self.parts if part.sorting_ids is not None), None)


class And(Combined):
    """Keys that every rule keeps."""

    def keep(self, block: Block) -> Tensor | bool:
        """Keys all parts keep; Args as :meth:`Rule.keep`."""
        answer: Tensor | bool = True
        for part in self.parts:
            more = part.keep(block)
            if more is False:
                return False
            if more is not True:
                answer = more if answer is True else answer & more
        return answer


class Or(Combined):
    """Keys that any rule keeps."""

    def keep(self, block: Block) -> Tensor | bool:
        """Keys any part keeps; Args as :meth:`Rule.keep`."""
        answer: Tensor | bool = False
        for part in self.parts:
            more = part.keep(block)
            if more is True:
                return True
            if more is not False:
                answer = more if answer is False else answer | more
        return answer


@dataclass(frozen=True, eq=False)
class Not(Rule):
    """Keys that a rule does not keep."""

    rule: Rule

    @property
    def symmetric(self) -> bool:
        """When the rule is."""
        return self.rule.symmetric

    def keep(self, block: Block) -> Tensor | bool:
        """Keys the rule does not keep; Args as :meth:`Rule.keep`."""
        return negated(self.rule.keep(block))


def has_part(rule: Rule, kind: type[Rule]) -> bool:
    """Whether a rule is of this kind, or a combination with one that is.

    Args:
        rule: Asked about.
        kind: Its class.
    """
    return isinstance(rule, kind) or (
        isinstance(rule, Combined) and any(has_part(p, kind) for p in rule.parts)
    )


def with_positives(rule: Rule, positive: Rule, *, include: bool, itself: bool) -> Rule:
    """The denominator once the positives are known.

    Args:
        rule: What the user asked for.
        positive: Which pairs are positive.
        include: Whether positives belong to the denominator, whatever the rule says, or never.
        itself: Whether rows and keys are the same, so that no row is its own positive.
    """
    parts = [p for p in (rule.parts if isinstance(rule, And) else (rule,)) if not isinstance(p, NotPositive)]
    base = And(*parts) if len(parts) > 1 else parts[0] if parts else All()
    if not include:
        return And(base, Not(positive))
    kinds = positive.parts if isinstance(positive, Or) else (positive,)
    taken = [kind for kind in kinds if not all(_spares(part, kind, itself=itself) for part in parts)]
    return Or(base, *taken) if taken else base


def _spares(part: Rule, positive: Rule, *, itself: bool) -> bool:
    """Whether a part of the denominator is known to take no such positive away."""
    if isinstance(part, NotSame):
        conditions = positive.parts if isinstance(positive, And) else (positive,)
        return any(
            isinstance(c, NotSame) and c.ids is part.ids and c.key_ids is part.key_ids for c in conditions
        )
    return isinstance(part, All | LogWeight) or (itself and isinstance(part, NotSelf) and not part.offset)
