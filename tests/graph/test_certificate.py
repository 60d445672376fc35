"""Certificates lie below what was tried, repeat under a seed, and say what their budgets leave out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nearfar.errors import ConfigError, DataError
from nearfar.graph.bounds.encoder import TwoLayers
from nearfar.graph.budget import AugmentationBudget, budget_sampler
from nearfar.graph.certificate import MARGIN, Certificate, certify, plot_compactness
from nearfar.graph.compactness import compactness_bound, contrast_vectors
from nearfar.graph.encoder import GCNEncoder
from nearfar.optional import require
from nearfar.runtime import generator

Make = Callable[..., Any]

pytest.importorskip("torch_geometric")


@dataclass
class Data:
    x: Tensor
    edge_index: Tensor


@pytest.fixture
def data(small: Make) -> Data:
    graph = small(1, n=40, density=0.15)
    return Data(graph.x, graph.edge_index)


@pytest.fixture
def encoder() -> GCNEncoder:
    return GCNEncoder(3, 5, activation="prelu", generator=generator(0, "init"))


def test_bounds_lie_below_the_sampled_graphs_and_those_below_the_graph(data: Data, encoder: Any) -> None:
    for p in (0.0, 0.1, 0.4, 0.8):
        found = certify(encoder, data, p, samples=20)
        assert found.p == p
        assert found.bound.dtype == torch.float64
        assert (found.bound <= found.sampled).all()
        assert (found.sampled <= found.score).all()
        assert torch.equal(found.certified, found.bound > 0)
        assert found.share == pytest.approx(float((found.bound > 0).double().mean()))
        assert (found.score[found.certified] > 0).all()
        if p == 0:  # nothing may go: all three are one number
            torch.testing.assert_close(found.bound, found.score, atol=1e-5, rtol=0)
            assert torch.equal(found.sampled, found.score)
        else:
            assert (found.sampled < found.score).any()


def test_it_is_the_function_less_its_margin(data: Data, encoder: Any) -> None:
    double = encoder.double().requires_grad_(False)
    z = double(data.x, data.edge_index)
    budget = AugmentationBudget(0.4)
    q = budget.of(data.edge_index, 40)
    layers = double.layers()
    w = contrast_vectors(z)
    plain = compactness_bound(
        data.x,
        data.edge_index,
        layers=list(zip(layers.weights, layers.biases, strict=True)),
        slope=layers.slopes,
        w=w,
        q=q,
    )
    found = certify(double, data, 0.4)
    expected = plain - MARGIN * (1 + plain.abs())
    torch.testing.assert_close(found.bound, expected, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(found.score, (z * w).sum(1), atol=1e-12, rtol=1e-12)
    assert torch.equal(found.budget, q)
    assert torch.equal(found.degree, torch.bincount(data.edge_index[1], minlength=40))
    # The least of the tried graphs, each through PyG.
    least = (z * w).sum(1)
    for number in range(10):
        kept, _ = budget_sampler(data.edge_index, q, generator(0, "certify", number), p=0.4)
        least = torch.minimum(least, (double(data.x, kept) * w).sum(1))
    torch.testing.assert_close(found.sampled, least, atol=1e-10, rtol=1e-10)


def test_another_view_to_contrast_with(data: Data, encoder: Any) -> None:
    z = torch.randn(40, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = certify(encoder, data, 0.4, z_other=z)
    score = (encoder.double()(data.x, data.edge_index) * contrast_vectors(z)).sum(1)
    torch.testing.assert_close(found.score, score, atol=1e-10, rtol=1e-10)


def test_the_summary_is_means(data: Data, encoder: Any) -> None:
    found = certify(encoder, data, 0.4)
    assert found.summary() == {
        "certified_share": found.share,
        "bound": float(found.bound.mean()),
        "score": float(found.score.mean()),
        "sampled": float(found.sampled.mean()),
        "gap": pytest.approx(float(found.sampled.mean() - found.bound.mean())),
        "over_budget": found.over_budget,
    }


def test_seeds_repeat_and_the_callers_numbers_stay(data: Data, encoder: Any) -> None:
    state = torch.get_rng_state()
    first, again, other = (certify(encoder, data, 0.4, seed=s) for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.sampled, again.sampled)
    assert first.over_budget == again.over_budget
    assert not torch.equal(first.sampled, other.sampled)
    assert torch.equal(first.bound, other.bound)
    more = certify(encoder, data, 0.4, samples=30)
    assert (more.sampled <= first.sampled).all()


def test_weights_do_as_well_as_the_module(data: Data, encoder: Any) -> None:
    layers = encoder.layers()
    assert isinstance(layers, TwoLayers)
    one, two = certify(encoder, data, 0.4), certify(layers, data, 0.4)
    for field in ("bound", "score", "sampled", "degree", "budget"):
        assert torch.equal(getattr(one, field), getattr(two, field))
    assert not one.bound.requires_grad


def test_the_rule_may_be_another(data: Data, encoder: Any) -> None:
    published = certify(encoder, data, 0.4)
    quantile = certify(encoder, data, 0.4, budget=AugmentationBudget(0.4, "quantile", delta=0.01))
    every = certify(encoder, data, 0.4, budget=AugmentationBudget(0.4, "all"))
    assert (published.budget <= quantile.budget).all()
    assert (quantile.budget <= every.budget).all()
    assert (every.bound <= quantile.bound + 1e-9).all()
    assert (quantile.bound <= published.bound + 1e-9).all()
    assert published.over_budget > quantile.over_budget
    assert every.over_budget == 0


def test_how_many_exceed_the_budget_is_what_binomials_say(data: Data, encoder: Any) -> None:
    binomial = require("scipy.stats", "the test").binom
    for budget in (None, AugmentationBudget(0.4, "quantile", delta=0.2)):
        draws = [certify(encoder, data, 0.4, budget=budget, samples=0, seed=s) for s in range(12)]
        expected = binomial.sf(draws[0].budget.numpy(), draws[0].degree.numpy(), 0.4)
        mean = sum(one.over_budget for one in draws) / len(draws)
        # Nodes lose their edges independently: directions are dropped one by one.
        error = float((expected * (1 - expected)).sum() ** 0.5) / 40 / len(draws) ** 0.5
        assert abs(mean - expected.mean()) < 4 * error


def test_single_precision_is_close(data: Data, encoder: Any) -> None:
    one, two = certify(encoder, data, 0.4), certify(encoder, data, 0.4, dtype=torch.float32)
    assert two.bound.dtype == torch.float32
    torch.testing.assert_close(two.bound.double(), one.bound, atol=1e-4, rtol=1e-4)


def test_what_makes_no_sense_is_refused(data: Data, encoder: Any) -> None:
    with pytest.raises(ConfigError, match="^p: "):
        certify(encoder, data, 1.0)
    with pytest.raises(DataError):
        certify(encoder, Data(data.x * torch.nan, data.edge_index))
    loop = torch.cat([data.edge_index, torch.tensor([[3], [3]])], 1)
    with pytest.raises(DataError):
        certify(encoder, Data(data.x, loop))


def test_the_picture_is_written(data: Data, encoder: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    certificates: list[Certificate] = [certify(encoder, data, p, samples=1) for p in (0.1, 0.4)]
    for name in ("compactness.png", "compactness.svg"):
        plot_compactness(certificates, tmp_path / name)
        assert (tmp_path / name).stat().st_size > 5000
    assert (tmp_path / "compactness.png").read_bytes().startswith(b"\x89PNG")
