"""Small graphs and encoders with everything the bounds have to get right."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from nearfar.graph.pattern import row_pointer


@dataclass(frozen=True)
class Small:
    """A graph, an encoder, contrast vectors and budgets, all float64.

    Attributes:
        x: Shape (n, d0).
        edge_index: Both directions of every edge, shape (2, E).
        layers: Weights and biases.
        slope: Of the activation.
        w: Shape (n, d2).
        q: Shape (n,).
    """

    x: Tensor
    edge_index: Tensor
    layers: list[tuple[Tensor, Tensor]]
    slope: float
    w: Tensor
    q: Tensor

    @property
    def arguments(self) -> dict[str, object]:
        """Keywords of ``compactness_bound``."""
        return {"layers": self.layers, "slope": self.slope, "w": self.w, "q": self.q}

    def score(self, adjacency: Tensor) -> Tensor:
        """The score by dense algebra; ``adjacency[i, j]`` says that i hears j."""
        normalised = dense_gcn(adjacency)
        h = self.x
        for weight, bias in self.layers:
            h = normalised @ (h @ weight) + bias
            h = torch.where(h >= 0, h, self.slope * h)
        return (h * self.w).sum(1)

    def graphs(self, *, directed: bool) -> Iterator[Tensor]:
        """Every adjacency within the budget."""
        n = len(self.x)
        arcs = self.edge_index.T.tolist()
        removable = arcs if directed else [arc for arc in arcs if arc[0] < arc[1]]
        for gone in itertools.product([False, True], repeat=len(removable)):
            adjacency, lost = torch.zeros(n, n, dtype=torch.float64), torch.zeros(n, dtype=torch.int64)
            for is_gone, (j, i) in zip(gone, removable, strict=True):
                ends = [(i, j)] if directed else [(i, j), (j, i)]
                for target, source in ends:
                    adjacency[target, source] = not is_gone
                    lost[target] += is_gone
            if bool((lost <= self.q).all()):
                yield adjacency

    def edges_of(self, adjacency: Tensor) -> Tensor:
        """As PyG stores them."""
        target, source = adjacency.nonzero().T
        return torch.stack([source, target])


def dense_gcn(adjacency: Tensor) -> Tensor:
    """GCN normalisation with self loops."""
    full = adjacency + torch.eye(len(adjacency), dtype=adjacency.dtype)
    scale = full.sum(1).rsqrt()
    return scale[:, None] * full * scale


def make_small(
    seed: int,
    n: int = 6,
    *,
    density: float = 0.5,
    slope: float = 0.0,
    most: int = 3,
    dims: tuple[int, ...] = (3, 5, 4),
) -> Small:
    """Random, undirected."""
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    pairs = [p for p in itertools.combinations(range(n), 2) if float(torch.rand(1, generator=rng)) < density]
    one_way = torch.tensor(pairs or [(0, 1)]).T
    edge_index = torch.cat([one_way, one_way.flip(0)], 1)
    degree = row_pointer(edge_index[1], n).diff()
    d0, d1, d2 = dims
    layers = [(normal(d0, d1), 0.2 * normal(d1)), (normal(d1, d2), 0.2 * normal(d2))]
    q = torch.minimum(torch.randint(0, most + 1, (n,), generator=rng), degree)
    return Small(normal(n, d0), edge_index, layers, slope, normal(n, d2), q)


@pytest.fixture
def small() -> Callable[..., Small]:
    return make_small
