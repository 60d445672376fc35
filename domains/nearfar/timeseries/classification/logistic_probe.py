"""Logistic regression on frozen representations, its penalty chosen by cross-validation on the training rows."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nearfar.optional import require
from nearfar.timeseries.classification.arrays import Values, probe_arrays, scaled_by
from nearfar.timeseries.classification.folds import held_out_accuracy

# Inverse strengths of the penalty.
STRENGTHS = tuple(10.0**power for power in range(-3, 4))
FOLDS = 5
MAX_ITERATIONS = 10_000


def logistic_probe(z_train: Values, y_train: Values, z_test: Values, *, seed: int = 0) -> Tensor:
    """Predict by logistic regression on columns of deviation 1.

    Args:
        z_train: Features, shape ``(N, D)``.
        y_train: Classes, shape ``(N,)``.
        z_test: Features, shape ``(M, D)``.
        seed: Of the folds that choose the penalty, the strongest of equals. If no class has two members, it is 1.

    Returns:
        Classes, int64, shape ``(M,)``.

    Raises:
        DataError: If the arrays do not go together.
        MissingDependencyError: If scikit-learn is not installed.
    """
    train, y, test = probe_arrays(z_train, y_train, z_test)
    strength = 1.0
    if np.unique(y, return_counts=True)[1].max() > 1:
        accuracy = {
            strength: held_out_accuracy(train, y, partial(_predict, strength=strength), seed, FOLDS)
            for strength in STRENGTHS
        }
        strength = max(STRENGTHS, key=lambda tried: (accuracy[tried], -tried))
    return _predict(train, y, test, strength=strength)


def _predict(z_train: Values, y_train: Values, z_test: Values, *, strength: float) -> Tensor:
    linear_model = require("sklearn.linear_model", "the logistic probe")
    train, y, test = probe_arrays(z_train, y_train, z_test)
    if not len(test):
        return torch.zeros(0, dtype=torch.int64)
    train, test = scaled_by(train, test)
    # lbfgs draws nothing at random.
    model: Any = linear_model.LogisticRegression(C=strength, max_iter=MAX_ITERATIONS)
    return torch.from_numpy(np.asarray(model.fit(train, y).predict(test), dtype=np.int64))
