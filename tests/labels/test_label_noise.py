"""Label noise: exact counts, the transition matrices, and the closed-form class sizes of RCAL's experiments."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nearfar.errors import ConfigError, DataError
from nearfar.labels import NOISE_KINDS, empirical_transition, label_noise, long_tail_counts
from nearfar.labels.label_noise import NoiseKind
from nearfar.runtime import numpy_generator

EXACT: tuple[NoiseKind, ...] = ("imb", "sym", "pair", "flip", "pair-next")


def tail(largest: int = 5000, classes: int = 10, ratio: float = 100) -> np.ndarray:
    return np.repeat(np.arange(classes), long_tail_counts(largest, classes, ratio))


@pytest.mark.parametrize("kind", EXACT)
@pytest.mark.parametrize("rate", [0.1, 0.2, 0.3, 0.4, 0.5])
def test_the_number_of_wrong_labels_is_exact(kind: NoiseKind, rate: float) -> None:
    true = tail()
    noisy = label_noise(true, rate, kind=kind, rng=numpy_generator(0, kind))
    assert noisy.flipped.sum() == int(rate * len(true) + 1e-9)
    assert (noisy.flipped == (noisy.labels != noisy.true)).all()
    assert (noisy.true == true).all()


@pytest.mark.parametrize(
    ("largest", "classes", "ratio", "rate", "size", "right"),
    [
        (5000, 10, 10, 0.4, (4718, 531.6), (0.636, 0.564)),
        (5000, 10, 100, 0.4, (4422, 57.6), (0.678, 0.520)),
        (5000, 10, 100, 0.5, (4278, 59.6), (0.584, 0.420)),
        (500, 100, 100, 0.5, (494, 5.1), (0.506, 0.494)),
    ],
)
def test_expected_class_sizes_of_the_paper(
    largest: int, classes: int, ratio: float, rate: float, size: tuple[float, ...], right: tuple[float, ...]
) -> None:
    """Observed size and share of right labels of the first and last class, n T and n_k T_kk / (n T)_k."""
    counts = long_tail_counts(largest, classes, ratio)
    transition = label_noise(tail(largest, classes, ratio), rate, rng=numpy_generator(0, "a")).transition
    observed = counts @ transition
    assert observed[[0, -1]] == pytest.approx(size, abs=0.51 if size[0] > 100 else 0.06, rel=2e-3)
    assert (counts * transition.diagonal() / observed)[[0, -1]] == pytest.approx(right, abs=1e-3)


def by_loop(kind: str, rate: float, counts: list[int]) -> np.ndarray:
    """Transition matrix of the kinds without pairs, entry by entry."""
    n, classes = sum(counts), len(counts)
    different = 1 - sum((c / n) ** 2 for c in counts)
    table = np.zeros((classes, classes))
    for i in range(classes):
        for j in range(classes):
            table[i, j] = {
                "imb": (1 - rate if i == j else rate * counts[j] / (n - counts[i])),
                "sym": (1 - rate if i == j else rate / (classes - 1)),
                "sym-inclusive": (1 - rate) * (i == j) + rate / classes,
                "pair-next": (1 - rate) * (i == j) + rate * (j == (i + 1) % classes),
                "rolt-new": (1 - rate / different) * (i == j) + rate / different * counts[j] / n,
            }[kind]
    return table


@pytest.mark.parametrize("kind", ["imb", "sym", "sym-inclusive", "pair-next", "rolt-new"])
def test_transition_against_a_loop(kind: NoiseKind) -> None:
    counts = [9, 5, 0, 3, 1]
    noisy = label_noise(np.repeat(np.arange(5), counts), 0.3, kind=kind, rng=numpy_generator(0, "a"))
    assert noisy.transition == pytest.approx(by_loop(kind, 0.3, counts))


@pytest.mark.parametrize("kind", NOISE_KINDS)
def test_a_million_labels_follow_the_transition(kind: NoiseKind) -> None:
    counts = np.array([600_000, 250_000, 100_000, 40_000, 10_000])
    true = numpy_generator(0, "order").permutation(np.repeat(np.arange(5), counts))
    noisy = label_noise(true, 0.4, kind=kind, rng=numpy_generator(0, kind))
    assert noisy.transition.sum(1) == pytest.approx(1)
    assert noisy.empirical.sum(1) == pytest.approx(1)
    sigma = np.sqrt(noisy.transition * (1 - noisy.transition) / counts[:, None])
    assert (np.abs(noisy.empirical - noisy.transition) <= 4 * sigma + 1e-12).all()
    assert noisy.empirical == pytest.approx(empirical_transition(true, noisy.labels))
    expected = 0.4 * (0.8 if kind == "sym-inclusive" else 1)
    assert noisy.flipped.mean() == pytest.approx(expected, abs=3e-3)


def test_a_pair_is_one_other_class_by_seed() -> None:
    true = np.repeat(np.arange(6), 100)
    partners = set()
    for seed in range(10):
        noisy = label_noise(true, 0.5, kind="pair", rng=numpy_generator(seed, "a"))
        targets = [set(noisy.labels[noisy.flipped & (true == k)].tolist()) for k in range(6)]
        assert all(len(found) == 1 and k not in found for k, found in enumerate(targets))
        assert noisy.transition[np.arange(6), [found.pop() for found in targets]] == pytest.approx(0.5)
        partners.add(tuple(noisy.transition.argsort(1)[:, -2].tolist()))
        alias = label_noise(true, 0.5, kind="flip", rng=numpy_generator(seed, "a"))
        assert (alias.labels == noisy.labels).all()
    assert len(partners) > 1
    following = label_noise(true, 0.5, kind="pair-next", rng=numpy_generator(0, "a"))
    assert (following.labels[following.flipped] == (true[following.flipped] + 1) % 6).all()


@pytest.mark.parametrize("kind", NOISE_KINDS)
def test_no_noise_is_the_identity(kind: NoiseKind) -> None:
    for true in (tail(20, 4, 4), np.zeros(3, int), np.zeros(0, int)):
        noisy = label_noise(true, 0.0, kind=kind, num_classes=4, rng=numpy_generator(0, "a"))
        assert (noisy.labels == true).all()
        assert not noisy.flipped.any()
        assert (noisy.transition == np.eye(4)).all()
        assert (noisy.empirical == np.eye(4)).all()


@pytest.mark.parametrize("kind", NOISE_KINDS)
def test_classes_with_one_item_or_none(kind: NoiseKind) -> None:
    true = np.array([0, 0, 0, 0, 3, 5, 5])
    for seed in range(20):
        noisy = label_noise(true, 0.5, kind=kind, num_classes=7, rng=numpy_generator(seed, "a"))
        assert (noisy.labels >= 0).all()
        assert (noisy.labels < 7).all()
        assert np.isfinite(noisy.transition).all()
        assert noisy.transition.sum(1) == pytest.approx(1)
        assert (noisy.empirical[[1, 2, 4, 6]] == np.eye(7)[[1, 2, 4, 6]]).all()
        if kind in ("imb", "rolt-new"):
            assert set(noisy.labels.tolist()) <= {0, 3, 5}


def test_the_same_seed_gives_the_same_labels_of_any_container() -> None:
    true = tail(50, 5, 5)
    first = label_noise(true, 0.4, rng=numpy_generator(3, "a")).labels
    assert (label_noise(torch.from_numpy(true), 0.4, rng=numpy_generator(3, "a")).labels == first).all()
    assert (label_noise(true.tolist(), 0.4, rng=numpy_generator(3, "a")).labels == first).all()
    assert (label_noise(true.astype(np.uint8), 0.4, rng=numpy_generator(3, "a")).labels == first).all()
    assert (label_noise(true, 0.4, rng=numpy_generator(4, "a")).labels != first).any()
    assert (true == tail(50, 5, 5)).all()


def test_bad_noise() -> None:
    rng = numpy_generator(0, "a")
    for rate in (-0.1, 1.0, float("nan")):
        with pytest.raises(ConfigError, match=r"rate: a share in \[0, 1\) expected"):
            label_noise([0, 1], rate, rng=rng)
    with pytest.raises(ConfigError, match="kind: 'symm' is unknown; did you mean 'sym'"):
        label_noise([0, 1], 0.1, kind="symm", rng=rng)  # type: ignore[arg-type]
    for kind in NOISE_KINDS:
        with pytest.raises(DataError, match="labels: a second class"):
            label_noise([0, 0], 0.1, kind=kind, rng=rng)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="a second class with items is needed"):
        label_noise([1, 1], 0.1, num_classes=3, rng=rng)
    with pytest.raises(ConfigError, match="at most 0.18 is possible with kind='rolt-new'"):
        label_noise([0] * 9 + [1], 0.5, kind="rolt-new", rng=rng)
    with pytest.raises(DataError, match=r"labels: class codes from 0 and below 2 expected, got 2 in row 1"):
        label_noise([0, 2], 0.1, num_classes=2, rng=rng)
    with pytest.raises(DataError, match="labels: class codes from 0 expected, got -1 in row 0"):
        label_noise([-1, 2], 0.1, rng=rng)
    with pytest.raises(DataError, match="encode_labels makes codes"):
        label_noise(["a", "b"], 0.1, rng=rng)
    with pytest.raises(DataError, match="given: 2 labels expected"):
        empirical_transition([0, 1], [0])
