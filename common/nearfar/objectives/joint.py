r"""Several log-sum-exps of the same rows and keys, and their gradient, each tile of logits computed once for all.

Term t counts keys by a rule of its own and multiplies the logits of row i by :math:`c^t_i`, as another temperature
does. With upstream gradients :math:`g^t_i` the gradient of a logit is the sum over the terms

.. math:: W_{ij} = \sum_t g^t_i \, c^t_i \, 2^{c^t_i s_{ij} - \mathrm{lse}^t_i},

so that the products with the operands, the larger part of the work, are those of one term. In self-contrast a tile
above the diagonal also serves, read by columns, the rows of the other side: half of the products, though a scale of the
rows' own takes an exponential for each side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from nearfar.objectives.denominator import Rule
from nearfar.objectives.tiles import LOG2E, Logits, OnlineSum, Schedule, Sweep, Tile, Upstream

ROWS, KEYS = -1, -2


@dataclass(frozen=True, eq=False)
class Selection:
    """What one term makes of the common logits.

    Attributes:
        rule: Which keys count, and their log-weights.
        scale: Factor of the logits: a number, or one a row, shape ``(B, N)``; it gets no gradient.
    """

    rule: Rule
    scale: float | Tensor = 1.0

    @property
    def largest_scale(self) -> float:
        """For operands on the CPU; elsewhere it would have to be waited for, and nobody asks."""
        if not isinstance(self.scale, Tensor):
            return self.scale
        return self.scale.max().item() if self.scale.device.type == "cpu" else 1.0

    def visited(self, shape: torch.Size, order: Tensor | None) -> Selection:
        """The same with one scale for every row of every problem, in the order in which rows are visited.

        Args:
            shape: B and N.
            order: Position of every row, shape ``(N,)``.
        """
        if not isinstance(self.scale, Tensor):
            return self
        scale = self.scale.expand(shape)
        return replace(self, scale=scale if order is None else scale[:, order])

    def operands(self, a: Tensor, k: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Operands whose dot products are the logits of this term alone.

        Args:
            a: Left operand, shape ``(B, N, d)``.
            k: Right operand, shape ``(B, M, d)``; ``None`` where it is ``a`` itself.
        """
        if not isinstance(self.scale, Tensor):
            return (a, k) if self.scale == 1 else (a * self.scale, a if k is None else k)
        return a * self.scale[..., None], a if k is None else k

    def part(self, tile: Tile) -> Tile:
        """The tile with the keys that count here.

        Args:
            tile: The tile.
        """
        return Tile(tile.block, self.rule.keep(tile.block))

    def passes(self, tile: Tile, sides: tuple[int, ...], *, shift: bool) -> list[tuple[int, ...]]:
        """The sides of a tile in groups that have the same exponentials; none where no key counts.

        Args:
            tile: The tile.
            sides: Dimensions that are summed.
            shift: Whether the exponentials are relative to a maximum of each side.
        """
        if tile.keep is False:
            return []
        return [sides] if not shift and not isinstance(self.scale, Tensor) else [(side,) for side in sides]

    def scaled(self, tile: Tile, logits: Tensor, side: int, out: Tensor) -> Tensor:
        """Logits of this term; the given ones where that is the same, else ``out``.

        Args:
            tile: The tile.
            logits: The common logits, shape ``(problems, rows, keys)``.
            side: Whose scale: that of the rows for sums over the last dimension, or of the keys.
            out: Buffer, same shape as ``logits``.
        """
        result = logits
        if isinstance(self.scale, Tensor):
            result = torch.mul(logits, tile.of_side(self.scale, side).unsqueeze(side), out=out)
        elif self.scale != 1.0:
            result = torch.mul(logits, self.scale, out=out)
        if (weight := self.rule.log_weight(tile.block)) is not None:
            result = torch.add(result, weight.to(logits), alpha=LOG2E, out=out)
        return result


@dataclass(frozen=True, eq=False)
class Joint:
    """One comparison for several selections.

    Attributes:
        sweep: How to go through the tiles; its rule keeps all keys.
        selections: What to sum, with scales of rows in the order in which they are visited.
        schedule: Tiles to visit.
        half: Whether rows are compared with themselves, and the schedule holds each pair of blocks once.
        answers: What the rules said about the first tile, by its place, kept for the second visit: in small batches
            there is no other tile.
    """

    sweep: Sweep
    selections: tuple[Selection, ...]
    schedule: Schedule
    half: bool
    answers: dict[tuple[object, ...], list[Tile]] = field(default_factory=dict)

    def forward(self, a: Tensor, k: Tensor) -> list[OnlineSum]:
        """Sums of 2^s of every row, one a selection.

        Args:
            a: Rows, shape ``(B, N, d)``.
            k: Keys, shape ``(B, M, d)``.
        """
        sums = [OnlineSum(a, a.shape[:2], shift=self.sweep.shift) for _ in self.selections]
        for tile, logits, scratch, _ in self._tiles(a, k):
            for selection, total, part in zip(self.selections, sums, self._parts(tile), strict=True):
                self._add(total, selection, part, logits, scratch)
        return sums

    def _add(
        self, total: OnlineSum, selection: Selection, part: Tile, logits: Tensor, scratch: Tensor
    ) -> None:
        sides = (ROWS, KEYS) if self.half and not part.on_diagonal else (ROWS,)
        for dims in selection.passes(part, sides, shift=self.sweep.shift):
            values = selection.scaled(part, logits, dims[0], out=scratch)
            if self.sweep.shift:
                values = part.hide(values if values is scratch else scratch.copy_(values), -torch.inf)
                total.absorb(part, values, dims[0], out=scratch)
                continue
            terms = part.drop(torch.exp2(values, out=scratch))
            for dim in dims:
                total.add(part, terms, dim)

    def backward(
        self, a: Tensor, k: Tensor, upstreams: Sequence[Upstream], *, to_keys: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Gradients with respect to rows and keys; where they are the same, the first is the whole.

        Args:
            a: Rows, shape ``(B, N, d)``.
            k: Keys, shape ``(B, M, d)``.
            upstreams: Of the sums of every selection.
            to_keys: Whether the gradient of the keys is wanted.
        """
        grad_a = torch.zeros_like(a)
        grad_k = grad_a if self.half else torch.zeros_like(k) if to_keys else None
        scaled = [u.times(s.scale) for u, s in zip(upstreams, self.selections, strict=True)]
        for tile, logits, scratch, weights in self._tiles(a, k):
            weights.zero_()
            for selection, upstream, part in zip(self.selections, scaled, self._parts(tile), strict=True):
                self._weigh(weights, selection, upstream, part, logits, scratch)
            tile.of_rows(grad_a).baddbmm_(weights, tile.of_keys(k))
            if grad_k is not None and not (self.half and tile.on_diagonal):
                tile.of_keys(grad_k).baddbmm_(weights.mT, tile.of_rows(a))
        return grad_a, None if self.half else grad_k

    def _weigh(
        self,
        weights: Tensor,
        selection: Selection,
        upstream: Upstream,
        part: Tile,
        logits: Tensor,
        scratch: Tensor,
    ) -> None:
        sides = (ROWS, KEYS) if self.half else (ROWS,)
        for dims in selection.passes(part, sides, shift=self.sweep.shift):
            values = selection.scaled(part, logits, dims[0], out=scratch)
            if self.sweep.shift:
                offset = part.of_side(upstream.offset, dims[0]).unsqueeze(dims[0])
                values = torch.sub(values, offset, out=scratch)
            terms = torch.exp2(values, out=scratch)
            terms = part.hide(terms, 0) if self.sweep.shift else part.drop(terms)
            for dim in dims:
                weights.addcmul_(terms, part.of_side(upstream.coefficient, dim).unsqueeze(dim))

    def _parts(self, tile: Tile) -> list[Tile]:
        """The tile as every selection sees it."""
        block = tile.block
        place = (block.rows, block.keys, block.problems and block.problems.start)
        if place in self.answers:
            return self.answers[place]
        parts = [selection.part(tile) for selection in self.selections]
        if not self.answers:
            self.answers[place] = parts
        return parts

    def _tiles(self, a: Tensor, k: Tensor) -> Iterator[tuple[Tile, Tensor, Tensor, Tensor]]:
        """Every tile with its logits, to base 2, and two buffers of their shape."""
        logits_of = Logits(a, self.sweep, weighted=False)
        spare = torch.empty_like(logits_of.buffer)
        for tile in self.sweep.visit(a, self.schedule):
            logits = logits_of(tile, tile.of_rows(a), tile.of_keys(k))
            yield tile, logits, logits_of.scratch(logits.shape), spare[: logits.numel()].view(logits.shape)
