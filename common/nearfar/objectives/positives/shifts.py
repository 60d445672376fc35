"""One positive a row, at a known distance: another view, the next step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nearfar.objectives.denominator import Block, Rule
from nearfar.objectives.positives.labels import labels_of
from nearfar.objectives.positives.resolved import Resolved, only_alone
from nearfar.objectives.ranks import Ranks


@dataclass(frozen=True, eq=False)
class Diagonal(Rule):
    """Key i + offset, modulo ``size`` if that is given."""

    offset: int
    size: int | None = None

    @property
    def symmetric(self) -> bool:
        """When the partner of the partner is the row."""
        return self.offset == 0 or 2 * self.offset == self.size

    def keep(self, block: Block) -> Tensor | bool:
        """One key a row; Args as :meth:`Rule.keep`."""
        if block.ordered:
            wraps = [0] if self.size is None else [0, self.size]
            firsts = [block.rows.start + self.offset - wrap for wrap in wraps]
            if all(s + len(block.rows) <= block.keys.start or s >= block.keys.stop for s in firsts):
                return False
        partner = block.row_index + self.offset
        if self.size is not None:
            partner = partner % self.size
        if not (block.ordered or partner.is_cuda) and not torch.isin(partner, block.key_index).any():
            return False
        return block.key_index == partner


@dataclass(frozen=True, eq=False)
class Partner(Rule):
    """Each row's one key, by position; the partner's partner is the row."""

    partners: Tensor

    @property
    def symmetric(self) -> bool:
        """Always."""
        return True

    def keep(self, block: Block) -> Tensor:
        """One key a row; Args as :meth:`Rule.keep`."""
        return block.of_rows(self.partners)[..., :, None] == block.key_index


@dataclass(frozen=True)
class _Shift:
    """Row i belongs to key i + step; the rows at the end that have none have weight 0."""

    step: int = 0
    single = True

    @property
    def always(self) -> bool:
        return self.step == 0

    @property
    def local(self) -> bool:
        return self.step == 0

    @property
    def rule(self) -> Rule:
        return Diagonal(self.step)

    def logit(self, a: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        if self.step == 0:
            return (a * k).sum(-1), a.new_ones(1, 1)
        before, after = max(-self.step, 0), max(self.step, 0)
        num_rows = a.shape[-2]
        inside = (a[:, before : num_rows - after] * k[:, after : num_rows - before]).sum(-1)
        position = torch.arange(num_rows, device=a.device)
        weight = ((position >= before) & (position < num_rows - after)).to(a.dtype)
        return torch.nn.functional.pad(inside, (before, after)), weight[None]

    def gathered(self, ranks: Ranks) -> Resolved:
        return self if self.step == 0 else only_alone(self, ranks, "('next', s)")


@dataclass(frozen=True)
class _Stacked:
    """Two views stacked: row i and row i +- size show the same sample (SimCLR)."""

    size: int
    partners: Tensor | None = None
    always = single = local = True

    @property
    def rule(self) -> Rule:
        return Diagonal(self.size, 2 * self.size) if self.partners is None else Partner(self.partners)

    def gathered(self, ranks: Ranks) -> Resolved:
        if ranks.group is None:
            return self
        partner = [
            (torch.arange(n) + n // 2) % n + first for n, first in zip(ranks.rows, ranks.firsts, strict=True)
        ]
        return _Stacked(self.size, torch.cat(partner))

    def logit(self, a: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        (first, second), ones = _halves(a), a.new_ones(1, 1)
        if a is k:  # both rows of a pair have the same logit
            positive = (first * second).sum(-1)
            return torch.cat([positive, positive], -1), ones
        key_first, key_second = _halves(k)
        return torch.cat([(first * key_second).sum(-1), (second * key_first).sum(-1)], -1), ones


def _halves(x: Tensor) -> tuple[Tensor, Tensor]:
    # One unbind rather than two slices: its backward writes the gradient once.
    first, second = x.unflatten(-2, (2, -1)).unbind(-3)
    return first, second


def paired(num_rows: int, num_keys: int, *, itself: bool) -> tuple[Resolved, Resolved]:
    """Row i of ``k`` to row i of ``q``; Args as of ``resolve``.

    Raises:
        ValueError: If the numbers of rows do not fit.
    """
    if itself:
        raise ValueError("k: positives='paired' needs keys; for two stacked views give ('paired', N // 2)")
    if num_rows != num_keys:
        raise ValueError(
            f"k: {num_rows} keys expected for positives='paired' with {num_rows} rows, got {num_keys}"
        )
    return _Shift(), _Shift()


def following(step: int, num_rows: int, num_keys: int) -> tuple[Resolved, Resolved]:
    """Row i + step to row i; Args as of ``resolve``.

    Raises:
        ValueError: If the numbers of rows do not fit.
    """
    if num_rows != num_keys or not 0 < abs(step) < num_rows:
        raise ValueError(
            f"positives: ('next', s) needs as many keys as rows and 0 < |s| < rows, got s = {step} with "
            f"{num_rows} rows and {num_keys} keys"
        )
    return _Shift(step), _Shift(-step)


def stacked(size: int, num_rows: int, *, itself: bool) -> tuple[Resolved, Resolved]:
    """Rows that are ``size`` apart to each other; Args as of ``resolve``.

    Raises:
        ValueError: If the numbers of rows do not fit.
    """
    if not itself or size < 1 or num_rows % size or num_rows == size:
        raise ValueError(
            f"positives: ('paired', P) needs k=None and 2 P rows (or V P for V stacked views), got P = {size} "
            f"with {num_rows} rows{'' if itself else ' and keys k'}"
        )
    if num_rows == 2 * size:
        return _Stacked(size), _Stacked(size)
    labels = torch.arange(size).repeat(num_rows // size)
    return labels_of(labels, labels, torch.Size(), num_rows, num_rows, itself=True)
