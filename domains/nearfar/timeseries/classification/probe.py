"""Probes by name."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from nearfar.errors import ConfigError
from nearfar.timeseries.classification.arrays import Values
from nearfar.timeseries.classification.knn_probe import knn_probe
from nearfar.timeseries.classification.logistic_probe import logistic_probe
from nearfar.timeseries.classification.svm_probe import svm_probe

Classifier = Literal["svm", "knn", "logistic"]


def classify(
    classifier: Classifier, z_train: Values, y_train: Values, z_test: Values, *, seed: int = 0
) -> Tensor:
    """Predict by the probe of that name, with its defaults.

    Args:
        classifier: ``svm`` (the published one), ``knn`` (one neighbour) or ``logistic``.
        z_train: Features, shape ``(N, D)``.
        y_train: Classes, shape ``(N,)``.
        z_test: Features, shape ``(M, D)``.
        seed: Of what a probe draws.

    Returns:
        Classes, int64, shape ``(M,)``.

    Raises:
        ConfigError: If there is no such probe.
        DataError: If the arrays do not go together.
        MissingDependencyError: If scikit-learn is needed and not installed.
    """
    if classifier == "svm":
        return svm_probe(z_train, y_train, z_test, seed=seed)
    if classifier == "knn":
        return knn_probe(z_train, y_train, z_test)
    if classifier == "logistic":
        return logistic_probe(z_train, y_train, z_test, seed=seed)
    raise ConfigError(f"classifier: one of {', '.join(get_args(Classifier))} expected, got {classifier!r}")
