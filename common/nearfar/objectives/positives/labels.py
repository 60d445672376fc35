"""Positives that carry the same label; their sum is a class sum."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nearfar.objectives.denominator import Block, Rule
from nearfar.objectives.positives.resolved import Resolved, mean_logit, own_rows
from nearfar.objectives.ranks import Ranks


@dataclass(frozen=True, eq=False)
class SameLabel(Rule):
    """Equal labels, not negative; in self-contrast not the row itself."""

    q_labels: Tensor
    k_labels: Tensor
    itself: bool

    @property
    def symmetric(self) -> bool:
        """In self-contrast."""
        return self.itself

    def keep(self, block: Block) -> Tensor | bool:
        """Equal labels; Args as :meth:`Rule.keep`."""
        rows, keys = block.of_rows(self.q_labels), block.of_keys(self.k_labels)
        if not rows.is_cuda and (rows.amax() < keys.amin() or keys.amax() < rows.amin()):
            return False
        same = (rows[..., :, None] == keys[..., None, :]) & (rows >= 0)[..., :, None]
        return same & (block.row_index != block.key_index) if self.itself else same


@dataclass(frozen=True, eq=False)
class _Labels:
    q_labels: Tensor
    k_labels: Tensor
    itself: bool
    first: int = 0  # position of the first row among the keys, where rows are keys
    always = single = local = False

    @property
    def rule(self) -> Rule:
        return SameLabel(self.q_labels, self.k_labels, self.itself)

    def gathered(self, ranks: Ranks) -> Resolved:
        if ranks.group is None:
            return self
        q_labels = ranks.gather_rows(self.q_labels)
        k_labels = q_labels if self.itself else ranks.gather_keys(self.k_labels)
        return _Labels(q_labels, k_labels, self.itself, ranks.own_rows.start)

    def logit(self, a: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        q_labels = self.q_labels[..., own_rows(self.first, a)].to(a.device).expand(a.shape[:-1])
        k_labels = self.k_labels.to(a.device).expand(k.shape[:-1])
        labelled = (k_labels >= 0).to(a.dtype)
        target, weight = sums_of_equal(q_labels, k_labels, k * labelled[..., None], labelled)
        if self.itself:
            target, weight = target - k[:, own_rows(self.first, a)], weight - 1
        weight = (weight * (q_labels >= 0)).clamp(min=0)
        return mean_logit(a, target, weight), weight


def sums_of_equal(row_ids: Tensor, key_ids: Tensor, keys: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over the keys that carry the id of a row, problem by problem.

    Args:
        row_ids: Shape ``(B, N)``.
        key_ids: Shape ``(B, M)``.
        keys: What to add up, shape ``(B, M, d)``.
        weights: The same for one number a key, shape ``(B, M)``.

    Returns:
        Shapes ``(B, N, d)`` and ``(B, N)``.
    """
    count, index = numbered(torch.cat([row_ids, key_ids], -1), may_wait=not keys.is_cuda)
    if len(keys) > 1:  # problems of a batch have class sums of their own
        problem = torch.arange(len(keys), device=keys.device)[:, None]
        count, index = numbered(index + count * problem, may_wait=not keys.is_cuda)
    row_class, key_class = index.split([row_ids.shape[-1], key_ids.shape[-1]], -1)
    sums = keys.new_zeros(count, keys.shape[-1])
    sums = sums.index_add(0, key_class.flatten(), keys.flatten(0, 1))
    counts = keys.new_zeros(count).index_add(0, key_class.flatten(), weights.flatten())
    return sums[row_class], counts[row_class]


def numbered(ids: Tensor, *, may_wait: bool) -> tuple[int, Tensor]:
    """Numbers from 0 in the order of the ids, equal ones for equal ids.

    Args:
        ids: Integers, any shape ``(...,)``.
        may_wait: Whether to look how many there are, for which a host would wait for a GPU.

    Returns:
        How many there are, or without looking how many there can be; and the numbers, as ``ids`` in shape.

    Example:
        >>> numbered(torch.tensor([7, 3, 7]), may_wait=True)
        (2, tensor([1, 0, 1]))
        >>> numbered(torch.tensor([7, 3, 7]), may_wait=False)
        (3, tensor([1, 0, 1]))
    """
    if may_wait:
        known, index = torch.unique(ids, return_inverse=True)
        return len(known), index
    ordered, order = ids.flatten().sort(stable=True)
    steps = torch.nn.functional.pad((ordered[1:] != ordered[:-1]).long(), (1, 0))
    return ids.numel(), steps.cumsum(0)[order.argsort()].view_as(ids)


def labels_of(
    q_labels: Tensor, k_labels: Tensor, lead: torch.Size, num_rows: int, num_keys: int, *, itself: bool
) -> tuple[Resolved, Resolved]:
    """Rows and keys with equal labels; Args as of ``resolve``, shapes ``(..., N)`` and ``(..., M)``.

    Raises:
        ValueError: If a shape or dtype does not fit.
    """
    for labels, size in ((q_labels, num_rows), (k_labels, num_keys)):
        fits = labels.shape in ((size,), (*lead, size))
        if labels.is_floating_point() or labels.dtype == torch.bool or not fits:
            raise ValueError(
                f"positives: integer labels of shape {(*lead, size)} expected, got {labels.dtype} of shape "
                f"{tuple(labels.shape)}"
            )
    if itself and q_labels is not k_labels:
        raise ValueError(
            "positives: one tensor of labels expected where q is contrasted with itself, got two"
        )
    flat_q, flat_k = (x.flatten(0, -2) if x.dim() > 1 else x for x in (q_labels, k_labels))
    return _Labels(flat_q, flat_k, itself), _Labels(flat_k, flat_q, itself)
