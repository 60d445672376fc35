"""No bound exceeds the minimum over all graphs within the budget, found by trying every one of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from nearfar.graph.budget import budget_sampler
from nearfar.graph.compactness import compactness_bound
from nearfar.graph.intervals import edge_interval
from nearfar.graph.pattern import row_pointer

Make = Callable[..., Any]


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_every_graph_within_the_budget(seed: int, directed: bool, small: Make) -> None:
    case = small(seed, density=0.3 if directed else 0.5, slope=(0.0, 0.25)[seed % 2])
    if directed and case.edge_index.shape[1] > 12:
        case = small(seed, 5, density=0.3, slope=0.25)
    graphs = list(case.graphs(directed=directed))
    scores = torch.stack([case.score(adjacency) for adjacency in graphs])
    minimum = scores.amin(0)
    found = {
        (mode, tight): compactness_bound(
            case.x, case.edge_index, mode=mode, directed=directed, tight=tight, **case.arguments
        )
        for mode in ("ibp", "certified")
        for tight in (False, True)
    }
    for bound in found.values():
        assert bool((bound <= minimum + 1e-9).all())
    for tight in (False, True):
        assert bool((found["ibp", tight] <= found["certified", tight] + 1e-12).all())
    # The relaxation bounds the score of each graph by itself.
    for adjacency, score in zip(graphs[:20], scores, strict=False):
        relaxed = compactness_bound(
            case.x,
            case.edge_index,
            mode="relaxed_at",
            directed=directed,
            view_edge_index=case.edges_of(adjacency),
            **case.arguments,
        )
        assert bool((relaxed <= score + 1e-9).all())


def test_element_wise_bounds_hold_for_every_graph(small: Make) -> None:
    case = small(3, density=0.4)
    for directed in (False, True):
        bounds = edge_interval(case.edge_index, 6, case.q, directed=directed, dtype=torch.float64)
        row, col = bounds.pattern.row, bounds.pattern.col
        seen = []
        for adjacency in case.graphs(directed=directed):
            full = adjacency + torch.eye(6, dtype=torch.float64)
            scale = full.sum(1).rsqrt()
            seen.append((scale[:, None] * full * scale)[row, col])
        assert bool((bounds.lower <= torch.stack(seen).amin(0) + 1e-12).all())
        assert bool((bounds.upper >= torch.stack(seen).amax(0) - 1e-12).all())


@pytest.mark.parametrize("norm", ["mean", "sum"])
def test_other_aggregations(norm: Any, small: Make) -> None:
    for seed in range(4):
        case = small(seed, 5, density=0.5, slope=0.1)
        scores = []
        for adjacency in case.graphs(directed=True):
            degree = adjacency.sum(1, keepdim=True).clamp(min=1)
            normalised = adjacency / degree if norm == "mean" else adjacency
            h = case.x
            for weight, bias in case.layers:
                h = normalised @ (h @ weight) + bias
                h = torch.where(h >= 0, h, case.slope * h)
            scores.append((h * case.w).sum(1))
        bound = compactness_bound(case.x, case.edge_index, norm=norm, **case.arguments)
        assert bool((bound <= torch.stack(scores).amin(0) + 1e-9).all())


def test_directed_graphs(small: Make) -> None:
    for seed in range(6):
        case = small(seed, 5, density=0.6)
        case = type(case)(
            case.x,
            case.edge_index[:, ::2],
            case.layers,
            0.25,
            case.w,
            torch.minimum(case.q, row_pointer(case.edge_index[1, ::2], 5).diff()),
        )
        minimum = torch.stack([case.score(a) for a in case.graphs(directed=True)]).amin(0)
        bound = compactness_bound(case.x, case.edge_index, **case.arguments)
        assert bool((bound <= minimum + 1e-9).all())


@pytest.mark.parametrize("mode", ["certified", "ibp", "relaxed_at", "sampled"])
def test_nothing_to_drop_is_the_score_itself(mode: Any, small: Make) -> None:
    case = small(1, slope=0.25)
    adjacency = next(case.graphs(directed=True)) * 0
    adjacency[case.edge_index[1], case.edge_index[0]] = 1
    arguments = {**case.arguments, "q": torch.zeros_like(case.q)}
    found = compactness_bound(case.x, case.edge_index, mode=mode, **arguments)
    assert torch.allclose(found, case.score(adjacency), atol=1e-12)


def test_interval_bounds_fall_with_the_budget(small: Make) -> None:
    case = small(2, 8, density=0.6)
    degree = row_pointer(case.edge_index[1], 8).diff()
    bounds = [
        compactness_bound(
            case.x, case.edge_index, mode="ibp", **{**case.arguments, "q": degree.clamp(max=most)}
        )
        for most in range(5)
    ]
    assert all(bool((b <= a + 1e-12).all()) for a, b in zip(bounds, bounds[1:], strict=False))


def test_sampled_graphs_of_a_larger_one(small: Make) -> None:
    case = small(5, 40, density=0.2, slope=0.25, dims=(6, 12, 8))
    bound = compactness_bound(case.x, case.edge_index, **case.arguments)
    rng = torch.Generator().manual_seed(0)
    for _ in range(50):
        edges, _ = budget_sampler(case.edge_index, case.q, rng, p=0.5)
        score = compactness_bound(
            case.x, case.edge_index, mode="sampled", view_edge_index=edges, **case.arguments
        )
        assert bool((bound <= score + 1e-9).all())


def test_hubs_have_looser_bounds_not_wrong_ones(small: Make) -> None:
    case = small(4, 12, density=0.6)
    full = compactness_bound(case.x, case.edge_index, **case.arguments)
    capped = compactness_bound(case.x, case.edge_index, hub=5, **case.arguments)
    assert bool((capped <= full + 1e-12).all())
    assert bool((capped < full - 1e-9).any())


def test_a_linear_network_is_exact_but_for_the_box(small: Make) -> None:
    case = small(6, 5, density=0.5, slope=1.0)
    bound = compactness_bound(case.x, case.edge_index, directed=False, **case.arguments)
    minimum = torch.stack([case.score(a) for a in case.graphs(directed=False)]).amin(0)
    assert bool((bound <= minimum + 1e-9).all())
    # No activation is relaxed: what is lost is only that the entries of two hops are not of one graph.
    loose = compactness_bound(case.x, case.edge_index, directed=False, mode="ibp", **case.arguments)
    assert float((minimum - bound).mean()) < 0.5 * float((minimum - loose).mean())
