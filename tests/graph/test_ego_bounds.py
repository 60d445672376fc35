"""auto_LiRPA on ego graphs: against all graphs there are, evaluated by PyG's own modules, and against other bounds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nearfar.errors import ConfigError, DataError
from nearfar.graph.compactness import compactness_bound
from nearfar.graph.ego import bounds
from nearfar.graph.ego.bounds import Method, ego_bounds
from nearfar.graph.ego.dense import EgoNetwork
from nearfar.graph.ego.subgraph import EgoNodes
from nearfar.graph.intervals import Norm, edge_interval
from nearfar.graph.layers import Activation, Dense, MessageLayer, check_layers, describe
from nearfar.interop.auto_lirpa import bounded
from nearfar.optional import PACKAGES, installed

pyg = pytest.importorskip("torch_geometric.nn", reason=f"PyG: {PACKAGES['torch_geometric'].command}")
needs_lirpa = pytest.mark.skipif(
    not installed("auto_LiRPA"), reason=f"needs auto_LiRPA: {PACKAGES['auto_LiRPA'].command}"
)
pytestmark = [pytest.mark.interop]

PAIRS = torch.tensor([[0, 0, 1, 2, 3, 1], [1, 2, 2, 3, 4, 3]])  # and node 5 by itself
EDGES = torch.cat([PAIRS, PAIRS.flip(0)], 1)
Q = torch.tensor([1, 1, 2, 1, 0, 0])
NODES = torch.arange(6)
WIDTH = 3


class Plain(nn.Module):
    """What a user may write: one activation after every layer."""

    def __init__(self, first: nn.Module, second: nn.Module, activation: object) -> None:
        super().__init__()
        self.convs, self.activation = nn.ModuleList([first, second]), activation

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """As most encoders do, shape ``(n, d)``."""
        for conv in self.convs:
            x = self.activation(conv(x, edge_index))  # type: ignore[operator]
        return x


def gin(d_in: int, d_out: int) -> nn.Module:
    mlp = nn.Sequential(nn.Linear(d_in, 4), nn.LeakyReLU(0.1), nn.Linear(4, d_out, bias=False))
    return pyg.GINConv(mlp, eps=0.3, train_eps=True)  # type: ignore[no-any-return]


ENCODERS: dict[str, Callable[[], nn.Module]] = {
    "gcn-relu": lambda: pyg.models.GCN(3, 4, 2, WIDTH),
    "gcn-leaky": lambda: Plain(pyg.GCNConv(3, 4), pyg.GCNConv(4, WIDTH), nn.LeakyReLU(0.25)),
    "gcn-prelu": lambda: Plain(pyg.GCNConv(3, 4), pyg.GCNConv(4, WIDTH, bias=False), nn.PReLU()),
    "sage-mean-relu": lambda: pyg.models.GraphSAGE(3, 4, 2, WIDTH),
    "sage-mean-elu": lambda: Plain(pyg.SAGEConv(3, 4), pyg.SAGEConv(4, WIDTH), nn.ELU(0.7)),
    "sage-sum-leaky": lambda: Plain(
        pyg.SAGEConv(3, 4, aggr="sum", root_weight=False),
        pyg.SAGEConv(4, WIDTH, aggr="sum"),
        nn.LeakyReLU(0.5),
    ),
    "gin-relu": lambda: pyg.models.GIN(3, 4, 2, WIDTH),
    "gin-leaky": lambda: Plain(gin(3, 4), gin(4, WIDTH), torch.relu),
    "gcn-tanh": lambda: Plain(pyg.GCNConv(3, 4), pyg.GCNConv(4, WIDTH), nn.Tanh()),
    "gin-sigmoid": lambda: Plain(gin(3, 4), gin(4, WIDTH), torch.sigmoid),
}
SMOOTH = ("tanh", "sigmoid")  # auto_LiRPA tabulates tangents for half a second per activation


def encoder(name: str, seed: int = 0) -> nn.Module:
    """With random weights, float64, in ``eval`` mode."""
    draw = torch.Generator().manual_seed(seed)
    module = ENCODERS[name]().double().eval()
    for parameter in module.parameters():
        if parameter.numel() > 1:  # not slopes and eps
            parameter.data = torch.randn(parameter.shape, generator=draw, dtype=torch.float64) * 0.6
    return module


def inputs(seed: int = 0, num_nodes: int = 6) -> tuple[Tensor, Tensor]:
    """Features and contrast vectors, shape ``(n, 3)``."""
    draw = torch.Generator().manual_seed(100 + seed)
    x, w = torch.randn(2, num_nodes, 3, generator=draw, dtype=torch.float64)
    return x, w


def subsets(things: list[int], most: int) -> list[tuple[int, ...]]:
    return [chosen for size in range(most + 1) for chosen in itertools.combinations(things, size)]


def augmented(directed: bool) -> Iterator[Tensor]:
    """Every graph that loses at most ``Q[i]`` edges at node i."""
    if directed:
        into = [torch.nonzero(EDGES[1] == node)[:, 0].tolist() for node in range(6)]
        for parts in itertools.product(*(subsets(into[node], int(Q[node])) for node in range(6))):
            yield without(sorted(itertools.chain(*parts)))
        return
    for gone in subsets(list(range(6)), 6):
        if bool((torch.bincount(PAIRS[:, list(gone)].flatten(), minlength=6) <= Q).all()):
            yield without([*gone, *(6 + pair for pair in gone)])


def without(gone: list[int]) -> Tensor:
    kept = torch.ones(12, dtype=torch.bool)
    kept[gone] = False
    return EDGES[:, kept]


def smallest(module: nn.Module, x: Tensor, w: Tensor, directed: bool) -> Tensor:
    """Least score of every node over all graphs, each a component of one large graph."""
    graphs = list(augmented(directed))
    joint = torch.cat([graph + 6 * number for number, graph in enumerate(graphs)], 1)
    with torch.no_grad():
        z = module(x.repeat(len(graphs), 1), joint).view(len(graphs), 6, WIDTH)
    scores: Tensor = (z * w).sum(2)
    return scores.amin(0)


def bound(
    name: str, method: Method = "CROWN", nodes: tuple[int, ...] = tuple(range(6)), directed: bool = True
) -> Tensor:
    return _bound(name, method, nodes, directed)


@cache
def _bound(name: str, method: Method, nodes: tuple[int, ...], directed: bool) -> Tensor:
    x, w = inputs()
    chosen = torch.tensor(nodes)
    return ego_bounds(encoder(name), x, EDGES, chosen, w=w[chosen], q=Q, method=method, directed=directed)


def dense_box(norm: Norm, directed: bool, tight: bool) -> tuple[Tensor, Tensor]:
    """Bounds of every entry of the normalised adjacency, written down entry by entry."""
    degree = torch.bincount(EDGES[1], minlength=6)
    low, high = torch.zeros(2, 6, 6, dtype=torch.float64)
    for source, target in EDGES.T.tolist():
        d, q = float(degree[target]), float(Q[target])
        stays = tight and (q == 0 if directed else min(q, float(Q[source])) == 0)
        if norm == "gcn":
            high[target, source] = ((d + 1 - q) * float(degree[source] + 1 - Q[source])) ** -0.5
            low[target, source] = stays * ((d + 1) * float(degree[source] + 1)) ** -0.5
        else:
            high[target, source] = 1 / max(d - q, 1) if norm == "mean" else 1
            low[target, source] = stays * (1 / d if norm == "mean" else 1)
    if norm == "gcn":
        low += torch.diag(1 / (degree + 1.0))
        high += torch.diag(1 / (degree + 1.0 - Q))
    return low, high


@pytest.mark.parametrize("directed", [True, False])
@pytest.mark.parametrize("tight", [True, False])
@pytest.mark.parametrize("norm", ["gcn", "mean", "sum"])
def test_the_box_of_an_ego_graph_is_a_part_of_the_dense_one(norm: Norm, directed: bool, tight: bool) -> None:
    intervals = edge_interval(EDGES, 6, Q, norm, directed=directed, tight=tight, dtype=torch.float64)
    low, high = dense_box(norm, directed, tight)
    for node, within_one, within_two in [
        (0, {0, 1, 2}, {0, 1, 2, 3}),
        (4, {3, 4}, {1, 2, 3, 4}),
        (5, {5}, {5}),
    ]:
        ego = EgoNodes.of(intervals, node)
        hidden = ego.nodes[: ego.num_hidden]
        assert ego.nodes[0] == node
        assert set(hidden.tolist()) == within_one
        assert sorted(ego.nodes.tolist()) == sorted(within_two)
        for values, expected in [(intervals.lower, low), (intervals.upper, high)]:
            torch.testing.assert_close(ego.dense(intervals, values), expected[hidden][:, ego.nodes])


@pytest.mark.parametrize("name", ENCODERS)
def test_the_network_is_the_encoder(name: str) -> None:
    module, (x, w) = encoder(name), inputs()
    layers = describe(module)
    gone = [0, 3, 7]
    rest = edge_interval(without(gone), 6, torch.zeros_like(Q), layers[0].kind, dtype=torch.float64)
    z = module(x, without(gone))
    for node in range(6):
        ego = EgoNodes.of(rest, node)
        network = EgoNetwork(layers, x[ego.nodes], ego.num_hidden, w[node])
        adjacency = ego.dense(rest, rest.lower)[None]
        torch.testing.assert_close(network.embed(adjacency)[0, 0], z[node])
        torch.testing.assert_close(network(adjacency)[0, 0], z[node] @ w[node])


@needs_lirpa
@pytest.mark.parametrize("directed", [True, False], ids=["directed", "undirected"])
@pytest.mark.parametrize("name", ENCODERS)
def test_no_graph_scores_less_than_the_bound(name: str, directed: bool) -> None:
    module, (x, w) = encoder(name), inputs()
    least = smallest(module, x, w, directed)
    slow = name.endswith(SMOOTH)
    nodes = (2,) if slow else tuple(range(6)) if directed else (0, 2)
    methods: tuple[Method, ...] = ("CROWN",) if slow else ("CROWN", "IBP")
    for method in methods:
        assert (bound(name, method, nodes=nodes, directed=directed) <= least[list(nodes)] + 1e-9).all(), (
            method
        )


@needs_lirpa
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 4))
@pytest.mark.parametrize("name", ENCODERS)
def test_no_graph_scores_less_than_the_bound_with_other_weights(name: str, seed: int) -> None:
    module, (x, w) = encoder(name, seed), inputs(seed)
    methods: tuple[Method, ...] = (
        ("IBP", "CROWN") if name.endswith(SMOOTH) else ("IBP", "CROWN", "CROWN-Optimized")
    )
    for directed in (True, False):
        least = smallest(module, x, w, directed)
        for method in methods:
            found = ego_bounds(module, x, EDGES, NODES, w=w, q=Q, method=method, directed=directed)
            assert (found <= least + 1e-9).all(), method


@needs_lirpa
@pytest.mark.parametrize("name", ["gcn-relu", "gin-leaky"])
def test_optimised_slopes_are_between_crown_and_the_truth(name: str) -> None:
    module, (x, w) = encoder(name), inputs()
    best, crown = bound(name, "CROWN-Optimized", nodes=(2,)), bound(name)[2]
    assert (best >= crown - 1e-6).all()
    assert (best <= smallest(module, x, w, directed=True)[2] + 1e-9).all()


@needs_lirpa
def test_where_slopes_cannot_be_optimised_crown_is_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    module, (x, w), node = encoder("gin-relu", 5), inputs(5), torch.tensor([3])
    used = []

    def recorded(*args: Any, method: str) -> Any:
        used.append(method)
        return bounded(*args, method=method)

    monkeypatch.setattr(bounds, "bounded", recorded)
    found = ego_bounds(module, x, EDGES, node, w=w[node], q=Q, method="CROWN-Optimized", directed=False)
    assert used == ["CROWN-Optimized", "CROWN"]  # KeyError in auto_LiRPA 0.3
    assert torch.equal(found, ego_bounds(module, x, EDGES, node, w=w[node], q=Q, directed=False))


@needs_lirpa
@pytest.mark.parametrize("name", [name for name in ENCODERS if not name.endswith(SMOOTH)])
def test_without_a_budget_the_bound_is_the_score(name: str) -> None:
    module, (x, w) = encoder(name), inputs()
    nodes = torch.tensor([1, 2, 5])
    score = (module(x, EDGES) * w).sum(1)[nodes].detach()
    for method in ("IBP", "CROWN"):
        found = ego_bounds(module, x, EDGES, nodes, w=w[nodes], q=torch.zeros_like(Q), method=method)
        torch.testing.assert_close(found, score, rtol=1e-6, atol=1e-6)


@needs_lirpa
def test_without_a_budget_the_bound_is_the_score_of_tanh() -> None:
    module, (x, w) = encoder("gcn-tanh"), inputs()
    score = (module(x, EDGES) * w).sum(1)
    found = ego_bounds(module, x, EDGES, NODES[:1], w=w[:1], q=torch.zeros_like(Q))
    torch.testing.assert_close(found, score[:1].detach(), rtol=1e-6, atol=1e-6)


@needs_lirpa
@pytest.mark.parametrize("directed", [True, False])
@pytest.mark.parametrize(
    ("name", "slope"), [("gcn-relu", (0.0, 1.0)), ("gcn-leaky", 0.25), ("gcn-prelu", 0.25)]
)
def test_interval_arithmetic_is_that_of_the_closed_form(name: str, slope: float, directed: bool) -> None:
    module, (x, w) = encoder(name), inputs()
    layers = [(layer.weight, layer.bias) for layer in describe(module)]
    closed = compactness_bound(x, EDGES, layers=layers, slope=slope, w=w, q=Q, mode="ibp", directed=directed)
    torch.testing.assert_close(bound(name, "IBP", directed=directed), closed, rtol=1e-10, atol=1e-10)


@needs_lirpa
def test_crown_is_tighter_than_intervals_on_the_whole() -> None:
    names = [name for name in ENCODERS if not name.endswith(SMOOTH)]
    tighter = torch.cat([bound(name, "CROWN") - bound(name, "IBP") for name in names])
    assert tighter.mean() > 0
    assert (tighter > -1e-9).double().mean() > 0.6


@needs_lirpa
@pytest.mark.parametrize("name", ["gcn-relu", "gin-relu", "sage-mean-elu"])
def test_numbering_does_not_matter(name: str) -> None:
    module, (x, w) = encoder(name), inputs()
    order = torch.tensor([3, 5, 0, 2, 4, 1])
    place = order.argsort()
    edges = place[EDGES].flip(1)
    found = ego_bounds(module, x[order], edges, NODES, w=w[order], q=Q[order])
    torch.testing.assert_close(found, bound(name)[order], rtol=1e-9, atol=1e-9)


@needs_lirpa
def test_nodes_far_away_do_not_matter() -> None:
    # A ring: two hops reach five nodes, whatever its length.
    ring = torch.arange(12)
    edges = torch.cat([torch.stack([ring, (ring + 1) % 12]), torch.stack([(ring + 1) % 12, ring])], 1)
    module, (x, w) = encoder("gcn-leaky"), inputs(num_nodes=12)
    q, node = torch.ones(12, dtype=torch.int64), torch.tensor([0])
    before = ego_bounds(module, x, edges, node, w=w[:1], q=q, max_nodes=5)
    x[4:9] += 10
    assert torch.equal(ego_bounds(module, x, edges, node, w=w[:1], q=q, max_nodes=5), before)
    with pytest.raises(ConfigError, match=r"node 0: 5 nodes within two hops, at most 4 .*raise max_nodes"):
        ego_bounds(module, x, edges, node, w=w[:1], q=q, max_nodes=4)


@needs_lirpa
def test_float32_and_sparse_features_and_descriptions() -> None:
    module, (x, w) = encoder("gcn-relu"), inputs()
    expected = bound("gcn-relu")
    layers = describe(module)
    for features in (x, x.to_sparse(), x.to_sparse_csr()):
        assert torch.equal(ego_bounds(layers, features, EDGES, NODES, w=w, q=Q), expected)
    single = ego_bounds(module.float(), x.float(), EDGES, NODES, w=w.float(), q=Q)
    assert single.dtype == torch.float64
    torch.testing.assert_close(single, expected, rtol=1e-5, atol=1e-5)


@needs_lirpa
def test_the_encoder_is_left_as_it_was() -> None:
    module, (x, w) = encoder("gcn-prelu"), inputs()
    module.train()
    module.convs[0].eval()  # type: ignore[index, union-attr]
    modes = [part.training for part in module.modules()]
    state = {name: value.clone() for name, value in module.state_dict().items()}
    global_rng = torch.get_rng_state()
    with torch.no_grad():
        assert not ego_bounds(module, x, EDGES, NODES[:1], w=w[:1], q=Q).requires_grad
    assert [part.training for part in module.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert torch.equal(torch.get_rng_state(), global_rng)


class Hidden(Plain):
    """Does something in ``forward`` that its layers do not show."""

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Normalised rows, shape ``(n, d)``."""
        return nn.functional.normalize(super().forward(x, edge_index))


def test_an_encoder_that_computes_something_else_is_refused() -> None:
    x, w = inputs()
    strange = Hidden(pyg.GCNConv(3, 4), pyg.GCNConv(4, 3), nn.Tanh()).double()
    with pytest.raises(ConfigError, match=r"Hidden computes something else .*pass activations"):
        ego_bounds(strange, x, EDGES, NODES, w=w, q=Q)
    with pytest.raises(ConfigError, match="GCN computes something else"):
        ego_bounds(encoder("gcn-relu"), x, EDGES, NODES, w=w, q=Q, activations=(torch.relu, torch.relu))


def test_activations_can_be_given() -> None:
    module = nn.ModuleDict({"second": pyg.GCNConv(3, 4), "first": pyg.GCNConv(4, 3)})
    with pytest.raises(ConfigError, match=r"ModuleDict has neither \.act nor \.activation"):
        describe(module)
    layers = describe(module, activations=(nn.ELU(0.5), None))
    assert [layer.activation for layer in layers] == [Activation("elu", 0.5), Activation()]
    assert [tuple(layer.weight.shape) for layer in layers] == [(3, 4), (4, 3)]


def two(*convs: nn.Module, activation: object = None) -> nn.Module:
    first, second = convs if len(convs) == 2 else (convs[0], pyg.GCNConv(3, 3))
    return Plain(first, second, activation or nn.ReLU())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: two(pyg.GATConv(3, 3)), r"convs\.0 is a GATConv; supported are GCNConv"),
        (
            lambda: two(pyg.GCNConv(3, 3), pyg.SAGEConv(3, 3)),
            r"layer 1 aggregates by 'gcn', layer 2 by 'mean'",
        ),
        (lambda: two(pyg.GCNConv(3, 3, improved=True)), r"convs\.0 has improved=True.*improved=False is"),
        (lambda: two(pyg.GCNConv(3, 3, cached=True)), r"cached=True"),
        (lambda: two(pyg.GCNConv(3, 3, normalize=False)), r"add_self_loops=False"),
        (lambda: two(pyg.GCNConv(3, 3, flow="target_to_source")), r"flow='target_to_source'"),
        (lambda: two(pyg.SAGEConv(3, 3, aggr="max")), r"aggregates by 'max'; 'mean'"),
        (lambda: two(pyg.SAGEConv(3, 3, project=True)), r"project=True"),
        (lambda: two(pyg.SAGEConv(3, 3, normalize=True)), r"normalize=True"),
        (lambda: two(pyg.GINConv(nn.Sequential(nn.ReLU(), nn.Linear(3, 3)))), r"nn must begin with a Linear"),
        (lambda: two(pyg.GINConv(nn.Sequential())), r"nn must begin with a Linear"),
        (lambda: two(pyg.GINConv(nn.Sequential(nn.Linear(3, 3), nn.GELU()))), r"convs\.0\.nn\.1: .*not GELU"),
        (lambda: two(pyg.GCNConv(3, 4)), r"layer 1 has 4 outputs, layer 2 has 3 inputs"),
        (lambda: two(pyg.GCNConv(-1, 3)), r"no weights yet"),
        (lambda: two(pyg.GCNConv(3, 3), activation=nn.Softplus()), r"activation of convs\.0: .*not Softplus"),
        (lambda: two(pyg.GCNConv(3, 3), activation=nn.PReLU(3)), r"one slope for all channels"),
        (lambda: two(pyg.GCNConv(3, 3), activation=nn.LeakyReLU(-0.1)), r"slopes in \[0, 1\], got -0\.1"),
        (lambda: pyg.models.GCN(3, 4, 2, 3, dropout=0.5), r"dropout 0\.5 \(dropout\) is active.*eval"),
        (lambda: pyg.models.GCN(3, 4, 2, 3, norm="batch_norm").eval(), r"norms\.0 is a BatchNorm"),
        (lambda: pyg.models.GCN(3, 4, 2, 3, jk="cat").eval(), r"jk='cat'"),
        (lambda: pyg.models.GCN(3, 4, 3, 3), r"2 message-passing layers expected, GCN has 3"),
        (lambda: pyg.MLP([3, 3], norm=None), r"MLP has 0"),
    ],
)
def test_what_cannot_be_bounded_is_refused(build: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        describe(build())


def test_descriptions_are_checked() -> None:
    weight = torch.ones(2, 2)
    fine = MessageLayer("sum", weight)
    for wrong, message in [
        ([fine], "2 layers expected, got 1"),
        ([fine, MessageLayer("sum", weight, root_weight=torch.ones(2, 3))], "layer 2: weights of one shape"),
        ([MessageLayer("sum", weight, bias=torch.ones(3)), fine], r"layer 1: bias of shape \(2,\)"),
        (
            [MessageLayer("sum", weight, mlp=(Dense(torch.ones(3, 2)),)), fine],
            "layer 1: 2 inputs expected by linear map 2",
        ),
    ]:
        with pytest.raises(ConfigError, match=message):
            check_layers(wrong)
    with pytest.raises(ConfigError, match="activation: one of identity"):
        Activation("gelu")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "crown"}, r"method: one of IBP, CROWN, CROWN-Optimized expected, got 'crown'"),
        ({"nodes": torch.tensor([6])}, r"nodes: 0 to 5"),
        ({"nodes": torch.tensor([0.0])}, r"nodes: int64"),
        ({"w": torch.ones(2, 3)}, r"w: shape \(1, 3\) expected, got \(2, 3\)"),
        ({"x": torch.ones(6, 2)}, r"x: shape \(n, 3\)"),
        ({"q": torch.full((6,), 9)}, r"q: node 0"),
    ],
)
def test_impossible_arguments_are_refused(change: dict[str, object], message: str) -> None:
    x, w = inputs()
    arguments: dict[str, object] = {"x": x, "nodes": NODES[:1], "w": w[:1], "q": Q, **change}
    with pytest.raises((ConfigError, DataError), match=message):
        ego_bounds(encoder("gcn-relu"), edge_index=EDGES, **arguments)  # type: ignore[arg-type]


def test_slopes_of_smooth_activations_cannot_be_optimised() -> None:
    with pytest.raises(ConfigError, match="cannot optimise the slopes of tanh; use 'CROWN'"):
        bound("gcn-tanh", "CROWN-Optimized")
