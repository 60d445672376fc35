"""A support vector machine on representations, the probe of the UEA tables (TS2Vec, Yue et al., AAAI 2022).

The kernel is Gaussian, its width that of the features' variance, the penalty chosen on the training rows. Features are
not scaled. Their program asks for an infinite penalty, which scikit-learn has refused since 1.2: 1e8 stands for it.
"""

from __future__ import annotations

import warnings as python_warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.optional import require
from nearfar.runtime import numpy_generator
from nearfar.timeseries.classification.arrays import Values, probe_arrays

UNBOUNDED = 1e8
PENALTIES = (*(10.0**power for power in range(-4, 5)), UNBOUNDED)
FOLDS = 5
FEWEST_ROWS = 50
FEWEST_PER_CLASS = 5
MOST_ROWS = 10_000


def svm_probe(z_train: Values, y_train: Values, z_test: Values, *, seed: int = 0) -> Tensor:
    """Predict by a support vector machine.

    With fewer than 50 rows, or 5 a class on average, nothing is chosen and the penalty is unbounded.

    Args:
        z_train: Features, shape ``(N, D)``.
        y_train: Classes, shape ``(N,)``.
        z_test: Features, shape ``(M, D)``.
        seed: Of the 10,000 rows that are learnt from if there are more.

    Returns:
        Classes, int64, shape ``(M,)``.

    Raises:
        DataError: If the arrays do not go together.
        MissingDependencyError: If scikit-learn is not installed.
    """
    svm = require("sklearn.svm", "the probe by a support vector machine")
    train, y, test = probe_arrays(z_train, y_train, z_test)
    if not len(test):
        return torch.zeros(0, dtype=torch.int64)
    model: Any = svm.SVC(C=UNBOUNDED, gamma="scale")
    if len(y) >= FEWEST_ROWS and len(y) / len(np.unique(y)) >= FEWEST_PER_CLASS:
        selection = require("sklearn.model_selection", "the probe by a support vector machine")
        machine = svm.SVC(gamma="scale", max_iter=10_000_000)
        model = selection.GridSearchCV(machine, {"C": PENALTIES}, cv=FOLDS)
        kept = stratified_sample(y, MOST_ROWS, seed)
        train, y = train[kept], y[kept]
    with python_warnings.catch_warnings():
        # A class with fewer members than folds is missing from some of them, a penalty that does not converge is
        # compared as it is, and classes may be many: all part of the protocol.
        for message in (
            "The least populated class",
            "Solver terminated early",
            "The number of unique classes is greater than 50%",
        ):
            python_warnings.filterwarnings("ignore", message=message)
        model.fit(train, y)
    return torch.from_numpy(np.asarray(model.predict(test), dtype=np.int64))


def stratified_sample(y: NDArray[np.int64], size: int, seed: int) -> NDArray[np.int64]:
    """Rows of every class in proportion, at least one of each; all of them if there are no more than ``size``.

    Args:
        y: Classes, shape ``(N,)``.
        size: Rows wanted; more are taken where one of each class and the shares of large classes come to more.
        seed: Of the choice.

    Returns:
        Ascending places, shape ``(n,)``.

    Example:
        >>> chosen = stratified_sample(np.array([0] * 90 + [1] * 10), size=20, seed=0)
        >>> (chosen < 90).sum().item(), (chosen >= 90).sum().item()
        (18, 2)
    """
    if len(y) <= size:
        return np.arange(len(y))
    rng = numpy_generator(seed, "stratified_sample")
    labels, counts = np.unique(y, return_counts=True)
    shares = counts * (size / len(y))
    sizes = np.maximum(shares.astype(int), 1)
    # What rounding left over goes to the largest remainders, the first of equals.
    for place in np.argsort(-(shares - sizes), kind="stable")[: max(size - int(sizes.sum()), 0)]:
        sizes[place] += 1
    return np.sort(
        np.concatenate(
            [
                rng.permutation(np.flatnonzero(y == label))[:wanted]
                for label, wanted in zip(labels, sizes, strict=True)
            ]
        )
    )
