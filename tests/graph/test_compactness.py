"""Every fast form against a slow loop, gradients against differences, mini-batches against the whole."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, islice
from typing import Any

import pytest
import torch
from torch import Tensor

from nearfar.errors import ConfigError, DataError
from nearfar.graph.bounds.boxes import heard
from nearfar.graph.bounds.certified import Relaxation
from nearfar.graph.bounds.coupling import coupled_coefficients
from nearfar.graph.bounds.encoder import TwoLayers
from nearfar.graph.bounds.hops import two_hops
from nearfar.graph.bounds.relaxation import relax
from nearfar.graph.compactness import compactness_bound
from nearfar.graph.intervals import edge_interval
from nearfar.graph.pattern import Pattern, row_sums, sddmm, spmm
from nearfar.graph.surroundings import MODES
from nearfar.testing import LargestTensor

Make = Callable[..., Any]


def relaxation_of(case: Any, *, tighten: bool = True, **options: Any) -> Relaxation:
    bounds = edge_interval(case.edge_index, len(case.x), case.q, dtype=torch.float64)
    encoder = TwoLayers.of(case.layers, case.slope)
    return Relaxation.of(
        two_hops(bounds, **options), encoder, case.x @ case.layers[0][0], case.w, tighten=tighten
    )


def dense(bounds: Any, values: Tensor) -> Tensor:
    full = torch.zeros(bounds.pattern.num_rows, bounds.pattern.num_cols, dtype=values.dtype)
    full[bounds.pattern.row, bounds.pattern.col] = values
    return full


def test_path_terms_are_those_of_a_triple_loop(small: Make) -> None:
    case = small(7, 9, density=0.4, slope=0.25)
    found = relaxation_of(case, block_size=4)  # several chunks
    first, (_, s, t) = found.hops.first, found.hidden
    low, high, v, b1 = dense(first, first.lower), dense(first, first.upper), found.top.v, case.layers[0][1]
    terms = found.path_terms()
    for entry, (i, j) in enumerate(zip(first.pattern.row.tolist(), first.pattern.col.tolist(), strict=True)):
        expected = v[i] @ (s[j] * b1) - (-v[i]).relu() @ t[j]
        for k in range(9):
            q = (v[i] * s[j]) @ found.y[k]
            expected = expected + (low[j, k] * q if q >= 0 else high[j, k] * q)
        assert abs(terms[entry] - expected) < 1e-12


def test_messages_are_those_of_a_loop_over_edges(small: Make) -> None:
    case = small(8, 9, density=0.4, slope=0.25)
    found, plain = relaxation_of(case, block_size=4), relaxation_of(case, tighten=False)
    first, (_, s, t) = found.hops.first, found.hidden
    low, high, (w2, _), b1 = (
        dense(first, first.lower),
        dense(first, first.upper),
        case.layers[1],
        case.layers[0][1],
    )
    for j in range(9):
        down = (s[j] * b1) @ w2 - t[j] @ (-w2).relu()
        up = (s[j] * b1) @ w2 + t[j] @ w2.relu()
        for k in range(9):
            e = (s[j] * found.y[k]) @ w2
            down = down + torch.where(e >= 0, low[j, k] * e, high[j, k] * e)
            up = up + torch.where(e >= 0, high[j, k] * e, low[j, k] * e)
        assert torch.allclose(found.messages.low[j], torch.maximum(down, plain.messages.low[j]), atol=1e-12)
        assert torch.allclose(found.messages.high[j], torch.minimum(up, plain.messages.high[j]), atol=1e-12)


def test_coupled_minimum_is_that_of_trying_every_choice(small: Make) -> None:
    for directed in (False, True):
        case = small(9, 7, density=0.6)
        bounds = edge_interval(case.edge_index, 7, case.q, directed=directed, dtype=torch.float64)
        rng = torch.Generator().manual_seed(0)
        terms = torch.randn(len(bounds.col), generator=rng, dtype=torch.float64)
        found = row_sums(bounds.pattern, coupled_coefficients(bounds, terms) * terms)
        for i in range(7):
            entries = range(int(bounds.rowptr[i]), int(bounds.rowptr[i + 1]))
            candidates = [e for e in entries if bool(bounds.removable[e])]
            best = torch.inf
            for r in range(int(case.q[i]) + 1):
                for gone in combinations(candidates, r):
                    scale = float(bounds.degree[i] - r) ** -0.5
                    total = 0.0
                    for e in entries:
                        j, g = int(bounds.col[e]), float(terms[e])
                        if e in gone:
                            continue
                        if j == i:
                            total += scale * scale * g
                            continue
                        d = float(bounds.degree[j]) - (float(case.q[j]) if g < 0 else 0)
                        total += scale * d**-0.5 * g
                    best = min(best, total)
            assert abs(float(found[i]) - best) < 1e-12


def test_relaxation_at_a_graph_is_that_of_a_loop_over_targets(small: Make) -> None:
    case = small(10, 7, density=0.5, slope=0.25)
    found = relaxation_of(case, tighten=False)
    adjacency = next(islice(case.graphs(directed=True), 3, None))
    full = adjacency + torch.eye(7, dtype=torch.float64)
    scale = full.sum(1).rsqrt()
    a = scale[:, None] * full * scale
    (_, s1, t1), ((_, b1), (w2, b2)) = found.hidden, case.layers
    s2, t2 = relax(*_output(found, case), case.slope)
    for i in range(7):
        coefficients = s2[i] * case.w[i]
        expected = coefficients @ b2 - (-case.w[i]).relu() @ t2[i]
        for j in range(7):
            through = a[i, j] * (w2 @ coefficients)
            arriving = b1.clone()
            for k in range(7):
                arriving = arriving + a[j, k] * found.y[k]
            expected = expected + through @ (s1[j] * arriving) - (-through).relu() @ t1[j]
        relaxed = compactness_bound(
            case.x,
            case.edge_index,
            mode="relaxed_at",
            view_edge_index=case.edges_of(adjacency),
            **case.arguments,
        )
        assert abs(relaxed[i] - expected) < 1e-12


def _output(found: Relaxation, case: Any) -> tuple[Tensor, Tensor]:
    low, high = heard(found.hops.second, found.messages, case.layers[1][1])
    return low, high


@pytest.mark.parametrize("nodes", [None, [4, 1, 6]])
def test_surrogate_is_that_of_dense_matrices(nodes: list[int] | None, small: Make) -> None:
    case = small(11, 8, density=0.5, slope=0.25)
    adjacency = torch.zeros(8, 8, dtype=torch.float64)
    adjacency[case.edge_index[1], case.edge_index[0]] = 1
    rng = torch.Generator().manual_seed(0)
    kept = torch.rand(case.edge_index.shape[1], generator=rng) < 0.7
    view = case.edge_index[:, kept]
    sampled = torch.zeros(8, 8, dtype=torch.float64)
    sampled[view[1], view[0]] = 1
    eye = torch.eye(8, dtype=torch.float64)
    degree = (adjacency + eye).sum(1)
    low, high = eye / degree, (adjacency + eye) / ((degree - case.q)[:, None] * (degree - case.q)).sqrt()

    def normal(full: Tensor) -> Tensor:
        scale = (full + eye).sum(1).rsqrt()
        return scale[:, None] * (full + eye) * scale

    rows = torch.arange(8) if nodes is None else torch.tensor(nodes)
    low, high, original, drawn = (m[rows][:, rows] for m in (low, high, normal(adjacency), normal(sampled)))
    (w1, b1), (w2, b2) = case.layers
    y, w = (case.x @ w1)[rows], case.w[rows]

    def lines(m: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        middle, radius = (low + high) / 2 @ m + bias, (high - low) / 2 @ m.abs()
        return relax(middle - radius, middle + radius, case.slope)

    s1, t1 = lines(y, b1)
    h = original @ y + b1
    s2, t2 = lines(torch.where(h >= 0, h, case.slope * h) @ w2, b2)
    top = s2 * w
    v = top @ w2.T
    c2 = top @ b2 - ((-w).relu() * t2).sum(1)
    own = s1 * v
    c1 = own @ b1 - ((-v).relu() * t1).sum(1)
    expected = drawn.T @ (drawn.T @ (y * own).sum(1) + c1) + c2
    arguments = {**case.arguments, "w": w}
    found = compactness_bound(
        case.x,
        case.edge_index,
        mode="surrogate",
        view_edge_index=view,
        nodes=None if nodes is None else rows,
        **arguments,
    )
    assert torch.allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("nodes", [None, [5, 0, 3]])
def test_gradients(mode: Any, nodes: list[int] | None, small: Make) -> None:
    case = small(12, 7, density=0.5, slope=0.25)
    chosen = None if nodes is None else torch.tensor(nodes)
    w = case.w if chosen is None else case.w[chosen]
    (w1, b1), (w2, b2) = case.layers
    slope = torch.tensor(case.slope, dtype=torch.float64)
    inputs = [x.clone().requires_grad_() for x in (case.x, w1, b1, w2, b2, w, slope)]

    def function(x: Tensor, *p: Tensor) -> Tensor:
        return compactness_bound(
            x,
            case.edge_index,
            layers=[(p[0], p[1]), (p[2], p[3])],
            slope=p[5],
            w=p[4],
            q=case.q,
            mode=mode,
            nodes=chosen,
            block_size=3,
        )

    assert torch.autograd.gradcheck(function, inputs)


def test_products_are_each_others_gradient() -> None:
    rng = torch.Generator().manual_seed(0)
    row, col = torch.randint(5, (2, 9), generator=rng).unique(dim=1)
    pattern, order = Pattern.of(row, col, 5, 6)
    assert torch.equal(pattern.col, col[order])
    a, b = (torch.randn(n, 3, generator=rng, dtype=torch.float64, requires_grad=True) for n in (5, 6))
    values = torch.randn(len(pattern.col), generator=rng, dtype=torch.float64, requires_grad=True)
    full = torch.zeros(5, 6, dtype=torch.float64)
    full[pattern.row, pattern.col] = values.detach()
    assert torch.allclose(spmm(pattern, values, b), full @ b)
    assert torch.allclose(sddmm(pattern, a, b), (a @ b.T)[pattern.row, pattern.col])
    assert torch.autograd.gradcheck(lambda v, x: spmm(pattern, v, x), (values, b))
    assert torch.autograd.gradcheck(lambda x, y: sddmm(pattern, x, y), (a, b))


@pytest.mark.parametrize("mode", ["certified", "ibp", "relaxed_at", "sampled"])
def test_a_list_of_nodes_is_bounded_as_in_the_whole_graph(mode: Any, small: Make) -> None:
    case = small(13, 15, density=0.2, slope=0.25)
    nodes = torch.tensor([11, 2, 7])
    whole = compactness_bound(case.x, case.edge_index, mode=mode, **case.arguments)
    arguments = {**case.arguments, "w": case.w[nodes]}
    part = compactness_bound(case.x, case.edge_index, mode=mode, nodes=nodes, **arguments)
    assert torch.equal(part, whole[nodes]) or float((part - whole[nodes]).abs().max()) < 1e-13


@pytest.mark.parametrize("mode", MODES)
def test_numbering_the_nodes_differently_changes_nothing(mode: Any, small: Make) -> None:
    case = small(14, 9, density=0.4, slope=0.25)
    new = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    place = new.argsort()
    found = compactness_bound(case.x, case.edge_index, mode=mode, **case.arguments)
    moved = {**case.arguments, "w": case.w[new], "q": case.q[new]}
    again = compactness_bound(case.x[new], place[case.edge_index], mode=mode, **moved)
    assert torch.allclose(again, found[new], atol=1e-12)


def test_isolated_nodes_dead_units_and_constant_columns(small: Make) -> None:
    case = small(15, 6, density=0.4)
    lonely = torch.cat([case.x, torch.zeros(1, 3, dtype=torch.float64)])
    (w1, b1), (w2, b2) = case.layers
    w1, b1 = w1.clone(), b1.clone()
    w1[:, 0], b1[0] = 0, -1  # dead
    w1[:, 1], b1[1] = 0, 0  # always exactly at the kink
    w = torch.cat([case.w, case.w[:1]]).requires_grad_()
    w1.requires_grad_()
    q = torch.cat([case.q, case.q.new_zeros(1)])
    for mode in MODES:
        found = compactness_bound(
            lonely, case.edge_index, layers=[(w1, b1), (w2, b2)], slope=0.0, w=w, q=q, mode=mode
        )
        gradients = torch.autograd.grad(found.sum(), (w1, w))
        assert bool(found.isfinite().all())
        assert all(bool(g.isfinite().all()) for g in gradients)
    # Without edges nothing is uncertain.
    exact = compactness_bound(
        lonely, case.edge_index, layers=[(w1, b1), (w2, b2)], slope=0.0, w=w, q=q, mode="sampled"
    )
    bound = compactness_bound(lonely, case.edge_index, layers=[(w1, b1), (w2, b2)], slope=0.0, w=w, q=q)
    assert torch.allclose(bound[-1], exact[-1])


def test_sparse_features_and_half_precision(small: Make) -> None:
    case = small(16, 8, density=0.4)
    found = compactness_bound(case.x, case.edge_index, **case.arguments)
    for sparse in (case.x.to_sparse(), case.x.to_sparse_csr()):
        assert torch.allclose(compactness_bound(sparse, case.edge_index, **case.arguments), found)
    layers = [(w.bfloat16(), b.bfloat16()) for w, b in case.layers]
    arguments = {**case.arguments, "layers": layers}
    half = compactness_bound(case.x.bfloat16(), case.edge_index, **arguments)
    assert half.dtype == torch.float32


def test_no_tensor_grows_with_the_square_of_the_nodes() -> None:
    rng = torch.Generator().manual_seed(0)
    n, d = 20_000, 8
    one_way = torch.randint(n, (2, 3 * n), generator=rng)
    one_way = one_way[:, one_way[0] != one_way[1]]
    edges = torch.cat([one_way, one_way.flip(0)], 1).unique(dim=1)
    layers = [(torch.randn(d, 2 * d, generator=rng), None), (torch.randn(2 * d, d, generator=rng), None)]
    for weight, _ in layers:
        weight.requires_grad_()
    q = torch.ones(n, dtype=torch.int64).minimum(torch.bincount(edges[1], minlength=n))
    with LargestTensor() as seen:
        compactness_bound(
            torch.randn(n, d, generator=rng),
            edges,
            layers=layers,
            slope=0.0,
            w=torch.randn(n, d, generator=rng),
            q=q,
        ).sum().backward()
    assert seen.numbers < 3 * (edges.shape[1] + n * 2 * d)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "exact"}, "mode"),
        ({"slope": 1.5}, r"slopes in \[0, 1\], got 1.5"),
        ({"slope": -0.1}, "clamp the PReLU"),
        ({"layers": []}, "ego_bounds"),
        ({"w": torch.zeros(2, 2)}, "w: shape"),
        ({"q": torch.zeros(6)}, "q: whole numbers"),
        ({"q": torch.full((6,), 9)}, "its budget is 9"),
        ({"nodes": torch.tensor([0, 6])}, "nodes: at least one, from 0 to 5"),
        ({"nodes": torch.tensor([1, 1])}, "each node once"),
        ({"norm": "max"}, "norm"),
    ],
)
@pytest.mark.row("B01", bad_inputs=1)
def test_bad_arguments(change: dict[str, Any], message: str, small: Make) -> None:
    case = small(17)
    with pytest.raises((ConfigError, DataError), match=message):
        compactness_bound(case.x, case.edge_index, **{**case.arguments, **change})


def test_bad_graphs_and_features(small: Make) -> None:
    case = small(17)
    loop, twice = torch.tensor([[2], [2]]), case.edge_index[:, :1]
    for edges, message in (
        (torch.cat([case.edge_index, loop], 1), "self loop"),
        (torch.cat([case.edge_index, twice], 1), "duplicate"),
        (case.edge_index + 3, "edge"),
    ):
        with pytest.raises(DataError, match=message):
            compactness_bound(case.x, edges, **case.arguments)
    x = case.x.clone()
    x[3, 1] = torch.nan
    with pytest.raises(DataError, match="x"):
        compactness_bound(x, case.edge_index, **case.arguments)
    with pytest.raises(DataError, match="which edge_index has not"):
        compactness_bound(
            case.x,
            case.edge_index[:, 2:],
            mode="sampled",
            view_edge_index=case.edge_index,
            **{**case.arguments, "q": torch.zeros_like(case.q)},
        )
    with pytest.raises(DataError, match="to_undirected"):
        compactness_bound(
            case.x,
            case.edge_index[:, 1:],
            directed=False,
            **{**case.arguments, "q": torch.zeros_like(case.q)},
        )


def test_nothing_is_drawn_from_the_global_generator(small: Make) -> None:
    case = small(18)
    before = torch.get_rng_state()
    for mode in MODES:
        compactness_bound(case.x, case.edge_index, mode=mode, **case.arguments)
    assert torch.equal(torch.get_rng_state(), before)
