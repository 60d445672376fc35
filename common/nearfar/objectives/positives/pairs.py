"""Positives given pair by pair; their sum is a sparse product."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nearfar.objectives.denominator import Block, Rule
from nearfar.objectives.positives.resolved import Resolved, check_pair_weights, mean_logit, only_alone
from nearfar.objectives.ranks import Ranks


@dataclass(frozen=True, eq=False)
class Pairs:
    """Positive pairs one by one; a pair given twice counts twice.

    Attributes:
        rows: Row of ``q`` of each pair, integers of shape ``(P,)``.
        keys: Row of ``k`` of each pair, shape ``(P,)``.
        weights: Non-negative weight of each pair, shape ``(P,)``; ``None`` for ones.
    """

    rows: Tensor
    keys: Tensor
    weights: Tensor | None = None


@dataclass(frozen=True, eq=False)
class PairRule(Rule):
    """The pairs, which stand in the order of their rows."""

    pairs: Pairs

    def keep(self, block: Block) -> Tensor | bool:
        """Whether row and key are a pair; Args as :meth:`Rule.keep`."""
        row, key = self.pairs.rows.to(block.device), self.pairs.keys.to(block.device)
        if block.row_order is None:
            ends = torch.tensor([block.rows.start, block.rows.stop], device=block.device)
            first, last = torch.searchsorted(row, ends).tolist()
            row, key = row[first:last], key[first:last]
            if first == last:
                return False
        row_slot = _slots(block.row_index.flatten(), row)
        key_slot = _slots(block.key_index.flatten(), key)
        inside = (row_slot >= 0) & (key_slot >= 0)
        answer = torch.zeros(len(block.rows), len(block.keys), dtype=torch.bool, device=block.device)
        answer[row_slot[inside], key_slot[inside]] = True
        return answer


def _slots(positions: Tensor, wanted: Tensor) -> Tensor:
    """Where each wanted position stands among ``positions``, -1 for nowhere."""
    order = positions.argsort()
    place = torch.searchsorted(positions[order], wanted).clamp(max=len(positions) - 1)
    return torch.where(positions[order[place]] == wanted, order[place], -1)


@dataclass(frozen=True, eq=False)
class _Pairs:
    pairs: Pairs
    always = single = local = False

    @property
    def rule(self) -> Rule:
        return PairRule(self.pairs)

    def logit(self, a: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        row, key = self.pairs.rows.to(a.device), self.pairs.keys.to(a.device)
        weights = self.pairs.weights
        values = a.new_ones(len(row)) if weights is None else weights.to(a)
        shape = (a.shape[-2], k.shape[-2])
        matrix = torch.sparse_coo_tensor(torch.stack([row, key]), values, shape, check_invariants=False)
        target = torch.sparse.mm(matrix, k[0])[None]
        weight = a.new_zeros(a.shape[-2]).index_add(0, row, values)[None]
        return mean_logit(a, target, weight), weight

    def gathered(self, ranks: Ranks) -> Resolved:
        return only_alone(self, ranks, "Pairs")


def pairs_of(
    pairs: Pairs, lead: torch.Size, num_rows: int, num_keys: int, *, itself: bool
) -> tuple[Resolved, Resolved]:
    """Pairs as rows and as keys see them; Args as of ``resolve``.

    Raises:
        ValueError: If a shape, dtype, position or weight does not fit.
    """
    if lead:
        raise ValueError(f"positives: Pairs need q of shape (N, d), got leading dimensions {tuple(lead)}")
    for name, index, size in (("rows", pairs.rows, num_rows), ("keys", pairs.keys, num_keys)):
        if not isinstance(index, Tensor):
            raise ValueError(f"positives: Pairs.{name} tensor of integers expected, got {index!r}")
        integers = not index.is_floating_point() and index.dtype != torch.bool
        if index.dim() != 1 or not integers or index.shape != pairs.rows.shape:
            raise ValueError(
                f"positives: Pairs.{name} integers of shape {tuple(pairs.rows.shape)} expected, got "
                f"{index.dtype} of shape {tuple(index.shape)}"
            )
        if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < size:
            raise ValueError(
                f"positives: Pairs.{name} in [0, {size}) expected, got {int(index.min())} to {int(index.max())}"
            )
    if itself and bool((pairs.rows == pairs.keys).any()):
        raise ValueError("positives: a row is no positive of itself where q is contrasted with itself")
    weights = pairs.weights
    if weights is not None:
        if weights.shape != pairs.rows.shape:
            raise ValueError(
                f"positives: Pairs.weights of shape {tuple(pairs.rows.shape)} expected, got {tuple(weights.shape)}"
            )
        check_pair_weights("Pairs.weights", weights)
        # A pair of weight 0 is none.
        counts = weights > 0
        pairs = Pairs(pairs.rows[counts], pairs.keys[counts], weights[counts])
    return _Pairs(_by_row(pairs)), _Pairs(_by_row(Pairs(pairs.keys, pairs.rows, pairs.weights)))


def _by_row(pairs: Pairs) -> Pairs:
    order = pairs.rows.argsort(stable=True)
    weights = None if pairs.weights is None else pairs.weights[order]
    return Pairs(pairs.rows[order].long(), pairs.keys[order].long(), weights)
