"""Folds that work for the smallest classes, and how well a probe does on rows held out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.errors import ConfigError, DataError
from nearfar.runtime import numpy_generator
from nearfar.timeseries.classification.arrays import Values, probe_arrays

Probe = Callable[[Values, Values, Values], Tensor]

NEVER = -1


def stratified_folds(y: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """Divide rows so that every fold has nearly as many of each class, and of all.

    The members of a class go round the folds, and the next class starts where it ended: with two members and five
    folds, either is predicted from the other. The only member of a class is never held out, nothing would be left to
    learn it from. There are fewer folds if fewer rows can be held out.

    Args:
        y: Classes, shape ``(N,)``.
        folds: Folds at most.
        seed: Of the order in every class.

    Returns:
        The fold of every row from 0, -1 for one that is never held out; shape ``(N,)``.

    Raises:
        ConfigError: If there are fewer than two folds.
        DataError: If no class has two members.

    Example:
        >>> stratified_folds(np.array([0, 0, 1, 1, 2]), folds=2, seed=0).tolist()[4]
        -1
    """
    if folds < 2:
        raise ConfigError(f"folds: 2 at least expected, got {folds}")
    rng = numpy_generator(seed, "folds")
    labels, counts = np.unique(y, return_counts=True)
    folds = min(folds, int(counts[counts > 1].sum()))
    if folds < 2:
        raise DataError("y: no class has two members, nothing can be held out; use more series")
    fold, following = np.full(len(y), NEVER), 0
    for label, count in zip(labels, counts, strict=True):
        if count > 1:
            members = rng.permutation(np.flatnonzero(y == label))
            fold[members] = (following + np.arange(count)) % folds
            following = (following + int(count)) % folds
    return fold


def held_out_accuracy(z: Values, y: Values, probe: Probe, seed: int, folds: int = 5) -> float:
    """Share of the rows held out that a probe trained on the others gets right.

    Args:
        z: Features, shape ``(N, D)``.
        y: Classes, shape ``(N,)``.
        probe: Takes training features, their classes, and features to predict; returns classes, shape ``(M,)``.
        seed: Of the folds.
        folds: Folds at most; at least two.

    Raises:
        ConfigError: If there are fewer than two folds.
        DataError: If the arrays do not go together, or nothing can be held out.
    """
    rows, labels, _ = probe_arrays(z, y, z)
    fold = stratified_folds(labels, folds, seed)
    hits = 0
    for number in range(int(fold.max()) + 1):
        held = fold == number
        # Every class keeps a member outside of every fold.
        predicted = torch.as_tensor(probe(rows[~held], labels[~held], rows[held])).cpu().numpy()
        hits += int((predicted == labels[held]).sum())
    return hits / int((fold != NEVER).sum())
