"""Heads on frozen features: what all kinds have in common, and that rebalancing finds the tail."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nearfar.adapters import FeatureInputs, representations
from nearfar.errors import ConfigError, DataError
from nearfar.labels import balanced_accuracy, recall_by_class
from nearfar.longtail.heads import KINDS, CosineLinear, HeadConfig, NeighborVote, fit_head
from nearfar.neighbors import feature_rows

SHORT: dict[str, Any] = {"epochs": 4, "batch_size": 32}


def gaussians(sizes: list[int], seed: int, d: int = 8, apart: float = 2.5) -> tuple[Tensor, Tensor]:
    """Unit Gaussians around scaled unit vectors, ``sizes[k]`` rows of class k."""
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    noise = torch.randn(len(labels), d, generator=torch.Generator().manual_seed(seed))
    return apart * torch.eye(len(sizes), d)[labels] + noise, labels


TRAIN = gaussians([1000, 100, 10], seed=0)
TEST = gaussians([1000, 1000, 1000], seed=1)


def predicted(head: nn.Module) -> Tensor:
    found: Tensor = head(TEST[0]).argmax(1)
    return found


@pytest.fixture(scope="module")
def plain() -> Tensor:
    """Cross-entropy without any correction."""
    return predicted(fit_head(*TRAIN, 3, kind="logit_adjustment", tau=0.0))


def test_plain_cross_entropy_misses_the_tail(plain: Tensor) -> None:
    recall = recall_by_class(TEST[1], plain)
    assert recall[0] > 0.95
    assert recall[2] < 0.72


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_finds_the_tail(kind: str, plain: Tensor) -> None:
    guess = predicted(fit_head(*TRAIN, 3, kind=kind))
    # Votes are the noisiest: of ten rows of the tail few are among the neighbours.
    gain = 0.01 if kind == "knn" else 0.04
    assert balanced_accuracy(TEST[1], guess) > balanced_accuracy(TEST[1], plain) + gain
    assert recall_by_class(TEST[1], guess)[2] > recall_by_class(TEST[1], plain)[2] + gain


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_classes_without_rows_are_never_predicted(kind: str, dtype: torch.dtype) -> None:
    """Class 0, 2 and 4 have no row, class 3 has a single one; far away rows show what extrapolates."""
    x, y = gaussians([30, 5, 1], seed=2)
    labels = torch.tensor([1, 5, 3])[y]
    head = fit_head(x.to(dtype), labels, 7, kind=kind, **SHORT)
    far = 100 * torch.randn(500, 8, generator=torch.Generator().manual_seed(3), dtype=dtype)
    logits = head(torch.cat([x.to(dtype), far, torch.zeros(1, 8, dtype=dtype)]))
    assert logits.shape == (537, 7)
    assert logits.dtype == dtype
    assert not logits.isnan().any()
    assert (logits[:, [0, 2, 4, 6]] == -torch.inf).all()
    assert logits[:, [1, 3, 5]].isfinite().all()
    assert not head.training


@pytest.mark.parametrize("kind", KINDS)
def test_one_class_is_always_the_answer(kind: str) -> None:
    x = TRAIN[0][:6]
    head = fit_head(x, [1] * 6, 3, kind=kind, **SHORT)
    assert head(torch.cat([x, -x])).argmax(1).tolist() == [1] * 12


@pytest.mark.parametrize("kind", KINDS)
def test_one_row_in_all(kind: str) -> None:
    head = fit_head(TRAIN[0][:1], [0], 1, kind=kind, **SHORT)
    assert head(TRAIN[0][:2]).isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides_and_nobody_else_notices(kind: str) -> None:
    x, y = gaussians([60, 20, 8], seed=4)
    before = torch.get_rng_state()
    first, again = (fit_head(x, y, 3, kind=kind, seed=5, **SHORT).state_dict() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = fit_head(x, y, 3, kind=kind, seed=6, **SHORT).state_dict()
    draws = kind in ("crt", "ldam_drw", "balanced_softmax", "logit_adjustment")
    assert all(torch.equal(first[name], other[name]) for name in first) != draws


@pytest.mark.parametrize("kind", KINDS)
def test_copies_that_are_the_same_change_nothing(kind: str) -> None:
    x, y = gaussians([60, 20, 8], seed=7)
    one = fit_head(x, y, 3, kind=kind, neighbors=5, **SHORT)
    three = fit_head(torch.stack([x, x, x]), y, 3, kind=kind, neighbors=5, **SHORT)
    rows = TEST[0][::30]
    assert torch.equal(one(rows).argmax(1), three(rows).argmax(1))
    if kind != "knn":
        assert torch.allclose(one(rows), three(rows), atol=1e-3)


@pytest.mark.parametrize("kind", ["crt", "ldam_drw", "balanced_softmax", "logit_adjustment"])
def test_copies_take_turns(kind: str) -> None:
    """One pass sees the first copy only, two passes see both."""
    x, y = gaussians([60, 20, 8], seed=8)
    settings: dict[str, Any] = {"kind": kind, "standardize": False, "batch_size": 32}

    def weights(copies: Tensor, epochs: int) -> Tensor:
        found: Tensor = fit_head(copies, y, 3, epochs=epochs, **settings).state_dict()["weight"]
        return found

    changed = torch.stack([x, x + 1])
    assert torch.equal(weights(changed, 1), weights(x, 1))
    assert not torch.equal(weights(changed, 2), weights(x, 2))


def test_what_is_a_linear_layer() -> None:
    x, y = gaussians([20, 10, 5], seed=9)
    made = {kind: fit_head(x, y, 3, kind=kind, **SHORT) for kind in KINDS}
    for kind in ("balanced_lr", "crt", "balanced_softmax", "logit_adjustment"):
        assert type(made[kind]) is nn.Linear
    assert type(fit_head(x, y, 3, kind="nearest_mean", metric="euclidean")) is nn.Linear
    assert type(made["ldam_drw"]) is type(made["nearest_mean"]) is CosineLinear
    assert type(made["knn"]) is NeighborVote


@pytest.mark.parametrize("kind", ["crt", "ldam_drw", "nearest_mean", "knn"])
def test_weights_can_be_stored(kind: str) -> None:
    x, y = gaussians([20, 10, 5], seed=10)
    head = fit_head(x, y, 4, kind=kind, **SHORT)
    empty: dict[str, nn.Module] = {
        "crt": nn.Linear(8, 4),
        "knn": NeighborVote(torch.zeros(35, 8), torch.zeros(35, dtype=torch.int64), 4, 10),
        "ldam_drw": CosineLinear(torch.zeros(4, 8)),
        "nearest_mean": CosineLinear(torch.zeros(4, 8)),
    }
    empty[kind].load_state_dict(head.state_dict())
    assert torch.equal(empty[kind](x), head(x))


@pytest.mark.parametrize("kind", KINDS)
def test_the_encoder_stays_as_it_is(kind: str) -> None:
    encoder = nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU())
    encoder.train()
    x, y = gaussians([60, 20, 8], seed=11)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    features = representations(encoder, FeatureInputs(x))
    head = fit_head(features, y, 3, kind=kind, **SHORT)
    after = encoder.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in encoder.parameters())
    both = nn.Sequential(encoder, head).eval()
    assert torch.equal(both(x).argmax(1), head(features).argmax(1))


def test_features_and_labels_may_be_arrays() -> None:
    x, y = gaussians([20, 10, 5], seed=12)
    expected = fit_head(x, y, 3).state_dict()
    for labels in (y.numpy(), y.tolist()):
        found = fit_head(x.numpy(), labels, 3).state_dict()
        assert all(torch.equal(expected[name], found[name]) for name in expected)
    half = fit_head(x.half(), y, 3)
    assert half(feature_rows("x", x.half())).dtype == torch.float32


def test_all_settings_can_be_given_at_once() -> None:
    x, y = gaussians([20, 10, 5], seed=13)
    config = HeadConfig(kind="crt", epochs=2)
    found, expected = fit_head(x, y, 3, **config.model_dump()), fit_head(x, y, 3, kind="crt", epochs=2)
    assert torch.equal(found(x), expected(x))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "balanced_lrr"}, "kind: 'balanced_lrr' is unknown; did you mean 'balanced_lr'?"),
        ({"kind": "zzz"}, "kind: 'zzz' is unknown; choose from balanced_lr, crt"),
        ({"kind": ["crt"]}, "kind: ['crt'] is unknown"),
        ({"strenght": 1.0}, "did you mean 'strength'"),
        ({"strength": 0.0}, "strength"),
        ({"lr": -0.1}, "lr"),
        ({"epochs": 0}, "epochs"),
        ({"drw_from": 1.5}, "drw_from"),
        ({"neighbors": 0}, "neighbors"),
        ({"metric": "manhattan"}, "metric"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        fit_head(*TRAIN, 3, **settings)
    assert message in str(caught.value)


def test_wrong_data() -> None:
    x, y = gaussians([3, 2], seed=14)
    holed = x.clone()
    holed[3, 1] = torch.nan
    cases: list[tuple[Any, Any, int, str]] = [
        (holed, y, 2, "features: row 3 is not finite"),
        (torch.stack([x, holed]), y, 2, r"features\[1\]: row 3 is not finite"),
        (x, [0, 0, 0, 1, 2], 2, "labels: class codes from 0 and below 2 expected, got 2 in row 4"),
        (x, [0, 0, 0, 1, -1], 2, "labels: class codes from 0 and below 2 expected, got -1 in row 4"),
        (x, [0.5] * 5, 2, "labels: class codes"),
        (x, [0, 1], 2, "labels: one for each of 5 rows of features expected, got 2"),
        (x[:0], [], 2, "features: no row"),
        (torch.zeros(0, 5, 8), y, 2, "features: a matrix"),
        (x[:, :0], y, 2, "features: a matrix"),
        (x[0], y, 2, "features: a matrix"),
        (np.array([["a"]]), [0], 1, "features: numbers"),
    ]
    for features, labels, classes, message in cases:
        with pytest.raises(DataError, match=message):
            fit_head(features, labels, classes)
    with pytest.raises(ConfigError, match="num_classes: at least 1 expected, got 0"):
        fit_head(x, y, 0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", KINDS)
def test_on_a_gpu(kind: str) -> None:
    x, y = gaussians([60, 20, 8], seed=15)
    head, again = (fit_head(x.cuda(), y.cuda(), 3, kind=kind, **SHORT) for _ in range(2))
    logits = head(TEST[0].cuda())
    assert logits.is_cuda
    assert torch.equal(logits, again(TEST[0].cuda()))
    host = fit_head(x, y, 3, kind=kind, **SHORT)(TEST[0])
    assert (logits.cpu().argmax(1) == host.argmax(1)).float().mean() > 0.99
