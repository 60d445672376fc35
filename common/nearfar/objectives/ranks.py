r"""One batch spread over the processes of a group, contrasted exactly.

Only keys travel. Every process compares its own rows with the keys of all; sums over keys are then complete, sums over
rows are partial and are combined by one reduction of a number a key. In self-contrast each unordered pair of
processes is compared by one of the two (a half ring), and the partial sums of all rows are combined. The
gradients of gathered keys are summed back over the processes.

The loss returned is that of the concatenated batch on every process, and its local gradient is multiplied by
the number of processes, so that *averaging* gradients over them gives the gradient of the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, product
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup

from nearfar.objectives.denominator import Rule
from nearfar.objectives.joint import Selection
from nearfar.objectives.logsumexp import Backend, log_sum_exp, log_sum_exps
from nearfar.objectives.tiled import once_differentiable, tiled_log_sum_exp
from nearfar.objectives.tiles import Order, Schedule, spans


@dataclass(frozen=True)
class Ranks:
    """Who holds which rows and keys of the batch.

    Attributes:
        group: The process group, ``None`` for this process alone.
        rank: This process's place in it.
        rows: Number of rows of every process.
        keys: Number of keys of every process.
    """

    group: ProcessGroup | None
    rank: int
    rows: tuple[int, ...]
    keys: tuple[int, ...]

    @classmethod
    def of(cls, group: ProcessGroup | None, num_rows: int, num_keys: int, device: torch.device) -> Ranks:
        """Tell the others how many rows and keys are here, and hear it from them.

        Args:
            group: The process group, or ``None``.
            num_rows: Rows here.
            num_keys: Keys here.
            device: On which the group communicates.
        """
        if group is None or dist.get_world_size(group) == 1:
            return cls(None, 0, (num_rows,), (num_keys,))
        here = torch.tensor([num_rows, num_keys], device=device)
        everywhere = [torch.empty_like(here) for _ in range(dist.get_world_size(group))]
        dist.all_gather(everywhere, here, group=group)
        rows, keys = zip(*(counts.tolist() for counts in everywhere), strict=True)
        return cls(group, dist.get_rank(group), rows, keys)

    @classmethod
    def sharing(cls, group: ProcessGroup | None, total: int) -> Ranks:
        """Equal parts of a batch that every process holds; nothing needs to be told.

        Args:
            group: The process group, or ``None``.
            total: Rows of the batch.
        """
        if group is None or dist.get_world_size(group) == 1:
            return cls(None, 0, (total,), (total,))
        parts = tuple(len(part) for part in torch.arange(total).tensor_split(dist.get_world_size(group)))
        return cls(group, dist.get_rank(group), parts, parts)

    def transposed(self) -> Ranks:
        """The same with rows and keys exchanged."""
        return Ranks(self.group, self.rank, self.keys, self.rows)

    @property
    def firsts(self) -> list[int]:
        """Position of every process's first row in the whole batch."""
        return [0, *accumulate(self.rows)][:-1]

    @property
    def own_rows(self) -> slice:
        """This process's rows in the whole batch."""
        first = self.firsts[self.rank]
        return slice(first, first + self.rows[self.rank])

    @property
    def own_keys(self) -> slice:
        """This process's keys in the whole batch."""
        return self.transposed().own_rows

    def order(self, device: torch.device) -> Order:
        """Positions of this process's rows.

        Args:
            device: Of the result.
        """
        if self.group is None:
            return Order()
        return Order(rows=torch.arange(self.own_rows.start, self.own_rows.stop, device=device))

    def gather(self, keys: Tensor) -> Tensor:
        """The keys of all processes, differentiable.

        Args:
            keys: Those of this process, shape ``(1, M, d)``; any ``(B, M, d)`` when it is alone.
        """
        if self.group is None:
            return keys
        result: Tensor = _Gather.apply(keys, self)  # type: ignore[no-untyped-call]
        return result

    def gather_rows(self, values: Tensor) -> Tensor:
        """What all processes have for their rows, without gradient.

        Args:
            values: Of this process's rows, shape ``(N, ...)``.

        Returns:
            Shape ``(total, ...)``.
        """
        return values if self.group is None else _concatenated(values.detach(), self.rows, self.group)

    def gather_keys(self, values: Tensor) -> Tensor:
        """What all processes have for their keys, without gradient; Args as :meth:`gather_rows`."""
        return self.transposed().gather_rows(values)

    def mean_key(self, keys: Tensor) -> Tensor:
        """Mean of the keys of all processes, without gradient.

        Args:
            keys: Those of this process, shape ``(B, M, d)``.

        Returns:
            Shape ``(B, 1, d)``.
        """
        return self.total(keys.sum(-2, keepdim=True)) / sum(self.keys)

    def total(self, value: Tensor) -> Tensor:
        """Sum over the processes, without gradient.

        Args:
            value: A scalar, or any other shape that is the same everywhere.
        """
        if self.group is None:
            return value.detach()
        value = value.detach().clone()
        dist.all_reduce(value, group=self.group)
        return value

    def loss(self, share: Tensor) -> Tensor:
        """The whole loss from this process's share of it.

        Args:
            share: A scalar; the shares of all processes add up.
        """
        if self.group is None:
            return share
        scaled = share * len(self.rows)
        return scaled + (self.total(share) - scaled.detach())

    def log_sum_exp(
        self, a: Tensor, keys: Tensor, rule: Rule, *, itself: bool, columns: bool, backend: Backend
    ) -> tuple[Tensor, Tensor | None]:
        """Log-sum-exp of this process's rows over all keys, and of its keys over all rows.

        Args:
            a: Left operand of this process, shape ``(B, N, d)``.
            keys: Right operand of all processes, shape ``(B, M, d)``.
            rule: Which keys count, in positions of the whole batch.
            itself: Whether ``a`` is this process's part of ``keys``.
            columns: Whether to sum over rows as well.
            backend: As of ``contrast``.

        Returns:
            Shapes ``(B, N)`` and ``(B, this process's keys)``.
        """
        if self.group is None:
            return log_sum_exp(a, None if itself else keys, rule, columns=columns, backend=backend)
        if itself and rule.symmetric and backend in ("auto", "tiled"):
            partial, _ = tiled_log_sum_exp(keys, None, rule, schedule=self._half_ring)
            return _Combine.apply(partial, self), None  # type: ignore[no-untyped-call]
        by_row, by_key = log_sum_exp(
            a, keys, rule, columns=columns, backend=backend, order=self.order(a.device)
        )
        return by_row, None if by_key is None else _Combine.apply(by_key, self)  # type: ignore[no-untyped-call]

    def log_sum_exps(
        self, a: Tensor, keys: Tensor, selections: Sequence[Selection], *, itself: bool, backend: Backend
    ) -> list[Tensor]:
        """Several log-sum-exps of this process's rows over all keys, from the same logits.

        Between processes no pair is compared by one for both: the scales of the others' rows are not here.

        Args:
            a: Left operand of this process, shape ``(B, N, d)``.
            keys: Right operand of all processes, shape ``(B, M, d)``.
            selections: What counts for each, in positions of the whole batch, and the scale of this process's rows.
            itself: As of :meth:`log_sum_exp`.
            backend: As of ``contrast``.

        Returns:
            One of shape ``(B, N)`` a selection.
        """
        if self.group is None:
            return log_sum_exps(a, None if itself else keys, selections, backend=backend)
        return log_sum_exps(a, keys, selections, backend=backend, order=self.order(a.device))

    def _half_ring(self, edge: int) -> Schedule:
        """This process's tiles: its own triangle, and its rows against half of the others'."""
        pieces = [
            [range(first + s.start, first + s.stop) for s in spans(size, edge)]
            for first, size in zip(self.firsts, self.rows, strict=True)
        ]
        own, size = pieces[self.rank], len(self.rows)
        tiles = [(rows, keys) for i, rows in enumerate(own) for keys in own[i:]]
        for step in range(1, (size + 1) // 2):
            tiles += product(own, pieces[(self.rank + step) % size])
        if size % 2 == 0:  # the opposite process: each of the two takes every other tile
            opposite = (self.rank + size // 2) % size
            low, high = min(self.rank, opposite), max(self.rank, opposite)
            pairs = list(product(pieces[low], pieces[high]))
            tiles += pairs[0::2] if self.rank == low else pairs[1::2]
        return tiles


def _concatenated(values: Tensor, sizes: Sequence[int], group: ProcessGroup) -> Tensor:
    # Padded to one size, which is what every communication library can gather.
    padded = values.new_zeros(max(sizes), *values.shape[1:])
    padded[: len(values)] = values
    everywhere = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(everywhere, padded, group=group)
    return torch.cat([part[:size] for part, size in zip(everywhere, sizes, strict=True)])


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, keys: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        assert ranks.group is not None
        return _concatenated(keys[0], ranks.keys, ranks.group)[None]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        ranks = ctx.ranks
        grad = grad.contiguous().clone()
        dist.all_reduce(grad, group=ranks.group)
        return grad[:, ranks.own_keys], None


class _Combine(torch.autograd.Function):
    """Log-sum-exps over parts of the batch to the one over all of it; each process keeps its own keys'."""

    @staticmethod
    def forward(ctx: Any, partial: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        peak = partial.clone()
        dist.all_reduce(peak, dist.ReduceOp.MAX, group=ranks.group)
        shift = torch.where(peak == -torch.inf, 0, peak)
        total = torch.exp(partial - shift)
        dist.all_reduce(total, group=ranks.group)
        whole = total.log() + shift
        ctx.save_for_backward(partial, whole)
        return whole[:, ranks.own_keys]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        partial, whole = ctx.saved_tensors
        ranks: Ranks = ctx.ranks
        assert ranks.group is not None
        everywhere = _concatenated(grad[0].contiguous(), ranks.keys, ranks.group)[None]
        share = torch.where(partial == -torch.inf, 0, torch.exp(partial - whole))
        return once_differentiable(everywhere * share, grad), None
