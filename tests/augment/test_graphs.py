"""Edge dropping and feature masking: pairs, shares, weights, and budgets by counting."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nearfar.augment.graphs import (
    drop_edges,
    edge_drop_probability,
    feature_mask_probability,
    mask_features,
)


def random_graph(rng: torch.Generator, num_nodes: int, num_edges: int, *, both: bool) -> Tensor:
    """Edges in random order, with self loops and, by chance, repeated ones."""
    edges = torch.randint(0, num_nodes, (2, num_edges), generator=rng)
    if both:
        edges = torch.cat([edges, edges.flip(0)[:, edges[0] != edges[1]]], 1)
    return edges[:, torch.randperm(edges.shape[1], generator=rng)]


def lost_at(edges: Tensor, mask: Tensor, num_nodes: int) -> Tensor:
    """Dropped edges that point to every node, by counting."""
    return torch.bincount(edges[1][~mask], minlength=num_nodes)


def test_directed_shares_are_independent(rng: torch.Generator) -> None:
    edges = torch.tensor([[0, 1], [1, 0]]).repeat(1, 20_000)
    before = edges.clone()
    kept, mask = drop_edges(edges, rng, p=0.3)
    assert torch.equal(kept, edges[:, mask])
    assert torch.equal(edges, before)
    assert mask.dtype == torch.bool
    dropped = (~mask).double()
    assert dropped.mean().item() == pytest.approx(0.3, abs=5 * (0.21 / 40_000) ** 0.5)
    assert (dropped[::2] * dropped[1::2]).mean().item() == pytest.approx(0.09, abs=0.011)


def test_both_directions_go_together(rng: torch.Generator) -> None:
    edges = random_graph(rng, 300, 4_000, both=True)
    _, mask = drop_edges(edges, rng, p=0.4, undirected=True)
    fate: dict[tuple[int, int], set[bool]] = {}
    for (a, b), kept in zip(edges.T.tolist(), mask.tolist(), strict=True):
        fate.setdefault((min(a, b), max(a, b)), set()).add(kept)
    assert all(len(fates) == 1 for fates in fate.values())
    loops = edges[0] == edges[1]
    assert mask[loops].all()
    share = [True not in fates for (a, b), fates in fate.items() if a != b]
    assert sum(share) / len(share) == pytest.approx(0.4, abs=5 * (0.24 / len(share)) ** 0.5)


def test_extremes_and_self_loops(rng: torch.Generator) -> None:
    edges = random_graph(rng, 10, 60, both=False)
    loops = edges[0] == edges[1]
    assert loops.any()
    for undirected in (False, True):
        assert drop_edges(edges, rng, p=0.0, undirected=undirected)[1].all()
        assert torch.equal(drop_edges(edges, rng, p=1.0, undirected=undirected)[1], loops)
        assert not drop_edges(edges, rng, p=1.0, undirected=undirected, drop_self_loops=True)[1].any()
        none = torch.zeros(2, 0, dtype=torch.int64)
        assert drop_edges(none, rng, undirected=undirected, node_budget=1, edge_budget=1)[0].shape == (2, 0)


def test_probabilities_of_edges(rng: torch.Generator) -> None:
    p = torch.tensor([0.0, 1.0, 0.2, 0.6])
    edges = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 2]]).repeat(1, 20_000)
    dropped = (~drop_edges(edges, rng, p=p.repeat(20_000))[1]).double().view(-1, 4).mean(0)
    assert dropped.tolist() == pytest.approx(p.tolist(), abs=0.02)
    # Together, edges 2-3 and 3-2 go with the mean of their probabilities.
    alone = edges[:, :4] + 4 * torch.arange(20_000)[:, None, None]  # 20,000 copies of the graph
    alone = alone.permute(1, 0, 2).flatten(1)
    dropped = (~drop_edges(alone, rng, p=p.repeat(20_000), undirected=True)[1]).double().view(-1, 4)
    assert torch.equal(dropped[:, 2], dropped[:, 3])
    assert dropped.mean(0).tolist() == pytest.approx([0.0, 1.0, 0.4, 0.4], abs=0.02)


@pytest.mark.parametrize("undirected", [False, True])
@pytest.mark.parametrize("p", [0.3, 0.8, 1.0])
def test_budgets_hold_in_every_draw(undirected: bool, p: float, rng: torch.Generator) -> None:
    num_nodes = 12
    for _ in range(60):
        edges = random_graph(rng, num_nodes, 40, both=undirected)
        budget = torch.randint(0, 4, (num_nodes,), generator=rng)
        seed = int(torch.randint(0, 1_000, (1,), generator=rng))

        def drop(seed: int = seed, edges: Tensor = edges, **budgets: int | Tensor) -> Tensor:
            generator = torch.Generator().manual_seed(seed)
            return drop_edges(edges, generator, p=p, undirected=undirected, **budgets)[1]  # type: ignore[arg-type]

        free = drop()
        mask = drop(node_budget=budget)
        assert (lost_at(edges, mask, num_nodes) <= budget).all()
        assert mask[free].all()  # edges are restored, never dropped in exchange
        assert (lost_at(edges, drop(node_budget=2), num_nodes) <= 2).all()
        few = drop(node_budget=budget, edge_budget=5)
        assert few[mask].all()
        gone = edges.T[~few].tolist()
        num_gone = len({tuple(sorted(pair)) for pair in gone}) if undirected else len(gone)
        num_possible = (
            len({tuple(sorted(pair)) for pair in edges.T[~mask].tolist()})
            if undirected
            else int((~mask).sum())
        )
        assert num_gone == min(5, num_possible)


def greedy(pairs: Tensor, order: Tensor, budget: Tensor) -> set[int]:
    """Numbers of the undirected edges that a loop lets go, one after the other, while there is room."""
    gone, room = set(), budget.tolist()
    for edge in order.tolist():
        a, b = pairs[:, edge].tolist()
        if room[a] > 0 and room[b] > 0:
            room[a], room[b] = room[a] - 1, room[b] - 1
            gone.add(edge)
    return gone


def test_the_budget_is_used_up_as_by_a_loop(rng: torch.Generator) -> None:
    lost, possible = 0, 0
    for seed in range(60):
        pairs = torch.combinations(torch.arange(12))
        pairs = pairs[torch.rand(len(pairs), generator=rng) < 0.5].T
        num = pairs.shape[1]
        budget = torch.randint(0, 4, (12,), generator=rng)
        mask = drop_edges(
            torch.cat([pairs, pairs.flip(0)], 1),
            torch.Generator().manual_seed(seed),
            p=1.0,
            undirected=True,
            node_budget=budget,
        )[1]
        # The second draw is the order in which edges may go, the first of a pair's numbers counts.
        draws = torch.Generator().manual_seed(seed)
        torch.rand(2 * num, generator=draws)
        expected = greedy(pairs, torch.rand(2 * num, generator=draws)[:num].argsort(), budget)
        found = set((~mask[:num]).nonzero().flatten().tolist())
        assert found <= expected
        lost, possible = lost + len(found), possible + len(expected)
    assert lost > 0.98 * possible  # the rest was in doubt when the passes ended


def test_directed_budgets_are_used_exactly(rng: torch.Generator) -> None:
    edges = random_graph(rng, 30, 300, both=False)
    edges = edges[:, edges[0] != edges[1]]
    degree = torch.bincount(edges[1], minlength=30)
    lost = lost_at(edges, drop_edges(edges, rng, p=1.0, node_budget=4)[1], 30)
    assert torch.equal(lost, degree.clamp(max=4))
    for budget in (0, 7, 1_000):
        mask = drop_edges(edges, rng, p=1.0, edge_budget=budget)[1]
        assert (~mask).sum() == min(budget, edges.shape[1])


def test_which_edges_stay_is_uniform(rng: torch.Generator, fits: Callable[..., bool]) -> None:
    # A star of five arcs into its centre, of which all are dropped and three restored; 6,000 stars at once.
    star = torch.tensor([[1, 2, 3, 4, 5], [0, 0, 0, 0, 0]])
    edges = (star[:, None] + 6 * torch.arange(6_000)[None, :, None]).flatten(1)
    mask = drop_edges(edges, rng, p=1.0, node_budget=2)[1].view(-1, 5)
    found = Counter(tuple(row.nonzero().flatten().tolist()) for row in ~mask)
    assert fits(found, dict.fromkeys(itertools.combinations(range(5), 2), 1 / 10))


@pytest.mark.parametrize("p", [0.4, torch.full((4,), 0.4)])
def test_the_generator_decides(p: float | Tensor) -> None:
    edges = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    draws = [drop_edges(edges, torch.Generator().manual_seed(s // 2), p=p)[1] for s in range(40)]
    assert all(torch.equal(draws[2 * i], draws[2 * i + 1]) for i in range(20))
    assert len({tuple(mask.tolist()) for mask in draws}) > 3


def test_edge_probabilities_of_gca() -> None:
    edges = torch.tensor([[0, 0, 0, 1, 2, 3], [1, 2, 3, 0, 0, 0]])
    degree = torch.tensor([3.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    # Scores log 1 (three times) and log 3: gaps log 3 and 0, their mean log 3 / 2.
    expected = [0.6, 0.6, 0.6, 0.0, 0.0, 0.0]
    assert edge_drop_probability(edges, degree, p=0.3).tolist() == pytest.approx(expected)
    assert edge_drop_probability(edges, degree, p=0.5).amax().item() == pytest.approx(0.7)  # the cap
    assert edge_drop_probability(edges, degree, p=0.2).mean().item() == pytest.approx(0.2)
    same = edge_drop_probability(edges, torch.ones(4), p=0.25)
    assert same.tolist() == [0.25] * 6
    for wrong in (torch.zeros(4), torch.ones(4, 1)):
        with pytest.raises(ValueError, match="^centrality: "):
            edge_drop_probability(edges, wrong)


def test_feature_probabilities_of_gca() -> None:
    x = torch.tensor([[1.0, 0.0, -2.0, 0.0], [0.0, 1.0, 2.0, 0.0]], dtype=torch.float64)
    centrality = torch.tensor([1.0, 4.0], dtype=torch.float64)
    # Weights 1, 4, 10, and nothing, which counts like the 1.
    score = torch.tensor([1.0, 4.0, 10.0, 1.0], dtype=torch.float64).log()
    expected = (score.max() - score) / (score.max() - score.mean()) * 0.2
    assert feature_mask_probability(x, centrality, p=0.2).tolist() == pytest.approx(expected.tolist())
    assert feature_mask_probability(torch.zeros(2, 3), centrality, p=0.2).tolist() == pytest.approx([0.2] * 3)
    with pytest.raises(ValueError, match="^centrality: "):
        feature_mask_probability(x, torch.ones(3))


def test_mask_features_shares_dimensions(rng: torch.Generator) -> None:
    x = torch.randn(7, 20_000, generator=rng)
    before = x.clone()
    out, mask = mask_features(x, rng, p=0.3)
    assert torch.equal(x, before)
    assert mask.shape == (1, 20_000)
    assert torch.equal(out, x * mask)
    assert mask.double().mean().item() == pytest.approx(0.7, abs=5 * (0.21 / 20_000) ** 0.5)


def test_mask_features_per_node(rng: torch.Generator) -> None:
    x = torch.full((20_000, 3), torch.nan)
    p = torch.tensor([0.0, 1.0, 0.3])
    out, mask = mask_features(x, rng, p=p, per_node=True)
    assert mask.shape == x.shape
    assert torch.equal(out.isnan(), mask)
    assert (~mask).double().mean(0).tolist() == pytest.approx(p.tolist(), abs=0.02)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("edge_index", lambda e, g: drop_edges(e.float(), g)),
        ("edge_index", lambda e, g: drop_edges(e.T, g)),
        ("p", lambda e, g: drop_edges(e, g, p=1.1)),
        ("p", lambda e, g: drop_edges(e, g, p=torch.tensor([0.5]))),
        ("p", lambda e, g: drop_edges(e, g, p=torch.tensor([0.5, 0.1, -0.1]))),
        ("node_budget", lambda e, g: drop_edges(e, g, node_budget=-1)),
        ("node_budget", lambda e, g: drop_edges(e, g, node_budget=torch.tensor([1, 1]))),
        ("node_budget", lambda e, g: drop_edges(e, g, node_budget=torch.tensor([1, -1, 1]))),
        ("node_budget", lambda e, g: drop_edges(e, g, node_budget=torch.ones(3))),
        ("edge_budget", lambda e, g: drop_edges(e, g, edge_budget=-1)),
        ("x", lambda e, g: mask_features(torch.zeros(3), g)),
        ("p", lambda e, g: mask_features(torch.zeros(3, 2), g, p=torch.zeros(3))),
        ("cap", lambda e, g: edge_drop_probability(e, torch.ones(3), cap=2.0)),
        ("p", lambda e, g: edge_drop_probability(e, torch.ones(3), p=-1.0)),
    ],
)
def test_refusals_name_the_argument(name: str, call: Callable[[Tensor, torch.Generator], object]) -> None:
    with pytest.raises(ValueError, match=f"^{name}: "):
        call(torch.tensor([[0, 1, 2], [1, 2, 0]]), torch.Generator())
