"""Budgets against the printed formula, SciPy's binomial, and what the sampler really drops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nearfar.errors import ConfigError, DataError
from nearfar.graph.budget import AugmentationBudget, binomial_quantile, budget_sampler
from nearfar.graph.pattern import row_pointer
from nearfar.optional import require
from nearfar.runtime import generator


def star_forest(degrees: list[int]) -> tuple[Tensor, int]:
    """Node i is pointed to by ``degrees[i]`` others that nobody points to."""
    centres = torch.repeat_interleave(torch.arange(len(degrees)), torch.tensor(degrees))
    leaves = torch.arange(len(centres)) + len(degrees)
    return torch.stack([leaves, centres]), len(degrees) + len(leaves)


def lost_at(edge_index: Tensor, mask: Tensor, n: int) -> Tensor:
    return torch.zeros(n, dtype=torch.int64).index_add(0, edge_index[1], (~mask).long())


@pytest.mark.parametrize("p", [0.0, 0.1, 0.25, 0.3, 0.4, 0.5, 0.75, 0.9, 0.999])
def test_the_published_budget_is_the_printed_formula(p: float) -> None:
    degrees = list(range(31))
    edges, n = star_forest(degrees)
    q = AugmentationBudget(p).of(edges, n)
    for d in degrees:
        with_itself = d + 1
        rounded = int(np.rint(np.float32(p) * np.float32(d)))
        assert q[d] == min(max(with_itself - 2, 0), rounded)
    assert not q[len(degrees) :].any()


def test_halves_go_to_the_even_number_and_the_last_edge_stays() -> None:
    edges, n = star_forest([1, 2, 3, 5, 7])
    assert AugmentationBudget(0.5).of(edges, n)[:5].tolist() == [0, 1, 2, 2, 4]
    assert AugmentationBudget(0.999).of(edges, n)[:5].tolist() == [0, 1, 2, 4, 6]


def test_weighted_budgets_round_the_expected_number_at_every_node() -> None:
    edges, n = star_forest([1, 2, 6, 9])
    rates = torch.rand(edges.shape[1], generator=torch.Generator().manual_seed(0))
    q = AugmentationBudget(0.4).of(edges, n, rates)
    for i, degree in enumerate([1, 2, 6, 9]):
        mean = float(rates[edges[1] == i].double().sum())
        assert q[i] == min(degree - 1, round(mean))
    even = AugmentationBudget(0.4).of(edges, n, torch.full_like(rates, 0.4))
    assert torch.equal(even, AugmentationBudget(0.4).of(edges, n))


@pytest.mark.parametrize("p", [0.05, 0.4, 0.73])
@pytest.mark.parametrize("delta", [1e-6, 0.05, 0.5])
def test_the_quantile_is_scipys(p: float, delta: float) -> None:
    binomial = require("scipy.stats", "the test").binom
    for count in (0, 1, 2, 5, 17, 60, 400):
        q = binomial_quantile(count, p, delta)
        assert binomial.sf(q, count, p) <= delta * (1 + 1e-9)
        assert q == 0 or binomial.sf(q - 1, count, p) > delta * (1 - 1e-9)
    edges, n = star_forest([0, 1, 2, 5, 17, 60])
    found = AugmentationBudget(p, "quantile", delta=delta).of(edges, n)[:6]
    assert found.tolist() == [binomial_quantile(d, p, delta) for d in (0, 1, 2, 5, 17, 60)]


def test_quantiles_of_certain_events() -> None:
    assert [binomial_quantile(5, p, 0.1) for p in (0.0, 1.0)] == [0, 5]
    assert binomial_quantile(0, 0.3, 0.1) == 0


def test_a_weighted_quantile_holds_for_the_largest_rate_at_a_node() -> None:
    edges, n = star_forest([4, 12])
    rates = torch.rand(16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    q = AugmentationBudget(0.4, "quantile", delta=0.05).of(edges, n, rates)
    for i, degree in enumerate([4, 12]):
        own = rates[edges[1] == i]
        assert q[i] == binomial_quantile(degree, float(own.max()), 0.05)
        # The number dropped is a sum of different coins: its distribution by convolution.
        mass = np.array([1.0])
        for rate in own.tolist():
            mass = np.convolve(mass, [1 - rate, rate])
        assert mass[int(q[i]) + 1 :].sum() <= 0.05


def test_all_and_fixed_budgets() -> None:
    edges, n = star_forest([0, 1, 3, 8])
    assert AugmentationBudget(0.4, "all").of(edges, n)[:4].tolist() == [0, 1, 3, 8]
    assert AugmentationBudget(0.4, "fixed", count=2).of(edges, n)[:4].tolist() == [0, 1, 2, 2]
    assert not AugmentationBudget(0.4, "fixed", count=0).of(edges, n).any()


@pytest.mark.parametrize("directed", [True, False])
@pytest.mark.parametrize("kind", ["expected", "quantile", "fixed"])
def test_the_sampler_stays_within_the_budget(small: Callable[..., Any], kind: Any, directed: bool) -> None:
    exceeded = 0
    for seed in range(8):
        graph = small(seed, n=14)
        edges = graph.edge_index
        q = AugmentationBudget(0.5, kind, delta=0.2, directed=directed).of(edges, 14)
        for draw in range(12):
            rng = generator(seed, "sampled", draw)
            kept, mask = budget_sampler(edges, q, rng, p=0.5, directed=directed)
            assert torch.equal(kept, edges[:, mask])
            assert (lost_at(edges, mask, 14) <= q).all()
            if not directed:
                arcs = set(map(tuple, kept.T.tolist()))
                assert arcs == {(j, i) for i, j in arcs}
            free = torch.rand(edges.shape[1], generator=rng) >= 0.5
            exceeded += int((lost_at(edges, free, 14) > q).sum())
    assert exceeded  # the budget was worth something


def test_the_sampler_repeats_under_a_seed_and_uses_the_budget(small: Callable[..., Any]) -> None:
    graph = small(3, n=14)
    edges, state = graph.edge_index, torch.get_rng_state()
    q = AugmentationBudget(0.5).of(edges, 14)
    first, again, other = (budget_sampler(edges, q, generator(s, "sampled"))[1] for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)
    _, all_at_once = budget_sampler(edges, q, generator(0, "sampled"), p=1.0)
    assert torch.equal(lost_at(edges, all_at_once, 14), q)  # of directed edges any q_i can go
    degree = row_pointer(edges[1], 14).diff()
    _, freely = budget_sampler(edges, degree, generator(0, "sampled"), p=1.0)
    assert not freely.any()


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"p": 1}, "p"),
        ({"p": -0.1}, "p"),
        ({"p": float("nan")}, "p"),
        ({"kind": "most"}, "kind"),
        ({"kind": "quantile", "delta": 0}, "delta"),
        ({"kind": "quantile", "delta": 1.0}, "delta"),
        ({"kind": "fixed", "count": -1}, "count"),
    ],
)
def test_settings_out_of_bounds_are_refused(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError, match=f"^{field}: "):
        AugmentationBudget(**settings)


@pytest.mark.parametrize(
    "rates", [torch.full((3,), 0.4), torch.full((4,), 1.4), torch.full((4,), -0.1), torch.full((4, 1), 0.4)]
)
@pytest.mark.parametrize("kind", ["expected", "quantile", "all"])
def test_probabilities_that_do_not_fit_are_refused(kind: Any, rates: Tensor) -> None:
    edges, n = star_forest([4])
    with pytest.raises(DataError, match="^probability: "):
        AugmentationBudget(0.4, kind).of(edges, n, rates)
