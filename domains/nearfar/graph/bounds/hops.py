"""The two message-passing layers of an encoder, as far as some target nodes can see.

A 2-layer encoder's output at the targets B needs the rows of its neighbours N[B] in the first layer and their
neighbours N[N[B]] below. Degrees and budgets stay those of the whole graph, so what is computed on the closure equals
the rows of the whole: the mini-batch is exact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nearfar.graph.intervals import IntervalAdjacency
from nearfar.graph.pattern import row_blocks

# Edges worked on at a time, numbers of a block of paths: fit a CPU's cache, keep a GPU busy.
_ENTRIES = {"cpu": 2**11, "cuda": 2**18}
_NUMBERS = {"cpu": 2**19, "cuda": 2**26}
HUB = 1024


@dataclass(frozen=True, eq=False)
class Hops:
    """What the bounds of some targets are computed from.

    Attributes:
        first: From the inputs, m0 nodes, to the hidden layer, m1 nodes.
        second: From the hidden layer to the n targets.
        blocks: Of rows of ``first``, as :func:`nearfar.graph.pattern.row_blocks` gives them.
        order: Hidden nodes by the size of their neighbourhoods, hubs left out, int64, shape ``(k,)``.
        chunks: Parts of ``order``: begin, end, most sources, most targets of a node in it.
        is_hub: Hidden nodes that are left out, bool, shape ``(m1,)``.
        sources: Nodes of the whole graph that ``first`` hears, shape ``(m0,)``; ``None`` is all.
        entries: Which entries of the whole graph those of ``first`` and ``second`` are, shape ``(E1,)`` and ``(E2,)``;
            ``None`` is all.
    """

    first: IntervalAdjacency
    second: IntervalAdjacency
    blocks: tuple[tuple[int, int, int, int], ...]
    order: Tensor
    chunks: tuple[tuple[int, int, int, int], ...]
    is_hub: Tensor
    sources: Tensor | None = None
    entries: tuple[Tensor, Tensor] | None = None

    def inputs(self, values: Tensor) -> Tensor:
        """The rows that are needed of something all nodes have.

        Args:
            values: Shape ``(N, d)``.

        Returns:
            Shape ``(m0, d)``.
        """
        return values if self.sources is None else values[self.sources]

    def view(self, values: Tensor) -> View:
        """An augmented graph, as far as the targets can see.

        Args:
            values: Its normalised adjacency at the entries of the whole graph, shape ``(E,)``.
        """
        if self.entries is None:
            return View(values, values)
        return View(values[self.entries[0]], values[self.entries[1]])


@dataclass(frozen=True)
class View:
    """Normalised adjacency of an augmented graph at the entries of :class:`Hops`.

    Attributes:
        first: Shape ``(E1,)``.
        second: Shape ``(E2,)``.
    """

    first: Tensor
    second: Tensor


def two_hops(
    intervals: IntervalAdjacency,
    nodes: Tensor | None = None,
    *,
    hub: int = HUB,
    block_size: int | None = None,
) -> Hops:
    """Both layers of the whole graph, or of some of its nodes.

    Args:
        intervals: Of the whole graph, n nodes.
        nodes: Targets, int64, shape ``(k,)``; ``None`` is all.
        hub: Nodes with more neighbours take part in no products of paths; their bounds are looser, not wrong.
        block_size: Edges worked on at a time; by default what suits the device.
    """
    if nodes is None:
        return _planned(intervals, intervals, hub, block_size)
    second, hidden, second_entries = intervals.rows(nodes)
    first, sources, first_entries = intervals.rows(hidden)
    hops = _planned(first, second, hub, block_size)
    return replace(hops, sources=sources, entries=(first_entries, second_entries))


def _planned(first: IntervalAdjacency, second: IntervalAdjacency, hub: int, block_size: int | None) -> Hops:
    """Both layers with the order in which their paths are visited."""
    kind = first.lower.device.type
    entries = block_size or _ENTRIES.get(kind, _ENTRIES["cuda"])
    numbers = _NUMBERS.get(kind, _NUMBERS["cuda"]) * entries // _ENTRIES.get(kind, _ENTRIES["cuda"])
    ins, outs = first.pattern.counts, second.pattern.transposed.counts
    largest = torch.maximum(ins, outs)
    is_hub = largest > hub
    # Those that no target hears from have nothing to contribute.
    order = largest.argsort(descending=True, stable=True)
    order = order[(~is_hub & (outs > 0))[order]]
    return Hops(
        first,
        second,
        row_blocks(first.pattern, entries),
        order,
        _chunks(ins[order].tolist(), outs[order].tolist(), numbers),
        is_hub,
    )


def _chunks(ins: list[int], outs: list[int], numbers: int) -> tuple[tuple[int, int, int, int], ...]:
    """Consecutive nodes, as many as fit into a block when all are padded to the largest."""
    chunks, begin = [], 0
    while begin < len(ins):
        end, wide, high = begin, 0, 0
        while end < len(ins):
            w, h = max(wide, ins[end]), max(high, outs[end])
            if end > begin and (end + 1 - begin) * (w * h + 256 * (w + h)) > numbers:
                break
            wide, high, end = w, h, end + 1
        chunks.append((begin, end, wide, high))
        begin = end
    return tuple(chunks)
