"""Scores, splits and both probes: against scikit-learn, torch.optim and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.errors import ConfigError, DataError
from nearfar.graph.linear_probe import linear_probe
from nearfar.graph.logistic_probe import STRENGTHS, logistic_probe
from nearfar.graph.split import random_split
from nearfar.optional import installed

with_sklearn = pytest.mark.skipif(not installed("sklearn"), reason="scikit-learn is not installed")


def embeddings(seed: int, n: int = 300, d: int = 8, classes: int = 4) -> tuple[Tensor, Tensor]:
    """Clouds that overlap: about three quarters can be told apart."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (n,), generator=generator)
    centers = torch.randn(classes, d, generator=generator)
    return centers[y] + torch.randn(n, d, generator=generator), y


def masks(n: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    return random_split(n, np.random.default_rng(seed), (0.2, 0.2))


@pytest.mark.parametrize(
    ("n", "fractions", "sizes"),
    [
        (1797, (0.1, 0.1), (179, 179, 1439)),
        (100, (0.29, 0.57), (29, 57, 14)),
        (10, (0.1, 0.1), (1, 1, 8)),
        (3, (0.34, 0.34), (1, 1, 1)),
    ],
)
def test_split_sizes(n: int, fractions: tuple[float, float], sizes: tuple[int, int, int]) -> None:
    parts = random_split(n, np.random.default_rng(0), fractions)
    assert tuple(int(part.sum()) for part in parts) == sizes
    assert torch.equal(torch.stack(parts).sum(0), torch.ones(n, dtype=torch.int64))
    again = random_split(n, np.random.default_rng(0), fractions)
    assert all(torch.equal(a, b) for a, b in zip(parts, again, strict=True))


def test_every_node_trains_as_often_as_it_should() -> None:
    rng = np.random.default_rng(0)
    counts = torch.stack([random_split(50, rng)[0] for _ in range(2000)]).double().mean(0)
    # Five standard deviations.
    assert (counts - 0.1).abs().max() < 5 * (0.09 / 2000) ** 0.5


def test_splits_that_cannot_be() -> None:
    with pytest.raises(DataError, match="9 nodes cannot be split .* the parts would have 0, 0 and 9 nodes"):
        random_split(9, np.random.default_rng(0))
    for fractions in ((0.5, 0.5), (0.0, 0.1), (-0.1, 0.1), (float("nan"), 0.1)):
        with pytest.raises(ConfigError, match="^fractions: "):
            random_split(100, np.random.default_rng(0), fractions)


@with_sklearn
@pytest.mark.parametrize("seed", range(3))
def test_logistic_probe_is_the_best_of_seven(seed: int) -> None:
    from sklearn.linear_model import LogisticRegression

    z, y = embeddings(seed)
    train, val, _ = masks(len(y), seed)
    rows = (z.double() / z.double().norm(dim=1, keepdim=True)).numpy()
    fitted = [
        LogisticRegression(C=strength, max_iter=10_000).fit(rows[train.numpy()], y[train].numpy())
        for strength in STRENGTHS
    ]
    scores = [model.score(rows[val.numpy()], y[val].numpy()) for model in fitted]
    expected = fitted[int(np.argmax(scores))].predict(rows)
    found = logistic_probe(z, y, train, val)
    assert found.tolist() == expected.tolist()
    assert found.dtype == torch.int64
    assert torch.equal(found, logistic_probe(z * 7, y, train, val))


@with_sklearn
def test_logistic_probe_leaves_random_numbers_alone() -> None:
    z, y = embeddings(0)
    z.requires_grad_()
    before = torch.get_rng_state(), str(np.random.get_state())  # noqa: NPY002
    logistic_probe(z, y, *masks(len(y))[:2])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert str(np.random.get_state()) == before[1]  # noqa: NPY002


@with_sklearn
def test_logistic_probe_keeps_the_names_of_classes() -> None:
    z, y = embeddings(0, classes=3)
    train, val, test = masks(len(y))
    named = torch.tensor([1, 4, 9])[y]
    found = logistic_probe(z, named, train, val)
    assert set(found.tolist()) <= {1, 4, 9}
    assert (found == named)[test].double().mean() > 0.6


def test_probes_refuse() -> None:
    z, y = embeddings(0, n=20)
    train, val, _ = masks(20)
    none = torch.zeros_like(train)
    generator = torch.Generator()
    for bad in ((none, val), (train, none)):
        with pytest.raises(DataError, match="correct the masks"):
            linear_probe(z, y, *bad, generator=generator)
    with pytest.raises(DataError, match="^z: embeddings are not finite"):
        linear_probe(z.log(), y, train, val, generator=generator)
    for steps, every in ((10, 20), (10, 0), (0, 1)):
        with pytest.raises(ConfigError, match="^every: a number from 1 to steps="):
            linear_probe(z, y, train, val, steps=steps, every=every, generator=generator)


@with_sklearn
def test_logistic_probe_refuses() -> None:
    z, y = embeddings(0, n=20)
    train, val, _ = masks(20)
    none = torch.zeros_like(train)
    for bad in ((none, val), (train, none)):
        with pytest.raises(DataError, match="correct the masks"):
            logistic_probe(z, y, *bad)
    with pytest.raises(DataError, match="^z: embeddings are not finite"):
        logistic_probe(z / 0, y, train, val)
    with pytest.raises(DataError, match="all 4 training nodes are of class 2"):
        logistic_probe(z, torch.full_like(y, 2), train, val)


def slow_linear_probe(
    z: Tensor, y: Tensor, train: Tensor, select: Tensor, steps: int, every: int, generator: torch.Generator
) -> Tensor:
    """The same with torch.nn, autograd and torch.optim."""
    layer = torch.nn.utils.skip_init(torch.nn.Linear, z.shape[1], int(y.max()) + 1)
    torch.nn.init.xavier_uniform_(layer.weight, generator=generator)
    torch.nn.init.zeros_(layer.bias)
    layer = layer.to(z.dtype)
    adam = torch.optim.Adam(layer.parameters(), lr=0.01)
    best, kept = -1.0, torch.empty(0)
    for step in range(1, steps + 1):
        adam.zero_grad()
        F.cross_entropy(layer(z[train]), y[train]).backward()
        adam.step()
        if step % every == 0:
            predicted = layer(z).argmax(1)
            micro = (y[select] == predicted[select]).double().mean().item()
            if micro > best:
                best, kept = micro, predicted
    return kept


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("steps", "every"), [(200, 20), (130, 7), (5, 5)])
def test_linear_probe_is_adam_on_one_layer(seed: int, steps: int, every: int) -> None:
    z, y = embeddings(seed)
    z = z.double()
    train, val, _ = masks(len(y), seed)
    expected = slow_linear_probe(z, y, train, val, steps, every, torch.Generator().manual_seed(seed))
    generator = torch.Generator().manual_seed(seed)
    found = linear_probe(z, y, train, val, steps=steps, every=every, generator=generator)
    assert torch.equal(found, expected)
    assert found.dtype == torch.int64


def test_the_bias_learns_how_frequent_classes_are() -> None:
    """Embeddings of zeros say nothing; after one step the more frequent class is ahead."""
    generator = torch.Generator().manual_seed(0)
    y = torch.tensor([0, 1, 1, 1])
    every = torch.ones(4, dtype=torch.bool)
    found = linear_probe(torch.zeros(4, 3), y, every, every, steps=1, every=1, generator=generator)
    assert found.tolist() == [1, 1, 1, 1]


def test_linear_probe_is_deterministic_and_learns() -> None:
    z, y = embeddings(1, n=600)
    z.requires_grad_()
    train, val, test = masks(600)
    state = torch.get_rng_state()
    first, second = (
        linear_probe(z, y, train, val, steps=1000, generator=torch.Generator().manual_seed(5))
        for _ in range(2)
    )
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)
    assert (first == y)[test].double().mean() > 0.6
    # Selecting on the nodes that are scored can only look better there.
    peeked = linear_probe(z, y, train, test, steps=1000, generator=torch.Generator().manual_seed(5))
    assert (peeked == y)[test].sum() >= (first == y)[test].sum()
