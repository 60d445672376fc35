"""Every baseline on the representations of one domain: a long tail with 40 % wrong labels, and with none.

A seed decides which training rows are chosen, which of their labels become wrong, and what a classifier draws. What it
does not decide is the representation and the test rows: the spread over seeds is that of labels, not of encoders. All
test rows have true labels, and what is measured is the mean recall over classes, which weighs them alike however many
rows they have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearfar.errors import ConfigError
from nearfar.labels import (
    Purity,
    balanced_accuracy,
    class_counts,
    head_classes,
    label_noise,
    long_tail,
    purity,
)
from nearfar.pipelines.noisy_labels.baselines import Baseline, CannotRunError, available
from nearfar.pipelines.noisy_labels.filters import filters
from nearfar.pipelines.noisy_labels.representations import Representations
from nearfar.pipelines.significance import Difference, correct, paired_difference
from nearfar.runtime import numpy_generator

REFERENCE = "rcal-knn"
"""Baselines are compared with this one."""


@dataclass(frozen=True)
class Setting:
    """What is done to the labels.

    Attributes:
        rate: Share of labels made wrong, in (0, 1), as of ``label_noise(kind="imb")``.
        ratio: Wished ratio of the largest class to the smallest; no more than the largest class has rows.
        seeds: Seeds 0, 1, ...

    Raises:
        ConfigError: If one is out of bounds.
    """

    rate: float = 0.4
    ratio: float = 10.0
    seeds: int = 5

    def __post_init__(self) -> None:
        """Check all of it once."""
        if not 0 < self.rate < 1:
            raise ConfigError(f"rate: a share in (0, 1) expected, got {self.rate}")
        if not 1 <= self.ratio < np.inf:
            raise ConfigError(f"ratio: a finite number of at least 1 expected, got {self.ratio}")
        if self.seeds < 1:
            raise ConfigError(f"seeds: at least 1 expected, got {self.seeds}")


@dataclass(frozen=True)
class Scores:
    """One baseline over the seeds.

    Attributes:
        title: Of the baseline.
        clean: Balanced accuracy after training with true labels, one a seed; ``None`` where it cannot run.
        noisy: The same with wrong labels.
        notes: Why it could not, each reason once.
    """

    title: str
    clean: tuple[float | None, ...]
    noisy: tuple[float | None, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class DomainResult:
    """What came out for one domain.

    Attributes:
        domain: Short name.
        data: Data set.
        about: What rows and classes are.
        digest: Of features and labels.
        features: Of a row.
        counts: Training rows of each class before labels become wrong.
        test_rows: How many.
        setting: What was done to the labels.
        scores: By baseline.
        purities: By filter (``none``, ``lof``, ``knn``, ``cleanlab``) one a seed; ``None`` where it cannot run. The
            subset in it is the tail.
        differences: The reference minus each other baseline with wrong labels, over the seeds that both ran with.
        left_out: Why baselines are not among the scores.
    """

    domain: str
    data: str
    about: str
    digest: str
    features: int
    counts: tuple[int, ...]
    test_rows: int
    setting: Setting
    scores: Mapping[str, Scores]
    purities: Mapping[str, tuple[Purity | None, ...]]
    differences: Mapping[str, Difference]
    left_out: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return asdict(self)


def run_domain(
    data: Representations,
    setting: Setting | None = None,
    names: Sequence[str] | None = None,
    *,
    advance: Callable[[], object] = lambda: None,
) -> DomainResult:
    """Train every baseline with every seed, on true labels and on wrong ones.

    Args:
        data: Representations and true labels.
        setting: What is done to the labels.
        names: Baselines; all by default. The reference, :data:`REFERENCE`, has to be among them for differences.
        advance: Called after every training.

    Raises:
        ConfigError: If a baseline is unknown.
        DataError: If a class has no training rows.
    """
    setting = setting or Setting()
    baselines, left_out = available(names)
    clean: dict[str, list[float | None]] = {baseline.name: [] for baseline in baselines}
    noisy: dict[str, list[float | None]] = {baseline.name: [] for baseline in baselines}
    notes: dict[str, list[str]] = {baseline.name: [] for baseline in baselines}
    purities: dict[str, list[Purity | None]] = {}
    for seed in range(setting.seeds):
        rows = long_tail(
            data.y_train,
            min(setting.ratio, max(int(class_counts(data.y_train)[0]), 1)),
            rng=numpy_generator(seed, "long tail"),
        )
        true = data.y_train[rows]
        labels = label_noise(
            true, setting.rate, num_classes=len(data.classes), rng=numpy_generator(seed, "label noise")
        ).labels
        for found, given in ((clean, true), (noisy, labels)):
            for baseline in baselines:
                found[baseline.name].append(_score(baseline, data, rows, given, seed, notes[baseline.name]))
                advance()
        for name, one in _purities(data.x_train[rows], true, labels, seed).items():
            purities.setdefault(name, []).append(one)
    return DomainResult(
        domain=data.domain,
        data=data.data,
        about=data.about,
        digest=data.digest(),
        features=data.x_train.shape[1],
        counts=tuple(class_counts(true, len(data.classes)).tolist()),
        test_rows=len(data.y_test),
        setting=setting,
        scores={
            b.name: Scores(
                b.title, tuple(clean[b.name]), tuple(noisy[b.name]), tuple(dict.fromkeys(notes[b.name]))
            )
            for b in baselines
        },
        purities={name: tuple(values) for name, values in purities.items()},
        differences=differences(noisy),
        left_out=left_out,
    )


def differences(noisy: Mapping[str, Sequence[float | None]]) -> dict[str, Difference]:
    """The reference minus each other baseline, paired by seed, p-values corrected for their number (Holm).

    Args:
        noisy: Values by baseline, one a seed.

    Returns:
        Empty without the reference.
    """
    ours = noisy.get(REFERENCE, ())
    found = {}
    for name, theirs in noisy.items():
        pairs = [(a, b) for a, b in zip(ours, theirs, strict=False) if a is not None and b is not None]
        if name != REFERENCE:
            found[name] = paired_difference([a for a, _ in pairs], [b for _, b in pairs])
    return correct(found)


def _score(
    baseline: Baseline,
    data: Representations,
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    seed: int,
    notes: list[str],
) -> float | None:
    try:
        predicted = baseline.fit_predict(data.x_train[rows], labels, data.x_test, seed)
    except CannotRunError as error:
        notes.append(str(error))
        return None
    return balanced_accuracy(data.y_test, predicted)


def _purities(
    x: NDArray[Any], true: NDArray[np.int64], labels: NDArray[np.int64], seed: int
) -> dict[str, Purity | None]:
    """Share of right labels of all rows, and of those that each filter keeps."""
    counts = class_counts(labels)
    tail = np.setdiff1d(np.flatnonzero(counts), head_classes(counts))
    return {
        name: None if mask is None else purity(true, labels, mask, subset=tail)
        for name, mask in filters(x, labels, seed).items()
    }
