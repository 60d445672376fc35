"""Wrong labels made on purpose, with the transition matrix they follow and the one they happened to have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from nearfar.config.suggest import suggest
from nearfar.errors import ConfigError, DataError
from nearfar.labels.codes import Values, class_codes, class_counts
from nearfar.scalars import is_number

NoiseKind: TypeAlias = Literal["imb", "sym", "sym-inclusive", "pair", "flip", "pair-next", "rolt-new"]
NOISE_KINDS: tuple[str, ...] = get_args(NoiseKind)


@dataclass(frozen=True)
class NoisyLabels:
    """Labels of which some are wrong, and what is known about it.

    Attributes:
        labels: As given to a learner, shape ``(n,)``.
        true: As they were, shape ``(n,)``.
        flipped: Where the two differ, shape ``(n,)``.
        transition: Probability of each given label (columns) for each true class (rows), shape ``(K, K)``.
        empirical: Share of each given label among the items of each true class, shape ``(K, K)``; for a class without
            items the row of the identity.
    """

    labels: NDArray[np.int64]
    true: NDArray[np.int64]
    flipped: NDArray[np.bool_]
    transition: NDArray[np.float64]
    empirical: NDArray[np.float64]


def label_noise(
    labels: Values,
    rate: float,
    *,
    kind: NoiseKind = "imb",
    num_classes: int | None = None,
    rng: np.random.Generator,
) -> NoisyLabels:
    """Make a share of the labels wrong.

    Every kind draws ``int(rate * n)`` rows without replacement from the whole set (``"rolt-new"`` more) and gives
    them new labels. So the number of rows is exact, and that of a class is random with ``rate`` as its expected share.
    The generators of TABASCO toss a coin for each item instead; expectations are the same.

    ===================  ====================================================================================
    ``"imb"``            another class j with probability ``n_j / (n - n_i)``; RoLT, and RCAL's experiments
    ``"sym"``            any other class, all alike; RoLT
    ``"sym-inclusive"``  any class, its own too, so that ``rate * (K - 1) / K`` become wrong; TABASCO's "unif"
    ``"pair"``           one other class, drawn for each class; TABASCO's "flip", which is also accepted
    ``"pair-next"``      class ``i + 1``, and 0 after the last
    ``"rolt-new"``       ``int(rate / r * n)`` rows, ``r = 1 - sum (n_k / n)^2``, any class j with probability
                         ``n_j / n``, its own too: ``rate`` of all become wrong, of a large class fewer
    ===================  ====================================================================================

    RCAL: Zhang et al., ICCV 2023; RoLT: Wei et al., "Robust long-tailed learning under label noise", 2021; TABASCO: Lu
    et al., ICCV 2023.

    Args:
        labels: True class codes, shape ``(n,)``.
        rate: In [0, 1).
        kind: One of the table.
        num_classes: K; by default one more than the largest code.
        rng: Source of all draws.

    Returns:
        The noisy labels; with rate 0 the true ones.

    Raises:
        ConfigError: If ``rate`` is out of bounds, or too high for ``"rolt-new"`` on these classes, or ``kind`` is
            unknown.
        DataError: If labels are no class codes, or there is no other class to change to.

    Example:
        >>> from nearfar.runtime import numpy_generator
        >>> noisy = label_noise([0, 0, 0, 1, 1, 2], 0.5, rng=numpy_generator(0, "noise"))
        >>> int(noisy.flipped.sum()), noisy.transition[0].round(3).tolist()
        (3, [0.5, 0.333, 0.167])
    """
    if not is_number(rate) or not 0 <= rate < 1:
        raise ConfigError(f"rate: a share in [0, 1) expected, got {rate!r}")
    if kind not in NOISE_KINDS:
        otherwise = f"choose {', '.join(NOISE_KINDS)}"
        raise ConfigError(f"kind: {kind!r} is unknown; {suggest(kind, NOISE_KINDS, otherwise)}")
    true = class_codes("labels", labels, num_classes)
    counts = class_counts(true, num_classes)
    share = _share_drawn(rate, kind, counts)
    rows = rng.choice(len(true), int(share * len(true) + 1e-9), replace=False)
    partner = _partners(kind, len(counts), rng)
    given = true.copy()
    given[rows] = _drawn_labels(kind, true[rows], counts, partner, rng)
    transition = (1 - share) * np.eye(len(counts)) + share * _targets(kind, counts, partner)
    return NoisyLabels(given, true, given != true, transition, empirical_transition(true, given, len(counts)))


def empirical_transition(true: Values, given: Values, num_classes: int | None = None) -> NDArray[np.float64]:
    """Share of each given label among the items of each true class.

    Args:
        true: Class codes, shape ``(n,)``.
        given: Class codes, shape ``(n,)``.
        num_classes: K; by default one more than the largest code of either.

    Returns:
        Shape ``(K, K)``; rows sum to 1. For a class without items the row of the identity.

    Raises:
        DataError: If these are no class codes, or of different length.

    Example:
        >>> empirical_transition([0, 0, 2], [0, 1, 2]).tolist()
        [[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    first, second = class_codes("true", true, num_classes), class_codes("given", given, num_classes)
    if first.shape != second.shape:
        raise DataError(f"given: {len(first)} labels expected, as many as true ones, got {len(second)}")
    size = int(max(first.max(initial=-1), second.max(initial=-1))) + 1 if num_classes is None else num_classes
    table = np.bincount(first * size + second, minlength=size * size).reshape(size, size).astype(np.float64)
    table[table.sum(1) == 0] = np.eye(size)[table.sum(1) == 0]
    found: NDArray[np.float64] = table / table.sum(1, keepdims=True)
    return found


def _share_drawn(rate: float, kind: NoiseKind, counts: NDArray[np.int64]) -> float:
    """Share of the rows that get a new label."""
    if rate == 0 or not counts.sum():
        return 0.0
    # Where targets are drawn by size, an empty class is no target.
    by_size = kind in ("imb", "rolt-new")
    if (np.count_nonzero(counts) if by_size else len(counts)) < 2:
        raise DataError(
            f"labels: a second class{' with items' * by_size} is needed to make labels wrong, kind={kind!r}"
        )
    if kind != "rolt-new":
        return rate
    different = 1 - float(((counts / counts.sum()) ** 2).sum())
    if rate > different:
        raise ConfigError(
            f"rate: at most {different:.4g} is possible with kind='rolt-new' here, got {rate}; take kind='imb'"
        )
    return rate / different


def _partners(kind: NoiseKind, num_classes: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The class that each one is confused with; only pairs ask for it."""
    own = np.arange(num_classes)
    if kind in ("pair", "flip") and num_classes > 1:
        other = rng.integers(0, num_classes - 1, num_classes)
        return other + (other >= own)
    return (own + 1) % max(num_classes, 1)


def _drawn_labels(
    kind: NoiseKind,
    true: NDArray[np.int64],
    counts: NDArray[np.int64],
    partner: NDArray[np.int64],
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    num_classes, n = len(counts), int(counts.sum())
    if not len(true):
        return true
    if kind == "sym":
        other = rng.integers(0, num_classes - 1, len(true))
        return other + (other >= true)
    if kind == "sym-inclusive":
        return rng.integers(0, num_classes, len(true))
    if kind in ("imb", "rolt-new"):
        # The class of an item drawn from all items, in order of their classes; those of the own class are skipped.
        ends = np.cumsum(counts)
        if kind == "rolt-new":
            item = rng.integers(0, n, len(true))
        else:
            item = rng.integers(0, n - counts[true])
            item += counts[true] * (item >= (ends - counts)[true])
        return np.searchsorted(ends, item, side="right").astype(np.int64)
    return partner[true]


def _targets(kind: NoiseKind, counts: NDArray[np.int64], partner: NDArray[np.int64]) -> NDArray[np.float64]:
    """Probability of each new label by true class, (K, K)."""
    num_classes, n = len(counts), max(int(counts.sum()), 1)
    targets = np.zeros((num_classes, num_classes))
    if kind == "sym":
        targets += (1 - np.eye(num_classes)) / max(num_classes - 1, 1)
    elif kind == "sym-inclusive":
        targets += 1 / num_classes
    elif kind == "rolt-new":
        targets += counts / n
    elif kind == "imb":
        targets += counts / np.maximum(n - counts, 1)[:, None]
        np.fill_diagonal(targets, 0)
    else:
        targets[np.arange(num_classes), partner] = 1
    return targets
