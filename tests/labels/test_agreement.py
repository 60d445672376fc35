"""The filter by neighbours' labels: against a loop, on classes of one item, and by what it does to purity."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from nearfar.errors import ConfigError, DataError
from nearfar.labels import (
    default_neighbors,
    head_classes,
    keep_most,
    label_agreement,
    label_noise,
    long_tail,
    purity,
)
from nearfar.neighbors import local_outlier_factor
from nearfar.runtime import numpy_generator


def rows(n: int, d: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def by_loop(features: Tensor, labels: list[int], k: int) -> list[float]:
    """Votes of the k most alike others, over class sizes, in float64."""
    n, classes = len(labels), max(labels) + 1
    scores = []
    for i in range(n):
        cosine = [
            (features[i] @ features[j] / (features[i].norm() * features[j].norm())).item() for j in range(n)
        ]
        near = sorted((j for j in range(n) if j != i), key=lambda j: -cosine[j])[:k]
        votes = [
            sum(labels[j] == c for j in near) / k / (labels.count(c) / n) if c in labels else 0.0
            for c in range(classes)
        ]
        scores.append(votes[labels[i]] / sum(votes))
    return scores


@pytest.mark.parametrize("k", [1, 4, 49])
def test_against_a_loop(k: int) -> None:
    features = rows(50, 4)
    labels = numpy_generator(0, "labels").choice([0, 1, 3], 50, p=[0.7, 0.2, 0.1]).tolist()
    expected = by_loop(features, labels, k)
    assert label_agreement(features, labels, k=k).tolist() == pytest.approx(expected)
    single = label_agreement(features.float(), torch.tensor(labels), k=k, num_classes=4)
    assert single.dtype == torch.float32
    assert single.tolist() == pytest.approx(expected, abs=1e-6)
    assert label_agreement(features.numpy(), np.array(labels), k=k).tolist() == pytest.approx(expected)


def test_the_default_grows_with_the_items() -> None:
    assert [default_neighbors(n) for n in (0, 1, 999, 1000, 10_000, 10**7)] == [10, 10, 10, 10, 50, 50]
    grown = [default_neighbors(n) for n in range(0, 12_000, 100)]
    assert grown == sorted(grown)
    features, labels = rows(60, 3), [0, 1, 2] * 20
    assert torch.equal(label_agreement(features, labels), label_agreement(features, labels, k=10))
    assert torch.equal(
        label_agreement(features[:6], labels[:6], k=99), label_agreement(features[:6], labels[:6], k=5)
    )


def test_the_length_of_rows_and_their_order_do_not_matter() -> None:
    features, labels = rows(60, 3), torch.arange(60) % 3
    expected = label_agreement(features, labels, k=5)
    lengths = torch.linspace(0.1, 9, 60, dtype=torch.float64)[:, None]
    assert torch.allclose(label_agreement(features * lengths, labels, k=5), expected)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(label_agreement(features[order], labels[order], k=5), expected[order])


def test_small_classes_are_not_outvoted() -> None:
    """Two neighbours of a class of four weigh more than eight of a class of forty."""
    features = torch.ones(44, 2) + torch.arange(44)[:, None] * torch.tensor([0.0, 1e-3])
    labels = torch.zeros(44, dtype=torch.int64)
    labels[20:24] = 1
    assert (label_agreement(features, labels, k=10)[20:24] > 0.5).all()


def test_rows_of_zeros_and_single_items() -> None:
    features = rows(20, 3)
    features[4] = 0
    labels = torch.tensor([0, 1, 2, 3] * 5)
    found = label_agreement(features, labels, k=3)
    assert found.isfinite().all()
    assert found[4] == 0.25
    assert label_agreement(torch.zeros(5, 2), [0, 0, 0, 1, 1]).tolist() == [0.5] * 5
    alone = label_agreement(rows(5, 2), [0, 0, 0, 0, 1])
    assert alone[4] == 0
    assert label_agreement(rows(1, 2), [3]).tolist() == [1.0]
    assert label_agreement(rows(0, 2), []).tolist() == []


def test_the_best_share_of_every_class() -> None:
    scores = torch.tensor([0.9, 0.1, 0.5, 0.5, 0.5, 0.3, 0.2])
    labels = [0, 0, 0, 0, 0, 2, 4]
    kept = keep_most(scores, labels, 0.6)
    assert kept.tolist() == [True, False, True, True, False, True, True]
    assert keep_most(scores, labels, 0.2, least=0).tolist() == [True, False, False, False, False, True, True]
    assert keep_most(scores, labels, 0.2).tolist() == [True, False, True, False, False, True, True]
    assert keep_most(scores, labels, 1.0).all()
    assert keep_most(torch.zeros(0), [], 0.5).tolist() == []
    assert keep_most(scores.numpy(), labels, 0.6).tolist() == kept.tolist()
    with_infinity = torch.tensor([-torch.inf, 0.0, torch.inf])
    assert keep_most(with_infinity, [0, 0, 0], 0.5).tolist() == [False, True, True]


@pytest.mark.parametrize("share", [0.1, 0.25, 0.6, 0.7, 0.9])
def test_how_many_are_kept(share: float) -> None:
    labels = np.repeat(np.arange(12), np.arange(12) * 3)
    scores = torch.from_numpy(numpy_generator(0, "scores").random(len(labels)))
    kept = keep_most(scores, labels, share).numpy()
    for k in range(1, 12):
        mine = scores.numpy()[labels == k]
        room = min(max(int(np.ceil(round(share * len(mine), 6))), 2), len(mine))
        assert kept[labels == k].sum() == room
        assert mine[kept[labels == k]].min() >= np.sort(mine)[-room]


def test_bad_input() -> None:
    features, labels = rows(6, 2), [0, 1] * 3
    with pytest.raises(DataError, match="labels: one label for each of the 6 rows expected, got 5"):
        label_agreement(features, labels[:5])
    with pytest.raises(DataError, match="labels: class codes from 0 and below 1 expected, got 1 in row 1"):
        label_agreement(features, labels, num_classes=1)
    with pytest.raises(ConfigError, match="k: at least 1 neighbour expected, got 0"):
        label_agreement(features, labels, k=0)
    features[3, 0] = torch.nan
    with pytest.raises(DataError, match="features: row 3 is not finite"):
        label_agreement(features, labels)
    with pytest.raises(DataError, match=r"scores: numbers expected, got NaN in row 1 \(1 such rows\)"):
        keep_most(torch.tensor([0.0, torch.nan]), [0, 0], 0.5)
    with pytest.raises(DataError, match=r"scores: shape \(2,\) expected"):
        keep_most(torch.zeros(3), [0, 0], 0.5)
    for share in (0.0, 1.5):
        with pytest.raises(ConfigError, match=r"share: a share in \(0, 1\] expected"):
            keep_most(torch.zeros(2), [0, 0], share)
    with pytest.raises(ConfigError, match="least: at least 0 items"):
        keep_most(torch.zeros(2), [0, 0], 0.5, least=-1)


def known(share: float | None) -> float:
    """A share that is there."""
    assert share is not None
    return share


@pytest.mark.parametrize("ratio", [10, 100])
def test_agreement_cleans_digits_where_the_outlier_threshold_does_not(ratio: float) -> None:
    """Pixels of digits, 40 % wrong labels: few factors are above 1.5; ranked, they clean less than neighbours do."""
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    subset = long_tail(digits.target, ratio, largest=120, rng=numpy_generator(0, "tail"))
    features = torch.from_numpy(digits.data[subset])
    noisy = label_noise(digits.target[subset], 0.4, num_classes=10, rng=numpy_generator(0, "noise"))
    counts = np.bincount(noisy.labels, minlength=10)
    tail = np.setdiff1d(np.arange(10), head_classes(counts))
    factor = torch.zeros(len(features), dtype=torch.float64)
    for k in range(10):
        mine = torch.from_numpy(noisy.labels == k)
        factor[mine] = local_outlier_factor(features[mine], 20)
    kept = keep_most(label_agreement(features, noisy.labels), noisy.labels, 0.6)
    none, agreeing, threshold, ranked = (
        purity(noisy.true, noisy.labels, mask, subset=tail)
        for mask in (None, kept, factor <= 1.5, keep_most(-factor, noisy.labels, 0.6))
    )
    assert known(none.overall) == pytest.approx(0.6, abs=0.01)
    assert (agreeing.share_kept, ranked.share_kept) == pytest.approx((0.6, 0.6), abs=0.05)
    assert known(agreeing.overall) > known(none.overall) + 0.18
    assert known(agreeing.subset) > known(none.subset) + 0.18
    assert known(agreeing.overall) > known(ranked.overall) + 0.08
    assert known(threshold.overall) < known(none.overall) + 0.03
    assert threshold.share_kept > 0.95
    assert (np.bincount(noisy.labels[kept.numpy()], minlength=10) >= np.minimum(counts, 2)).all()
