"""What the compactness of some nodes is computed from: the graph around them, whatever the encoder's weights.

Made once per graph, budget and list of nodes; every step of training then asks it for the compactness under the
weights of that step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from nearfar.graph.bounds.certified import Relaxation, certified
from nearfar.graph.bounds.encoder import TwoLayers
from nearfar.graph.bounds.evaluation import embeddings, relaxed_at, score_at
from nearfar.graph.bounds.hops import HUB, Hops, View, two_hops
from nearfar.graph.bounds.surrogate import cut_out, surrogate
from nearfar.graph.intervals import IntervalAdjacency, normalised

Mode: TypeAlias = Literal["certified", "relaxed_at", "surrogate", "sampled", "ibp"]
MODES: tuple[Mode, ...] = get_args(Mode)
AT_ONE_GRAPH = ("relaxed_at", "sampled", "surrogate")


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What the compactness of some nodes is computed from, whatever the encoder's weights: made once.

    Attributes:
        mode: Of :func:`compactness_bound`.
        hops: Both layers; ``None`` for the surrogate.
        among: For the surrogate, bounds among the nodes themselves, and the original graph's values, shape ``(E',)``.
        entries: Which entries of the whole graph those of ``among`` are, shape ``(E',)``; ``None`` is all.
        nodes: Targets, shape ``(k,)``; ``None`` is all.
    """

    mode: Mode
    hops: Hops | None = None
    among: tuple[IntervalAdjacency, Tensor] | None = None
    entries: Tensor | None = None
    nodes: Tensor | None = None

    @classmethod
    def of(
        cls,
        intervals: IntervalAdjacency,
        mode: Mode,
        nodes: Tensor | None = None,
        *,
        cut: bool = True,
        hub: int = HUB,
        block_size: int | None = None,
    ) -> Surroundings:
        """Of some nodes of a graph.

        Args:
            intervals: Of the whole graph; not ``tight`` for the surrogate.
            mode: As of :func:`compactness_bound`.
            nodes: Targets, int64, shape ``(k,)``; ``None`` is all.
            cut: As of :func:`compactness_bound`.
            hub: As of :func:`compactness_bound`.
            block_size: As of :func:`compactness_bound`.
        """
        if mode != "surrogate":
            return cls(mode, two_hops(intervals, nodes, hub=hub, block_size=block_size), nodes=nodes)
        original = normalised(intervals, torch.ones_like(intervals.is_self), intervals.lower.dtype)
        if nodes is None or not cut:
            return cls(mode, among=(intervals, original), nodes=nodes)
        part, entries = cut_out(intervals, nodes)
        return cls(mode, among=(part, original[entries]), entries=entries, nodes=nodes)

    @property
    def takes_all_vectors(self) -> bool:
        """Whether :meth:`bound` wants the contrast vectors of all n nodes, not of its own only."""
        return self.among is not None and self.entries is None

    def on_its_own(self, sources: Tensor, values: Tensor) -> tuple[Surroundings, View | Tensor]:
        """The same without the rest of the graph: for a device that holds some of its nodes only.

        Args:
            sources: The nodes whose projected inputs will be given, ascending, shape ``(m,)``.
            values: An augmented graph, shape ``(E,)``.

        Returns:
            Surroundings, and of the augmented graph what their :meth:`bound` needs.
        """
        if self.hops is not None:
            assert self.hops.sources is not None
            places = torch.searchsorted(sources, self.hops.sources)
            return replace(self, hops=replace(self.hops, sources=places)), self.hops.view(values)
        assert self.entries is not None
        assert self.nodes is not None
        picked = values[self.entries]
        places, own = torch.searchsorted(sources, self.nodes), torch.arange(len(picked))
        return replace(self, nodes=places, entries=own), picked

    def to_dtype(self, dtype: torch.dtype) -> Surroundings:
        """The same in another precision."""
        if self.hops is not None:
            first, second = (one.to(dtype=dtype) for one in (self.hops.first, self.hops.second))
            return (
                self
                if first is self.hops.first
                else replace(self, hops=replace(self.hops, first=first, second=second))
            )
        assert self.among is not None
        intervals, original = self.among
        return replace(self, among=(intervals.to(dtype=dtype), original.to(dtype)))

    def bound(
        self,
        encoder: TwoLayers,
        y: Tensor,
        w: Tensor,
        values: Tensor | View | None = None,
        *,
        transpose: bool = True,
    ) -> Tensor:
        """Compactness of the nodes under an encoder.

        Args:
            encoder: Both layers.
            y: Projected inputs X W_1, shape ``(n, d1)``.
            w: Contrast vectors of the nodes, shape ``(k, d2)``; of all, ``(n, d2)``, if it :attr:`takes_all_vectors`.
            values: For modes that look at one graph, its normalised adjacency, shape ``(E,)``.
            transpose: As of :func:`compactness_bound`.

        Returns:
            Shape ``(k,)``, in the precision of the weights: autocast does not reach in here, as a bound rounded to
            eight bits is none.
        """
        dtype = encoder.weights[0].dtype
        with torch.autocast(y.device.type, enabled=False):
            return self._bound(encoder, y.to(dtype), w.to(dtype), values, transpose)

    def _bound(
        self, encoder: TwoLayers, y: Tensor, w: Tensor, values: Tensor | View | None, transpose: bool
    ) -> Tensor:
        if self.among is not None:
            return self._surrogate(encoder, y, w, values, transpose)
        assert self.hops is not None
        y = self.hops.inputs(y)
        if self.mode in AT_ONE_GRAPH:
            assert values is not None
            view = values if isinstance(values, View) else self.hops.view(values)
            if self.mode == "sampled":
                return score_at(self.hops, encoder, y, w, view)
            relaxation = Relaxation.of(self.hops, encoder, y, w, tighten=False)
            return relaxed_at(relaxation, encoder.biases[0], view)
        if self.mode == "ibp":
            return Relaxation.of(self.hops, encoder, y, w, tighten=False).top.ibp
        return certified(Relaxation.of(self.hops, encoder, y, w))

    def embeddings(self, encoder: TwoLayers, y: Tensor, values: Tensor) -> Tensor:
        """The encoder's output at the nodes, on one graph.

        Args:
            encoder: Both layers.
            y: Projected inputs X W_1, shape ``(n, d1)``.
            values: The graph's normalised adjacency, shape ``(E,)``.

        Returns:
            Shape ``(k, d2)``.
        """
        assert self.hops is not None
        return embeddings(self.hops, encoder, self.hops.inputs(y), self.hops.view(values))

    def _surrogate(
        self, encoder: TwoLayers, y: Tensor, w: Tensor, values: Tensor | View | None, transpose: bool
    ) -> Tensor:
        assert self.among is not None
        assert isinstance(values, Tensor)
        intervals, original = self.among
        if self.entries is not None:
            values, y = values[self.entries], y[self.nodes]
        scores = surrogate(intervals, encoder, y, w, original=original, sampled=values, transpose=transpose)
        return scores[self.nodes] if self.nodes is not None and self.entries is None else scores
