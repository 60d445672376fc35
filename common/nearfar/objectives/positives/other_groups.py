"""Positives of the same label in another group, and other views; their sum is made of class sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from nearfar.objectives.denominator import NotSame, Rule
from nearfar.objectives.denominator.combine import And, Or
from nearfar.objectives.positives.labels import SameLabel, sums_of_equal
from nearfar.objectives.positives.resolved import Resolved, mean_logit, own_rows
from nearfar.objectives.ranks import Ranks

Sides: TypeAlias = tuple[Tensor, Tensor]
NAMES = ("labels", "groups", "items")


@dataclass(frozen=True, eq=False)
class OtherGroups:
    """Keys of the row's label but not of its group, and the other views of the row's item.

    What a contrast between the subclasses of a class needs (SBCL, Hou et al., ICCV 2023, second term of eq. 4):
    together with ``denominator=NotSame(groups)`` members of the same group are neither pulled nor pushed.

    Each attribute is a tensor of integers, ``(N,)`` or ``(..., N)``, or a pair of them for rows and keys. A group lies
    within one label, the views of an item within one group. A negative label leaves only the other views, a
    negative item has none.

    Attributes:
        labels: Classes.
        groups: Subclasses, numbered over all classes.
        items: Samples; rows of one item are its views.

    Example:
        >>> from nearfar.objectives import contrast
        >>> from nearfar.objectives.denominator import NotSame
        >>> groups = torch.tensor([0, 0, 1, 2])
        >>> positives = OtherGroups(torch.tensor([5, 5, 5, 6]), groups, torch.arange(4))
        >>> losses = contrast(torch.ones(4, 3), positives=positives, denominator=NotSame(groups), reduction="none")
        >>> [round(x, 4) for x in losses.tolist()]  # of two keys, of two, of three; the last has no positive
        [0.6931, 0.6931, 1.0986, 0.0]
    """

    labels: Tensor | Sides
    groups: Tensor | Sides
    items: Tensor | Sides


@dataclass(frozen=True, eq=False)
class _OtherGroups:
    labels: Sides
    groups: Sides
    items: Sides
    itself: bool
    first: int = 0  # position of the first row among the keys, where rows are keys
    always = single = local = False

    @property
    def rule(self) -> Rule:
        row_groups, key_groups = self.groups
        elsewhere = NotSame(row_groups, None if self.itself else key_groups)
        return Or(
            And(SameLabel(*self.labels, self.itself), elsewhere), SameLabel(*self.items, itself=self.itself)
        )

    def gathered(self, ranks: Ranks) -> Resolved:
        if ranks.group is None:
            return self

        def of_all(sides: Sides) -> Sides:
            rows = ranks.gather_rows(sides[0])
            return rows, rows if self.itself else ranks.gather_keys(sides[1])

        labels, groups, items = (of_all(sides) for sides in (self.labels, self.groups, self.items))
        return _OtherGroups(labels, groups, items, self.itself, ranks.own_rows.start)

    def logit(self, a: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        # A class less most of itself: in single precision little would be left of a small rest.
        wide = k if k.device.type == "mps" else k.double()
        ones = torch.ones_like(wide[..., 0])

        def sums(sides: Sides) -> tuple[Tensor, Tensor]:
            rows, keys = (ids.to(a.device).expand(x.shape[:-1]) for ids, x in self._sides_of(sides, a, k))
            return sums_of_equal(rows, keys, wide, ones)

        (whole, size), (group, group_size), (views, count) = map(sums, (self.labels, self.groups, self.items))
        if self.itself:
            views, count = views - wide[:, own_rows(self.first, a)], count - 1
        labelled, known = (
            (ids[..., own_rows(self.first, a)] >= 0).to(wide) for ids in (self.labels[0], self.items[0])
        )
        weight = (labelled * (size - group_size) + known * count).to(a.dtype)
        target = labelled[..., None] * (whole - group) + known[..., None] * views
        return mean_logit(a, target.to(a.dtype), weight), weight

    def _sides_of(self, sides: Sides, a: Tensor, k: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
        return (sides[0][..., own_rows(self.first, a)], a), (sides[1], k)


def other_groups_of(
    positives: OtherGroups, lead: torch.Size, num_rows: int, num_keys: int, *, itself: bool
) -> tuple[Resolved, Resolved]:
    """Members of other groups as rows and as keys see them; Args as of ``resolve``.

    Raises:
        ValueError: If a shape or dtype does not fit, or (looked at on the CPU) a group spans labels or an item groups.
    """
    given = (getattr(positives, name) for name in NAMES)
    labels, groups, items = (
        _both_sides(name, ids, lead, num_rows, num_keys, itself=itself)
        for name, ids in zip(NAMES, given, strict=True)
    )
    _check_within("groups", groups, "labels", labels, "number the groups of all labels through")
    _check_within("items", items, "groups", groups, "the views of an item are in one group", unknown=True)
    turned = _OtherGroups(labels[::-1], groups[::-1], items[::-1], itself)
    return _OtherGroups(labels, groups, items, itself), turned


def _both_sides(
    name: str, ids: Tensor | Sides, lead: torch.Size, num_rows: int, num_keys: int, *, itself: bool
) -> Sides:
    """Ids of rows and keys, ``(N,)`` or ``(B, N)``; the same tensor where they are one."""
    pair = isinstance(ids, tuple)
    rows, keys = ids if isinstance(ids, tuple) else (ids, ids)
    if pair == itself and (itself or num_rows != num_keys):
        wanted = "one tensor" if itself else "a pair for rows and keys"
        raise ValueError(f"positives: OtherGroups.{name}: {wanted} expected, got {'two' if pair else 'one'}")
    for side, size in ((rows, num_rows), (keys, num_keys)):
        shapes = dict.fromkeys([(size,), (*lead, size)])
        integers = isinstance(side, Tensor) and not side.is_floating_point() and side.dtype != torch.bool
        if not integers or tuple(side.shape) not in shapes:
            got = f"{side.dtype} of shape {tuple(side.shape)}" if isinstance(side, Tensor) else repr(side)
            raise ValueError(
                f"positives: OtherGroups.{name}: integers of shape {' or '.join(map(str, shapes))} expected, got {got}"
            )
    flat = rows.flatten(0, -2) if rows.dim() > 1 else rows
    return flat, flat if keys is rows else keys.flatten(0, -2) if keys.dim() > 1 else keys


def _check_within(
    inner: str, ids: Sides, outer: str, others: Sides, hint: str, *, unknown: bool = False
) -> None:
    """Raise ValueError if one id stands beside different others; looked at on the CPU only."""
    sides = [*ids, *others]
    if any(side.device.type != "cpu" for side in sides):
        return
    num_problems = max(len(side) if side.dim() > 1 else 1 for side in sides)
    row, key, row_other, key_other = (side.expand(num_problems, -1) for side in sides)
    mine, theirs = torch.cat([row, key], -1), torch.cat([row_other, key_other], -1)
    order = mine.argsort(-1)
    mine, theirs = mine.gather(-1, order), theirs.gather(-1, order)
    wrong = (mine.diff(dim=-1) == 0) & (theirs.diff(dim=-1) != 0)
    if unknown:  # a negative id says nothing
        wrong &= mine[..., 1:] >= 0
    if bool(wrong.any()):
        raise ValueError(
            f"positives: OtherGroups.{inner} within one of OtherGroups.{outer} each expected, got "
            f"{mine[..., 1:][wrong][0].item()} in several; {hint}"
        )
