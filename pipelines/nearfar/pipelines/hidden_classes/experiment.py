"""Every method on one source: trained on coarse classes, measured by what is left of the fine ones.

A seed decides which rows are trained on, the initial weights and all that training draws; methods share all of that,
so differences between them are paired. What is measured is the frozen encoder:

* ``hidden_nmi``: k-means inside every coarse class that has several fine ones, with as many clusters as these, against
  the fine classes, on the training rows; ``hidden_nmi_test`` on the test rows;
* ``fine_probe``: balanced logistic regression that is told the fine classes of the training rows, balanced accuracy on
  the test rows;
* ``balanced_accuracy``: of coarse classes on the test rows, by the method's own head, or by balanced logistic
  regression on frozen features where it has none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from nearfar.adapters import representations
from nearfar.classification.classifier import class_logits
from nearfar.errors import ConfigError
from nearfar.labels import balanced_accuracy
from nearfar.longtail import fine_probe, fit_head, hidden_nmi
from nearfar.pipelines.hidden_classes.methods import METHODS, Training, chosen, train_method
from nearfar.pipelines.hidden_classes.sources import Labelled, Pool
from nearfar.pipelines.significance import Difference, correct, paired_difference

REFERENCE = "sbcl"
"""Other methods are compared with this one."""

METRICS: Mapping[str, str] = {
    "hidden_nmi": "hidden NMI, training rows",
    "hidden_nmi_test": "hidden NMI, test rows",
    "fine_probe": "fine probe",
    "balanced_accuracy": "coarse accuracy",
}
"""What is measured, and its title."""


@dataclass(frozen=True)
class Scores:
    """One method over the seeds.

    Attributes:
        title: Of the method.
        values: By metric one a seed; ``None`` where nothing could be measured.
    """

    title: str
    values: Mapping[str, tuple[float | None, ...]]


@dataclass(frozen=True)
class DomainResult:
    """What came out for one source.

    Attributes:
        domain: Short name.
        data: Data set.
        about: What rows and classes are.
        digest: Of the data.
        classes: Coarse classes and what they are made of.
        train_rows: How many of all, of the first seed.
        test_rows: How many.
        training: How every method was trained.
        seeds: In order.
        scores: By method.
        differences: By metric: the reference minus each other method, over the seeds.
    """

    domain: str
    data: str
    about: str
    digest: str
    classes: str
    train_rows: int
    test_rows: int
    training: Training
    seeds: tuple[int, ...]
    scores: Mapping[str, Scores]
    differences: Mapping[str, Mapping[str, Difference]]

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return asdict(self)


def run_source(
    pool: Pool,
    seeds: Sequence[int],
    names: Sequence[str] | None = None,
    *,
    advance: Callable[[], object] = lambda: None,
) -> DomainResult:
    """Train and measure every method with every seed.

    Args:
        pool: The rows.
        seeds: One at least.
        names: Methods; all by default. The reference, :data:`REFERENCE`, has to be among them for differences.
        advance: Called after every training.

    Raises:
        ConfigError: If a method is unknown or there is no seed.
        DataError: If a coarse class has no rows.
        MissingDependencyError: If scikit-learn is not installed.
    """
    methods = chosen(names)
    if not seeds:
        raise ConfigError("seeds: at least 1 expected, got none")
    found: dict[str, list[Mapping[str, float | None]]] = {name: [] for name in methods}
    sizes: list[tuple[int, int]] = []
    for seed in seeds:
        train, test = pool.draw(seed)
        sizes.append((len(train.coarse), len(test.coarse)))
        for name in methods:
            encoder = pool.new_encoder(seed)
            classes = len(pool.merging.groups)
            method: Any = train_method(
                name, encoder, train.inputs, train.coarse, classes, pool.training, seed
            )
            found[name].append(measure(method, train, test, classes, seed))
            advance()
    scores = {
        name: Scores(
            METHODS[name].title, {metric: tuple(one[metric] for one in found[name]) for metric in METRICS}
        )
        for name in methods
    }
    return DomainResult(
        domain=pool.domain,
        data=pool.data,
        about=pool.about,
        digest=pool.digest,
        classes=pool.merging.described(pool.names),
        train_rows=sizes[0][0],
        test_rows=sizes[0][1],
        training=pool.training,
        seeds=tuple(seeds),
        scores=scores,
        differences=differences(scores),
    )


def measure(method: Any, train: Labelled, test: Labelled, classes: int, seed: int) -> dict[str, float | None]:
    """What the frozen encoder has kept.

    Args:
        method: Trained; has an ``encoder``, maybe a ``head``.
        train: Rows it was trained on.
        test: Rows to test on.
        classes: Coarse classes.
        seed: Of k-means.

    Returns:
        By metric; the NMI is ``None`` where no coarse class has several fine ones with rows enough.
    """
    z_train, z_test = (representations(method.encoder, part.inputs) for part in (train, test))
    own = getattr(method, "head", None)
    head = own if isinstance(own, nn.Module) else fit_head(z_train, train.coarse, classes)
    predicted = class_logits(method.encoder, head, test.inputs).argmax(1).numpy()
    return {
        "hidden_nmi": hidden_nmi(z_train, train.coarse, train.fine, seed=seed)["mean"],
        "hidden_nmi_test": hidden_nmi(z_test, test.coarse, test.fine, seed=seed)["mean"],
        "fine_probe": fine_probe(z_train, train.fine, z_test, test.fine)["balanced_accuracy"],
        "balanced_accuracy": balanced_accuracy(test.coarse, predicted),
    }


def differences(scores: Mapping[str, Scores]) -> dict[str, dict[str, Difference]]:
    """The reference minus each other method by metric, paired by seed, corrected for the methods (Holm).

    Args:
        scores: By method.

    Returns:
        By metric and method; empty without the reference.
    """
    if REFERENCE not in scores:
        return {}
    ours, found = scores[REFERENCE].values, {}
    for metric in METRICS:
        against = {}
        for name, theirs in scores.items():
            pairs = [
                (a, b)
                for a, b in zip(ours[metric], theirs.values[metric], strict=True)
                if a is not None and b is not None
            ]
            if name != REFERENCE:
                against[name] = paired_difference([a for a, _ in pairs], [b for _, b in pairs])
        found[metric] = correct(against)
    return found
