"""The part of a comparison that is in memory at a time: one tile of logits of one or a few problems.

All logits here are to base 2 (``exp2`` is several times faster than ``exp`` on some CPUs and exact to the
same round-off); log-sum-exps leave this package in natural units.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

import torch
from torch import Tensor

from nearfar.objectives.denominator import Block, Rule

Schedule: TypeAlias = Sequence[tuple[range, range]]
LOG2E, LN2 = 1 / math.log(2), math.log(2)
# A tile of this edge and its copy stay in the second-level cache of one core; on a GPU larger tiles keep
# the processors busy.
CPU_EDGE, GPU_EDGE = 768, 4096
# Several log-sum-exps of one tile need a third buffer beside it (measured on one core, d = 128).
JOINT_EDGE = 512
# |base-2 logits| up to this, of operands up to that long, need no shift: powers of two times an operand, summed
# over the keys, are far from overflow, and a gradient divided by such a sum is far from underflow.
UNSHIFTED, LONGEST = {torch.float32: 60.0, torch.float64: 600.0}, 1e9


@dataclass(frozen=True)
class Tiling:
    """How a comparison of B problems, N rows and M keys is cut.

    Attributes:
        rows: Rows in a tile.
        keys: Keys in a tile.
        problems: Problems in a tile.
    """

    rows: int
    keys: int
    problems: int

    @classmethod
    def choose(
        cls,
        shape: tuple[int, int, int],
        device: torch.device,
        edge: int | None = None,
        *,
        joint: bool = False,
    ) -> Tiling:
        """A square tile, or several whole problems when they are small.

        Args:
            shape: B, N, M.
            device: Of the operands.
            edge: Wanted edge of a tile; ``None`` for the device's.
            joint: Whether it serves several log-sum-exps.
        """
        own = min(CPU_EDGE, JOINT_EDGE) if joint else CPU_EDGE
        edge = edge or (own if device.type == "cpu" else GPU_EDGE)
        problems, rows, keys = shape[0], _even(shape[1], edge), _even(shape[2], edge)
        return cls(rows, keys, max(1, min(problems, edge * edge // (rows * keys))))


def _even(size: int, edge: int) -> int:
    """The largest piece when a size is cut as evenly as multiples of 64 allow."""
    even = -(-size // -(-size // edge))
    return min(edge, size, -(-even // 64) * 64)


@dataclass(frozen=True)
class Order:
    """The order in which rows and keys are visited; ``None`` for that of the batch.

    Attributes:
        rows: Position of every row, shape ``(N,)``.
        keys: Position of every key, shape ``(M,)``.
    """

    rows: Tensor | None = None
    keys: Tensor | None = None


@dataclass(frozen=True)
class Sweep:
    """How to go through one comparison.

    Attributes:
        rule: Which keys count.
        tiling: Size of the tiles.
        order: Order of rows and keys.
        shift: Whether logits may be large (online maximum).
    """

    rule: Rule
    tiling: Tiling
    order: Order
    shift: bool = True

    def visit(self, like: Tensor, schedule: Schedule) -> Iterator[Tile]:
        """The tiles in which any key counts.

        Args:
            like: An operand, for device and number of problems, shape ``(B, N, d)``.
            schedule: Rows and keys of the tiles, for every part of the problems.
        """
        for span in spans(len(like), self.tiling.problems):
            problems = slice(span.start, span.stop)
            for rows, keys in schedule:
                block = Block(rows, keys, like.device, problems, self.order.rows, self.order.keys)
                keep = self.rule.keep(block)
                if keep is not False:
                    yield Tile(block, keep)


def grid(num_rows: int, num_keys: int, tiling: Tiling) -> Schedule:
    """All tiles, row by row.

    Args:
        num_rows: N.
        num_keys: M.
        tiling: Size of the tiles.
    """
    return list(product(spans(num_rows, tiling.rows), spans(num_keys, tiling.keys)))


def spans(size: int, step: int) -> list[range]:
    """``range(size)`` in pieces of ``step``.

    Example:
        >>> spans(5, 2)
        [range(0, 2), range(2, 4), range(4, 5)]
    """
    return [range(start, min(start + step, size)) for start in range(0, size, step)]


@dataclass(frozen=True)
class Tile:
    """Where a tile is, and which of its keys count.

    Attributes:
        block: Its problems, rows and keys.
        keep: The rule's answer: ``True`` for all keys, or booleans ``(..., rows, keys)``.
    """

    block: Block
    keep: Tensor | bool

    @property
    def on_diagonal(self) -> bool:
        """Whether its rows are its keys, in self-contrast."""
        return self.block.rows == self.block.keys

    def of_rows(self, x: Tensor) -> Tensor:
        """What belongs to the tile's rows.

        Args:
            x: Shape ``(B, N)`` or ``(B, N, d)``.
        """
        return self._part(x, self.block.rows)

    def of_keys(self, x: Tensor) -> Tensor:
        """What belongs to the tile's keys.

        Args:
            x: Shape ``(B, M)`` or ``(B, M, d)``.
        """
        return self._part(x, self.block.keys)

    def of_side(self, x: Tensor, dim: int) -> Tensor:
        """What belongs to the rows, for a sum over the last dimension, or to the keys.

        Args:
            x: Shape ``(B, N)`` or ``(B, M)``.
            dim: -1 for the rows, -2 for the keys.
        """
        return self.of_rows(x) if dim == -1 else self.of_keys(x)

    def _part(self, x: Tensor, span: range) -> Tensor:
        return x[self.block.problems or slice(None), span.start : span.stop]

    def hide(self, values: Tensor, fill: float) -> Tensor:
        """Values in place, with ``fill`` where a key does not count.

        Args:
            values: Shape ``(problems, rows, keys)``.
            fill: Replacement.
        """
        return values.masked_fill_(~self.keep, fill) if isinstance(self.keep, Tensor) else values

    def drop(self, terms: Tensor) -> Tensor:
        """Finite terms in place, 0 where a key does not count: :meth:`hide` in half the time on a CPU.

        Args:
            terms: Shape ``(problems, rows, keys)``.
        """
        return terms.mul_(self.keep) if isinstance(self.keep, Tensor) else terms


class Logits:
    """Computes tiles of base-2 logits into one buffer that is used again for the next.

    Args:
        like: An operand, for dtype and device.
        sweep: Which keys count, and their log-weights; size and order of the tiles.
        weighted: Whether to add the rule's log-weights.
    """

    def __init__(self, like: Tensor, sweep: Sweep, *, weighted: bool = True) -> None:
        self.sweep = sweep
        self.weighted, tiling = weighted and sweep.rule.weighted, sweep.tiling
        self.buffer = like.new_empty(tiling.problems * tiling.rows * tiling.keys)
        self.spare: Tensor | None = None

    def __call__(self, tile: Tile, left: Tensor, right: Tensor) -> Tensor:
        """Logits of a tile, whether or not its keys count.

        Args:
            tile: The tile.
            left: Its rows, shape ``(problems, rows, d)``.
            right: Its keys, shape ``(problems, keys, d)``.
        """
        shape = (left.shape[0], left.shape[1], right.shape[1])
        logits = self.buffer[: math.prod(shape)].view(shape)
        torch.bmm(left * LOG2E, right.mT, out=logits)
        weight = self.sweep.rule.log_weight(tile.block) if self.weighted else None
        return logits if weight is None else logits.add_(weight.to(logits), alpha=LOG2E)

    def scratch(self, shape: torch.Size) -> Tensor:
        """A second buffer of this shape, made when first asked for."""
        if self.spare is None:
            self.spare = torch.empty_like(self.buffer)
        return self.spare[: shape.numel()].view(shape)


@dataclass(frozen=True)
class Upstream:
    """What turns a logit s into gradient times softmax: ``coefficient * 2^(s - offset)``.

    Attributes:
        offset: Shape ``(B, N)``; zeros where logits need no shift.
        coefficient: Shape ``(B, N)``; 0 for empty sums.
    """

    offset: Tensor
    coefficient: Tensor

    @classmethod
    def of(cls, lse: Tensor, grad: Tensor, *, shift: bool) -> Upstream:
        """From a log-sum-exp to base 2 and the gradient that arrives for it in natural units.

        Args:
            lse: Shape ``(B, N)``.
            grad: Shape ``(B, N)``.
            shift: Whether logits may be large.
        """
        empty = lse == -torch.inf
        lse, grad = torch.where(empty, 0, lse), torch.where(empty, 0, grad)
        return cls(lse, grad) if shift else cls(torch.zeros_like(lse), grad * torch.exp2(-lse))

    def times(self, factor: float | Tensor) -> Upstream:
        """For a logit that is that factor times another, by the other.

        Args:
            factor: A number or shape ``(B, N)``.
        """
        return Upstream(self.offset, self.coefficient * factor)


def two_sided(
    tile: Tile, logits: Tensor, scratch: Tensor, by_row: Upstream, by_key: Upstream, *, shift: bool
) -> Tensor:
    """Gradient of the logits of a tile that serves rows and keys, in the place of the logits.

    Args:
        tile: The tile.
        logits: Shape ``(problems, rows, keys)``.
        scratch: Buffer, same shape as ``logits``.
        by_row: Of all rows.
        by_key: Of all keys.
        shift: Whether logits may be large.
    """
    of_row, of_key = (
        tile.of_rows(by_row.coefficient)[..., None],
        tile.of_keys(by_key.coefficient)[..., None, :],
    )
    if not shift:
        return tile.hide(logits.exp2_(), 0).mul_(torch.add(of_row, of_key, out=scratch))
    torch.sub(logits, tile.of_rows(by_row.offset)[..., None], out=scratch).exp2_().mul_(of_row)
    logits.sub_(tile.of_keys(by_key.offset)[..., None, :]).exp2_().mul_(of_key).add_(scratch)
    return tile.hide(logits, 0)


class OnlineSum:
    """Sum of 2^s over tiles that come one after the other, for logits of any size.

    ``total * 2^peak`` is the sum so far; with ``shift=False`` peak stays 0, which is exact for logits
    within :data:`UNSHIFTED`.

    Args:
        like: For dtype and device.
        shape: One sum each, ``(B, N)``.
        shift: Whether to keep the running maximum.
    """

    def __init__(self, like: Tensor, shape: torch.Size, *, shift: bool) -> None:
        self.total = like.new_zeros(shape)
        self.peak = like.new_full(shape, -torch.inf) if shift else None

    def absorb(self, tile: Tile, logits: Tensor, dim: int, out: Tensor) -> tuple[Tensor, Tensor]:
        """Add a tile of any logits.

        Args:
            tile: The tile.
            logits: Its logits, shape ``(problems, rows, keys)``, minus infinity where a key does not count.
            dim: The dimension that is summed: -1 for sums of rows, -2 for sums of keys.
            out: Where to put the terms 2^(s - peak), same shape as ``logits``; may be ``logits``.

        Returns:
            The terms, and the factor by which terms of earlier tiles have shrunk, shape ``(problems, n)``.
        """
        assert self.peak is not None
        old = tile.of_side(self.peak, dim)
        new = torch.maximum(old, logits.amax(dim))
        # Where nothing has been seen yet the peak is minus infinity; subtracting 0 keeps that.
        shift = torch.where(new == -torch.inf, 0, new)
        shrunk = torch.exp2(old - shift)
        old.copy_(new)
        tile.of_side(self.total, dim).mul_(shrunk)
        terms = torch.sub(logits, shift.unsqueeze(dim), out=out).exp2_()
        self.add(tile, terms, dim)
        return terms, shrunk

    def add(self, tile: Tile, terms: Tensor, dim: int) -> None:
        """Add a tile of terms 2^(s - peak).

        Args:
            tile: The tile.
            terms: Its terms, shape ``(problems, rows, keys)``.
            dim: The dimension that is summed: -1 for sums of rows, -2 for sums of keys.
        """
        tile.of_side(self.total, dim).add_(terms.sum(dim))

    def log2(self) -> Tensor:
        """Logarithm to base 2 of the sums, minus infinity for empty ones."""
        logs = self.total.log2()
        return logs if self.peak is None else logs + torch.where(self.peak == -torch.inf, 0, self.peak)


def unshifted(left: Tensor, right: Tensor, factor: float = 1.0) -> bool:
    """Whether no logit can be so large that its power of two leaves the floating point range.

    On a GPU the answer would have to be waited for, so there it is no.

    Args:
        left: Shape ``(B, N, d)``.
        right: Shape ``(B, M, d)``.
        factor: By which logits are multiplied at most.
    """
    if left.device.type != "cpu":
        return False
    longest: list[float] = [torch.linalg.vector_norm(x, dim=-1).amax().item() for x in (left, right)]
    return math.prod(longest) * LOG2E * factor <= UNSHIFTED[left.dtype] and max(longest) <= LONGEST
