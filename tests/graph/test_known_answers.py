"""Known answers of every bound on four nodes, worked out by an independent dense program in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nearfar.graph.bounds.boxes import activated, heard_points
from nearfar.graph.bounds.certified import Relaxation
from nearfar.graph.bounds.encoder import TwoLayers
from nearfar.graph.bounds.hops import two_hops
from nearfar.graph.bounds.tightening import relaxed_messages
from nearfar.graph.compactness import compactness_bound, contrast_vectors
from nearfar.graph.intervals import edge_interval, kept_entries, normalised
from nearfar.graph.pattern import sddmm
from nearfar.graph.surroundings import Surroundings


def t(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def both_ways(pairs: list[tuple[int, int]]) -> Tensor:
    one_way = torch.tensor(pairs).T
    return torch.cat([one_way, one_way.flip(0)], 1)


SLOPE = 0.25
EDGES = both_ways([(0, 1), (1, 2), (2, 3), (0, 2)])
VIEW = both_ways([(0, 1), (2, 3), (0, 2)])
X = t([[1, 0], [0, 1], [1, 1], [0.5, -0.5]])
W1, B1 = t([[1, -1, 0.5], [0.5, 1, -1]]), t([0.1, -0.1, 0])
W2, B2 = t([[1, -0.5], [-0.5, 1], [0.25, 0.75]]), t([0.05, -0.05])
W = t([[1, -0.5], [-0.3, 0.8], [0.2, -0.6], [-0.7, 0.4]])
Q = torch.tensor([1, 1, 2, 0])
MINIMUM = {
    False: t([0.9652343750, -0.4501237200, 0.3153125000, -0.8512500000]),
    True: t([0.8401992508, -0.6875975628, 0.2314378041, -0.9856250000]),
}


def bound(mode: str, **more: object) -> Tensor:
    arguments = {"layers": [(W1, B1), (W2, B2)], "slope": SLOPE, "w": W, "q": Q, "mode": mode, **more}
    return compactness_bound(X, EDGES, **arguments)  # type: ignore[arg-type]


def close(found: Tensor, expected: object) -> bool:
    return bool((found - t(expected)).abs().max() < 1e-8)


@pytest.fixture
def relaxation() -> Relaxation:
    hops = two_hops(edge_interval(EDGES, 4, Q, tight=False, dtype=torch.float64))
    return Relaxation.of(hops, TwoLayers.of([(W1, B1), (W2, B2)], SLOPE), X @ W1, W, tighten=False)


def test_element_wise_bounds() -> None:
    bounds = edge_interval(EDGES, 4, Q, tight=False, dtype=torch.float64)
    assert close(bounds.upper, [0.5] * 12)
    assert close(bounds.lower[bounds.is_self], [1 / 3, 1 / 3, 1 / 4, 1 / 2])
    assert not bounds.lower[~bounds.is_self].any()


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("sampled", [1.2062808418, -0.3695514664, 0.3354408382, -0.7644843636]),
        ("surrogate", [0.6126307484, 0.4955467381, 0.3375887223, 0.0717123236]),
        ("relaxed_at", [1.0709730906, -0.4323017243, 0.2226322082, -0.8286520911]),
    ],
)
def test_modes_that_look_at_one_graph(mode: str, expected: list[float]) -> None:
    assert close(bound(mode, view_edge_index=VIEW, tight=False), expected)


def test_interval_bound() -> None:
    assert close(bound("ibp", tight=False), [-0.0103298611, -1.1624479167, -0.2020312500, -1.2270312500])


def test_boxes_of_the_hidden_layer_and_of_messages(relaxation: Relaxation) -> None:
    box = heard_points(relaxation.hops.first, X @ W1, B1).box()
    assert close(box.low[0], [0.4333333333, -0.6, -0.5833333333])
    assert close(box.high[3], [0.975, -0.6, 0.375])
    tighter = relaxed_messages(
        relaxation.hops.first, relaxation.hops.blocks, relaxation.y, relaxation.hidden, W2
    ).box()
    assert close(
        tighter.low,
        [[0.5010416667, -1.010625], [0.1041666667, -1.0075], [0.3703125, -1.1840625], [0.39375, -0.54375]],
    )
    assert close(
        tighter.high,
        [[1.5896875, -0.1546875], [1.60375, 0.13125], [1.8990625, 0.0546875], [1.08125, 0.01875]],
    )


def test_bounds_from_hidden_boxes_alone(relaxation: Relaxation) -> None:
    pattern, v = relaxation.hops.second.pattern, relaxation.top.v
    low, high = activated(heard_points(relaxation.hops.first, X @ W1, B1).box(), SLOPE)
    terms = sddmm(pattern, v.relu(), low) - sddmm(pattern, (-v).relu(), high)
    free = [0.0826145968, -1.2954695045, -0.1610814513, -1.2269480946]
    coupled = [0.1476516108, -1.0046636444, -0.1610814513, -1.2269480946]
    assert close(relaxation.from_terms(terms, coupled=False), free)
    assert close(relaxation.from_terms(terms), coupled)


def test_bound_from_paths_alone(relaxation: Relaxation) -> None:
    expected = [0.1301471911, -1.2659962772, -0.1044754974, -1.2088068742]
    assert close(relaxation.from_terms(relaxation.path_terms(), coupled=False), expected)


@pytest.mark.parametrize("directed", [False, True])
def test_certified_lies_between_intervals_and_the_minimum(directed: bool) -> None:
    found = bound("certified", directed=directed)
    assert bool((found <= MINIMUM[directed] + 1e-9).all())
    assert bool((found >= bound("ibp", directed=directed) - 1e-12).all())


def test_contrast_vectors() -> None:
    bounds = edge_interval(EDGES, 4, Q, dtype=torch.float64)
    values = normalised(bounds, kept_entries(bounds, EDGES), torch.float64)
    encoder = TwoLayers.of([(W1, B1), (W2, B2)], SLOPE)
    z = Surroundings.of(bounds, "sampled").embeddings(encoder, X @ W1, values)
    found = contrast_vectors(z)
    assert close(found[0], [-0.0013514586, -0.0094479961])
    assert close(found[2], [0.0006270074, 0.0041336569])
    assert close(found[3], [0.0020759097, 0.0147623352])
    assert torch.equal(contrast_vectors(z[:1]), z[:1] / z[:1].norm())
