"""The module for anybody's training loop: the same numbers as the function, for every encoder that it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nearfar.errors import ConfigError, DataError
from nearfar.graph import node_compactness
from nearfar.graph.budget import AugmentationBudget
from nearfar.graph.compactness import compactness_bound, contrast_vectors
from nearfar.graph.intervals import IntervalAdjacency, edge_interval
from nearfar.graph.node_compactness import NodeCompactness
from nearfar.graph.pot.loss import POTLoss
from nearfar.graph.surroundings import MODES
from nearfar.objectives import NTXent
from nearfar.optional import require

Make = Callable[..., Any]
# The graph's part is kept in single precision, whatever the encoder's.
CLOSE = 1e-12
BUDGET = AugmentationBudget(0.5)
N, WIDTHS = 12, (3, 8, 4)

pytest.importorskip("torch_geometric")


class TwoConvs(nn.Module):
    """Both layers and one activation after each, as users write it."""

    def __init__(self, first: nn.Module, second: nn.Module, act: nn.Module) -> None:
        super().__init__()
        self.convs, self.act = nn.ModuleList([first, second]), act

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        for conv in self.convs:
            x = self.act(conv(x, edge_index))
        return x


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        module = make().double().eval()
        for (
            parameter
        ) in module.parameters():  # biases begin at zero: bounds with a mistake in them would agree
            if parameter.dim() == 1 and len(parameter) > 1:
                nn.init.normal_(parameter, std=0.2)
    return module


def pair(kind: str, act: nn.Module, **settings: Any) -> nn.Module:
    conv = getattr(require("torch_geometric.nn", "the test"), kind)
    a, b, c = WIDTHS
    return seeded(lambda: TwoConvs(conv(a, b, **settings), conv(b, c, **settings), act))


def basic(kind: str = "GCN", **settings: Any) -> nn.Module:
    model = getattr(require("torch_geometric.nn", "the test"), kind)
    a, b, c = WIDTHS
    return seeded(lambda: model(a, b, num_layers=2, out_channels=c, **settings))


def layers_of(encoder: Any, name: str = "lin") -> list[tuple[Tensor, Tensor]]:
    return [
        (getattr(conv, name).weight.T, conv.bias if name == "lin" else getattr(conv, name).bias)
        for conv in encoder.convs
    ]


@pytest.fixture
def graph(small: Make) -> Any:
    return small(4, n=N, density=0.35)


@pytest.fixture
def other(graph: Any) -> Tensor:
    return torch.randn(N, WIDTHS[-1], generator=torch.Generator().manual_seed(1), dtype=torch.float64)


# Encoder, its weights' name, slopes after both layers, normalisation.
ENCODERS: dict[str, Callable[[], tuple[nn.Module, str, Any, str]]] = {
    "relu": lambda: (pair("GCNConv", nn.ReLU()), "lin", 0.0, "gcn"),
    "prelu": lambda: (pair("GCNConv", nn.PReLU(init=0.25)), "lin", 0.25, "gcn"),
    "leaky": lambda: (pair("GCNConv", nn.LeakyReLU(0.2)), "lin", 0.2, "gcn"),
    "identity": lambda: (pair("GCNConv", nn.Identity()), "lin", 1.0, "gcn"),
    "basic": lambda: (basic(), "lin", (0.0, 1.0), "gcn"),
    "sage": lambda: (pair("SAGEConv", nn.ReLU(), root_weight=False), "lin_l", 0.0, "mean"),
    "sum": lambda: (pair("SAGEConv", nn.ReLU(), root_weight=False, aggr="sum"), "lin_l", 0.0, "sum"),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", list(ENCODERS))
def test_it_is_the_function_for_every_encoder(graph: Any, other: Tensor, name: str, mode: Any) -> None:
    encoder, weight, slope, norm = ENCODERS[name]()
    view = graph.edge_index[:, ::2]
    q = BUDGET.of(graph.edge_index, N)
    expected = compactness_bound(
        graph.x,
        graph.edge_index,
        layers=layers_of(encoder, weight),
        slope=slope,
        w=contrast_vectors(other),
        q=q,
        mode=mode,
        norm=norm,  # type: ignore[arg-type]
        view_edge_index=view,
    )
    module = NodeCompactness(encoder, BUDGET, mode)
    found = module(graph.x, graph.edge_index, other, view_edge_index=view)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, atol=CLOSE, rtol=CLOSE)
    if mode == "sampled":  # and what it calls the encoder is the encoder
        score = (encoder(graph.x, view) * contrast_vectors(other)).sum(1)
        torch.testing.assert_close(found, score, atol=1e-10, rtol=1e-10)


def test_a_list_of_nodes_is_exact_or_as_published(graph: Any, other: Tensor) -> None:
    encoder, nodes = basic(), torch.tensor([7, 2, 5, 10])
    for mode in MODES:
        module = NodeCompactness(encoder, BUDGET, mode)
        every = module(graph.x, graph.edge_index, other)
        some = module(graph.x, graph.edge_index, other, nodes)
        if mode != "surrogate":  # which mixes the neighbours' contrast vectors into a node's score
            torch.testing.assert_close(some, every[nodes], atol=1e-12, rtol=1e-12)
        official = NodeCompactness(encoder, BUDGET, mode, node_list="official")
        q = BUDGET.of(graph.edge_index, N)
        expected = compactness_bound(
            graph.x,
            graph.edge_index,
            layers=layers_of(encoder),
            slope=(0.0, 1.0),
            w=contrast_vectors(other[nodes]),
            q=q,
            mode=mode,
            nodes=nodes,
            cut=True,
        )
        found = official(graph.x, graph.edge_index, other, nodes)
        torch.testing.assert_close(found, expected, atol=CLOSE, rtol=CLOSE)
        assert (found - some).abs().max() > 1e-3


def test_the_graphs_part_is_done_once(graph: Any, other: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []

    def counted(*args: Any, **more: Any) -> IntervalAdjacency:
        built.append(1)
        return edge_interval(*args, **more)

    monkeypatch.setattr(node_compactness, "edge_interval", counted)
    encoder = basic()
    module, edges = NodeCompactness(encoder, BUDGET), graph.edge_index.clone()
    first = module(graph.x, edges, other)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.mul_(1.1)
    second = module(graph.x, edges, other)
    assert len(built) == 1
    assert not torch.equal(first, second)  # weights are read anew
    fresh = NodeCompactness(encoder, BUDGET)
    torch.testing.assert_close(second, fresh(graph.x, edges, other), atol=0, rtol=0)
    edges[:, 0], edges[:, 1] = edges[:, 1].clone(), edges[:, 0].clone()  # the same graph, but who knows
    third = module(graph.x, edges, other)
    assert len(built) == 3
    torch.testing.assert_close(third, second, atol=1e-12, rtol=1e-12)
    module(graph.x, graph.edge_index, other)
    assert len(built) == 4


def test_a_graph_changed_in_place_is_noticed(graph: Any, other: Tensor) -> None:
    module, edges = NodeCompactness(basic(), BUDGET), graph.edge_index.clone()
    before = module(graph.x, edges, other)
    edges.copy_(torch.flip(N - 1 - edges, [1]))
    after = module(graph.x, edges, other)
    fresh = NodeCompactness(module.encoder, BUDGET)(graph.x, edges.clone(), other)
    torch.testing.assert_close(after, fresh, atol=0, rtol=0)
    assert not torch.allclose(before, after)


@pytest.mark.parametrize("mode", MODES)
def test_it_joins_any_loss_and_reaches_the_encoder(graph: Any, mode: Any) -> None:
    """POT with NT-Xent and PyG's own GCN: gradients are those of central differences."""
    encoder = basic()
    compactness, pot, contrast = NodeCompactness(encoder, BUDGET, mode), POTLoss(0.4), NTXent(0.5)
    edges = graph.edge_index
    views = (edges[:, 1:], edges[:, :-2])

    def loss() -> Tensor:
        z1, z2 = (encoder(graph.x, view) for view in views)
        scores = [
            compactness(graph.x, edges, z, view_edge_index=view)
            for z, view in zip((z2, z1), views, strict=True)
        ]
        mixed: Tensor = pot(contrast(z1, z2), *scores)
        return mixed

    loss().backward()
    rng = torch.Generator().manual_seed(0)
    for parameter in encoder.parameters():
        assert parameter.grad is not None
        assert parameter.grad.any()
        way = torch.randn(parameter.shape, generator=rng, dtype=torch.float64)
        slope = float((parameter.grad * way).sum())
        with torch.no_grad():
            ends = []
            for sign in (1, -1):
                parameter.add_(way, alpha=sign * 1e-6)
                ends.append(float(loss()))
                parameter.add_(way, alpha=-sign * 1e-6)
        assert abs((ends[0] - ends[1]) / 2e-6 - slope) < 1e-6


def test_activations_can_be_said(graph: Any, other: Tensor) -> None:
    class Silent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            pyg = require("torch_geometric.nn", "the test")
            a, b, c = WIDTHS
            self.one, self.two = pyg.GCNConv(a, b), pyg.GCNConv(b, c)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            z: Tensor = self.two(torch.relu(self.one(x, edge_index)), edge_index)
            return z

    encoder = seeded(Silent)
    with pytest.raises(ConfigError, match="^activations: "):
        NodeCompactness(encoder)
    module = NodeCompactness(encoder, BUDGET, "sampled", activations=(torch.relu, None))
    score = (encoder(graph.x, graph.edge_index) * contrast_vectors(other)).sum(1)
    torch.testing.assert_close(module(graph.x, graph.edge_index, other), score, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize(
    "encoder",
    [
        lambda: pair("SAGEConv", nn.ReLU()),
        lambda: basic("GraphSAGE"),
        lambda: basic("GIN"),
        lambda: pair("GCNConv", nn.Tanh()),
        lambda: basic(act="tanh"),
    ],
)
def test_what_the_closed_form_does_not_cover_is_told_where_to_go(
    encoder: Callable[[], nn.Module],
) -> None:
    with pytest.raises(ConfigError, match="^encoder: .*ego_bounds"):
        NodeCompactness(encoder())


def test_what_no_engine_covers_is_refused() -> None:
    with pytest.raises(ConfigError, match="GATConv"):
        NodeCompactness(basic("GAT"))
    with pytest.raises(ConfigError, match="^mode: "):
        NodeCompactness(basic(), mode="exact")  # type: ignore[arg-type]
    training = basic(dropout=0.5).train()
    with pytest.raises(ConfigError, match="dropout"):
        NodeCompactness(training)


@pytest.mark.parametrize("slope", [-0.1, 1.1])
def test_slopes_for_which_nothing_is_proved_are_refused(graph: Any, other: Tensor, slope: float) -> None:
    act = nn.PReLU(init=slope)
    with pytest.raises(ConfigError, match="slope"):
        NodeCompactness(pair("GCNConv", act))
    # Also where training has led it there.
    encoder = pair("GCNConv", nn.PReLU(init=0.5))
    module = NodeCompactness(encoder, BUDGET)
    nn.init.constant_(encoder.act.weight, slope)  # type: ignore[arg-type, union-attr]
    with pytest.raises(ConfigError, match="slope"):
        module(graph.x, graph.edge_index, other)


def test_data_that_do_not_fit_are_refused(graph: Any, other: Tensor) -> None:
    module = NodeCompactness(basic(), BUDGET)
    with pytest.raises(DataError, match="^z_other: "):
        module(graph.x, graph.edge_index, other[:-1])
    with pytest.raises(DataError):
        module(graph.x * torch.nan, graph.edge_index, other)
    loops = torch.cat([graph.edge_index, torch.tensor([[0], [0]])], 1)
    with pytest.raises(DataError):
        module(graph.x, loops, other)
    twice = torch.cat([graph.edge_index, graph.edge_index[:, :1]], 1)
    with pytest.raises(DataError):
        module(graph.x, twice, other)


# The loss


def test_the_mix_is_the_printed_formula() -> None:
    rng = torch.Generator().manual_seed(0)
    scores = [torch.randn(9, generator=rng, dtype=torch.float64) for _ in range(2)]
    for kappa, scale in ((0.0, 1.0), (0.4, 1.0), (0.4, 5.0), (1.0, 0.3)):
        slow = sum((1 + (-scale * f).exp()).log() for score in scores for f in score) / 18
        found = POTLoss(kappa, scale)(torch.tensor(7.0).double(), *scores)
        torch.testing.assert_close(found, (1 - kappa) * 7 + kappa * slow, atol=1e-12, rtol=1e-12)


def test_an_automatic_scale_is_one_over_the_spread_without_gradient() -> None:
    score = torch.randn(20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    auto, given = score.clone().requires_grad_(), score.clone().requires_grad_()
    spread = float(score.std(correction=0))
    one, two = POTLoss(0.4, "auto").penalty(auto), POTLoss(0.4, 1 / spread).penalty(given)
    one.backward()
    two.backward()
    torch.testing.assert_close(one, two, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(auto.grad, given.grad, atol=1e-12, rtol=1e-12)
    scaled = POTLoss(0.4, "auto").penalty(1000 * score)
    torch.testing.assert_close(scaled, one.detach(), atol=1e-12, rtol=1e-12)
    assert POTLoss(0.4, "auto").penalty(torch.zeros(3)).isfinite()


@pytest.mark.parametrize("kappa", [-0.1, 1.1, float("nan")])
def test_a_share_is_from_0_to_1(kappa: float) -> None:
    with pytest.raises(ConfigError, match="^kappa: "):
        POTLoss(kappa)


@pytest.mark.parametrize("scale", [0, -1.0, float("nan")])
def test_a_scale_is_positive(scale: float) -> None:
    with pytest.raises(ConfigError, match="^logit_scale: "):
        POTLoss(0.4, scale)
