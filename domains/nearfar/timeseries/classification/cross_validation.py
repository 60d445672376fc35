"""How well a probe does on training series it has not seen: what selects, where there is no validation part."""

from __future__ import annotations

from functools import partial

from nearfar.timeseries.classification.arrays import Values
from nearfar.timeseries.classification.folds import Probe, held_out_accuracy
from nearfar.timeseries.classification.probe import Classifier, classify


def cross_validated_accuracy(
    z: Values, y: Values, probe: Classifier | Probe, seed: int, folds: int = 5
) -> float:
    """Share of held-out rows that a probe trained on the others gets right.

    The folds are those of :func:`~nearfar.timeseries.classification.folds.stratified_folds`: there are fewer for tiny
    sets, and the only member of a class is always trained on.

    Args:
        z: Features, shape ``(N, D)``.
        y: Classes, shape ``(N,)``.
        probe: ``svm``, ``knn`` or ``logistic``, or a function of training features, their classes, and features to
            predict.
        seed: Of the folds, and of the probe.
        folds: Folds at most; at least two.

    Raises:
        ConfigError: If there are fewer than two folds, or the probe is unknown.
        DataError: If the arrays do not go together, or nothing can be held out.

    Example:
        >>> import torch
        >>> z = torch.tensor([[0.0], [1.0], [8.0], [9.0]])
        >>> cross_validated_accuracy(z, torch.tensor([0, 0, 1, 1]), "knn", seed=0)
        1.0
    """
    predict = partial(classify, probe, seed=seed) if isinstance(probe, str) else probe
    return held_out_accuracy(z, y, predict, seed, folds)
