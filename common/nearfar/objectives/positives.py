r"""Which keys are the positives of which rows, and the weighted sum of them that the numerator needs.

The numerator of every softmax loss is linear in the keys, :math:`\langle q_i, t_i \rangle / W_i` with
:math:`t_i = \sum_j w_{ij} k_j` and :math:`W_i = \sum_j w_{ij}`. Each form of positives below computes t and W
without the N x M matrix w: a shift, class sums, a sparse product, a low-rank product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import torch
from torch import Tensor

from nearfar.objectives.denominator import All, Block, Mask, NotSelf, Rule
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
class Soft:
    r"""Soft low-rank weights :math:`w_{ij} = \alpha + \beta \langle a_i, b_j \rangle` for every key.

    With unit rows of a frozen encoder as ``a`` and ``b``, alpha = beta = 1/2 is the weight of CWCL
    (Srinivasa et al., NeurIPS 2023). In self-contrast a row is not its own positive.

    Attributes:
        alpha: Constant part.
        beta: Factor of the inner products.
        a: Features of the rows, shape ``(..., N, r)``.
        b: Features of the keys, shape ``(..., M, r)``.
    """

    alpha: float
    beta: float
    a: Tensor
    b: Tensor


Positives: TypeAlias = (
    Literal["paired"] | tuple[Literal["paired", "next"], int] | Tensor | tuple[Tensor, Tensor] | Pairs | Soft
)


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


def resolve(
    positives: Positives, lead: torch.Size, num_rows: int, num_keys: int, *, itself: bool
) -> tuple[Resolved, Resolved]:
    """The positives as the rows see them, and as the keys see them.

    Args:
        positives: As given to ``contrast``.
        lead: Leading dimensions of ``q``.
        num_rows: Rows of ``q``.
        num_keys: Rows of ``k``.
        itself: Whether ``q`` is contrasted with itself.

    Raises:
        ValueError: If they do not fit, or cannot be read.
    """
    if isinstance(positives, Pairs):
        return _pairs(positives, lead, num_rows, num_keys, itself)
    if isinstance(positives, Soft):
        return _soft(positives, lead, num_rows, num_keys, itself)
    if isinstance(positives, Tensor):
        if positives.is_floating_point() or positives.dtype == torch.bool:
            return _dense(positives, lead, num_rows, num_keys, itself)
        if not itself and num_rows != num_keys:
            raise ValueError(
                f"positives: labels of both sides, (q_labels, k_labels), expected for {num_rows} rows and "
                f"{num_keys} keys, got one tensor"
            )
        return _labels(positives, positives, lead, num_rows, num_keys, itself)
    if isinstance(positives, str):
        if positives == "paired":
            return _paired(num_rows, num_keys, itself)
    elif isinstance(positives, tuple) and len(positives) == 2:
        first, second = positives
        if isinstance(first, Tensor) and isinstance(second, Tensor):
            return _labels(first, second, lead, num_rows, num_keys, itself)
        if first == "paired" and isinstance(second, int):
            return _stacked(second, num_rows, itself)
        if first == "next" and isinstance(second, int):
            return _next(second, num_rows, num_keys)
    raise ValueError(
        "positives: 'paired', ('paired', N), ('next', s), labels, (q_labels, k_labels), Pairs, Soft or a weight "
        f"matrix (N, M) expected, got {positives!r}"
    )


@dataclass(frozen=True, eq=False)
class _Diagonal(Rule):
    """Key i + offset, modulo ``size`` if that is given."""

    offset: int
    size: int | None = None

    @property
    def symmetric(self) -> bool:
        return self.offset == 0 or 2 * self.offset == self.size

    def keep(self, block: Block) -> Tensor | bool:
        if block.ordered:
            wraps = [0] if self.size is None else [0, self.size]
            firsts = [block.rows.start + self.offset - wrap for wrap in wraps]
            if all(s + len(block.rows) <= block.keys.start or s >= block.keys.stop for s in firsts):
                return False
        partner = block.row_index + self.offset
        return block.key_index == (partner if self.size is None else partner % self.size)


@dataclass(frozen=True, eq=False)
class _Partner(Rule):
    """Each row's one key, by position; the partner's partner is the row."""

    partners: Tensor

    @property
    def symmetric(self) -> bool:
        return True

    def keep(self, block: Block) -> Tensor:
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
        return _Diagonal(self.step)

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
        return self if self.step == 0 else _only_alone(self, ranks, "('next', s)")


def _paired(num_rows: int, num_keys: int, itself: bool) -> tuple[Resolved, Resolved]:
    if itself:
        raise ValueError("k: positives='paired' needs keys; for two stacked views give ('paired', N // 2)")
    if num_rows != num_keys:
        raise ValueError(
            f"k: {num_rows} keys expected for positives='paired' with {num_rows} rows, got {num_keys}"
        )
    return _Shift(), _Shift()


def _next(step: int, num_rows: int, num_keys: int) -> tuple[Resolved, Resolved]:
    if num_rows != num_keys or not 0 < abs(step) < num_rows:
        raise ValueError(
            f"positives: ('next', s) needs as many keys as rows and 0 < |s| < rows, got s = {step} with "
            f"{num_rows} rows and {num_keys} keys"
        )
    return _Shift(step), _Shift(-step)


@dataclass(frozen=True)
class _Stacked:
    """Two views stacked: row i and row i +- size show the same sample (SimCLR)."""

    size: int
    partners: Tensor | None = None
    always = single = local = True

    @property
    def rule(self) -> Rule:
        return _Diagonal(self.size, 2 * self.size) if self.partners is None else _Partner(self.partners)

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


def _stacked(size: int, num_rows: int, itself: bool) -> tuple[Resolved, Resolved]:
    if not itself or size < 1 or num_rows % size or num_rows == size:
        raise ValueError(
            f"positives: ('paired', P) needs k=None and 2 P rows (or V P for V stacked views), got P = {size} "
            f"with {num_rows} rows{'' if itself else ' and keys k'}"
        )
    if num_rows == 2 * size:
        return _Stacked(size), _Stacked(size)
    labels = torch.arange(size).repeat(num_rows // size)
    return _labels(labels, labels, torch.Size(), num_rows, num_rows, itself=True)


@dataclass(frozen=True, eq=False)
class _SameLabel(Rule):
    """Equal labels, not negative; in self-contrast not the row itself."""

    q_labels: Tensor
    k_labels: Tensor
    itself: bool

    @property
    def symmetric(self) -> bool:
        return self.itself

    def keep(self, block: Block) -> Tensor | bool:
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
        return _SameLabel(self.q_labels, self.k_labels, self.itself)

    def gathered(self, ranks: Ranks) -> Resolved:
        if ranks.group is None:
            return self
        q_labels = ranks.gather_rows(self.q_labels)
        k_labels = q_labels if self.itself else ranks.gather_keys(self.k_labels)
        return _Labels(q_labels, k_labels, self.itself, ranks.own_rows.start)

    def logit(self, a: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        q_labels, k_labels = self.q_labels[..., _own(self.first, a)].to(a.device), self.k_labels.to(a.device)
        classes, index = torch.unique(torch.cat([q_labels, k_labels], -1), return_inverse=True)
        # Problems of a batch have class sums of their own.
        index = index.expand(a.shape[0], -1) + len(classes) * torch.arange(len(a), device=a.device)[:, None]
        row_class, key_class = index.split([a.shape[-2], k.shape[-2]], -1)
        labelled = (k_labels >= 0).to(a.dtype).expand_as(key_class)
        size = len(a) * len(classes)
        sums = a.new_zeros(size, k.shape[-1])
        sums = sums.index_add(0, key_class.flatten(), (k * labelled[..., None]).flatten(0, 1))
        counts = a.new_zeros(size).index_add(0, key_class.flatten(), labelled.flatten())
        target, weight = sums[row_class], counts[row_class]
        if self.itself:
            target, weight = target - k[:, _own(self.first, a)], weight - 1
        weight = (weight * (q_labels >= 0)).clamp(min=0)
        return _mean_logit(a, target, weight), weight


def _labels(
    q_labels: Tensor, k_labels: Tensor, lead: torch.Size, num_rows: int, num_keys: int, itself: bool
) -> tuple[Resolved, Resolved]:
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


@dataclass(frozen=True, eq=False)
class _PairRule(Rule):
    pairs: Pairs

    def keep(self, block: Block) -> Tensor | bool:
        row, key = self.pairs.rows.to(block.device), self.pairs.keys.to(block.device)
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
        return _PairRule(self.pairs)

    def logit(self, a: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        row, key = self.pairs.rows.to(a.device), self.pairs.keys.to(a.device)
        weights = self.pairs.weights
        values = a.new_ones(len(row)) if weights is None else weights.to(a)
        shape = (a.shape[-2], k.shape[-2])
        matrix = torch.sparse_coo_tensor(torch.stack([row, key]), values, shape, check_invariants=False)
        target = torch.sparse.mm(matrix, k[0])[None]
        weight = a.new_zeros(a.shape[-2]).index_add(0, row, values)[None]
        return _mean_logit(a, target, weight), weight

    def gathered(self, ranks: Ranks) -> Resolved:
        return _only_alone(self, ranks, "Pairs")


def _pairs(
    pairs: Pairs, lead: torch.Size, num_rows: int, num_keys: int, itself: bool
) -> tuple[Resolved, Resolved]:
    if lead.numel() != 1 or lead:
        raise ValueError(f"positives: Pairs need q of shape (N, d), got leading dimensions {tuple(lead)}")
    for name, index, size in (("rows", pairs.rows, num_rows), ("keys", pairs.keys, num_keys)):
        if index.dim() != 1 or index.is_floating_point() or index.shape != pairs.rows.shape:
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
        _check_weights("Pairs.weights", weights)
    return _Pairs(pairs), _Pairs(Pairs(pairs.keys, pairs.rows, weights))


@dataclass(frozen=True, eq=False)
class _Soft:
    soft: Soft
    itself: bool
    first: int = 0  # position of the first row among the keys, where rows are keys
    always = single = local = False

    @property
    def rule(self) -> Rule:
        return NotSelf() if self.itself else All()

    def logit(self, a: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        alpha, beta = self.soft.alpha, self.soft.beta
        row, key = self.soft.a.to(a), self.soft.b.to(a)
        target = alpha * k.sum(-2, keepdim=True) + beta * row @ (key.mT @ k)
        weight = alpha * k.shape[-2] + beta * (row @ key.sum(-2)[..., None])[..., 0]
        if self.itself:
            own = alpha + beta * (row * key[..., _own(self.first, a), :]).sum(-1)
            target, weight = target - own[..., None] * k[:, _own(self.first, a)], weight - own
        return _mean_logit(a, target, weight), weight

    def gathered(self, ranks: Ranks) -> Resolved:
        if ranks.group is None:
            return self
        features = ranks.gather_keys(self.soft.b)
        return _Soft(
            Soft(self.soft.alpha, self.soft.beta, self.soft.a, features), self.itself, ranks.own_rows.start
        )


def _soft(
    soft: Soft, lead: torch.Size, num_rows: int, num_keys: int, itself: bool
) -> tuple[Resolved, Resolved]:
    for name, features, size in (("a", soft.a, num_rows), ("b", soft.b, num_keys)):
        fits = features.shape[:-1] in ((size,), (*lead, size))
        if not fits or features.shape[-1] != soft.a.shape[-1]:
            raise ValueError(
                f"positives: Soft.{name} of shape {(*lead, size, soft.a.shape[-1])} expected, got "
                f"{tuple(features.shape)}"
            )
    a, b = (x.flatten(0, -3) if x.dim() > 2 else x for x in (soft.a, soft.b))
    turned = Soft(soft.alpha, soft.beta, b, a)
    return _Soft(Soft(soft.alpha, soft.beta, a, b), itself), _Soft(turned, itself)


@dataclass(frozen=True, eq=False)
class _Dense:
    weights: Tensor
    always = single = local = False

    @property
    def rule(self) -> Rule:
        return Mask(self.weights != 0)

    def logit(self, a: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        weights = self.weights.to(a)
        weight = weights.sum(-1)
        return _mean_logit(a, weights @ k, weight), weight.expand(a.shape[:-1])

    def gathered(self, ranks: Ranks) -> Resolved:
        return _only_alone(self, ranks, "a weight matrix")


def _dense(
    weights: Tensor, lead: torch.Size, num_rows: int, num_keys: int, itself: bool
) -> tuple[Resolved, Resolved]:
    if weights.shape not in ((num_rows, num_keys), (*lead, num_rows, num_keys)):
        raise ValueError(
            f"positives: weights of shape {(*lead, num_rows, num_keys)} expected, got {tuple(weights.shape)}"
        )
    _check_weights("weights", weights)
    if weights.dim() > 2:
        weights = weights.flatten(0, -3)
    if itself:
        weights = weights * ~torch.eye(num_rows, dtype=torch.bool, device=weights.device)
    return _Dense(weights), _Dense(weights.mT)


def _own(first: int, a: Tensor) -> slice:
    """The rows of ``a`` among those of all processes."""
    return slice(first, first + a.shape[-2])


def _only_alone(positives: Resolved, ranks: Ranks, name: str) -> Resolved:
    if ranks.group is not None:
        raise ValueError(
            f"positives: 'paired', ('paired', P), labels or Soft expected with group=, got {name}, whose positions "
            "mean one process's batch"
        )
    return positives


def _mean_logit(a: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    return (a * target).sum(-1) / torch.where(weight > 0, weight, 1) * (weight > 0)


def _check_weights(name: str, weights: Tensor) -> None:
    if not bool((weights >= 0).all() & weights.isfinite().all()):
        raise ValueError(f"positives: {name} finite and not negative expected")
