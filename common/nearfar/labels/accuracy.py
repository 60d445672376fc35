"""Accuracies that count classes, not items, and those of frequent, medium and rare classes."""

from __future__ import annotations

import numpy as np

from nearfar.errors import ConfigError, DataError
from nearfar.labels.codes import Values, as_array, class_codes


def recall_by_class(true: Values, predicted: Values) -> dict[int, float]:
    """Share of the items of each class that were recognised.

    Args:
        true: Class codes, shape ``(n,)``.
        predicted: Class codes, shape ``(n,)``.

    Returns:
        By class, ascending; a class that does not occur among the true ones is left out.

    Raises:
        DataError: If these are no class codes, or of different length.

    Example:
        >>> recall_by_class([0, 0, 2, 2], [0, 1, 2, 2])
        {0: 0.5, 2: 1.0}
    """
    right, guess = class_codes("true", true), class_codes("predicted", predicted)
    if right.shape != guess.shape:
        raise DataError(f"predicted: {len(right)} labels expected, as many as true ones, got {len(guess)}")
    items = np.bincount(right)
    hits = np.bincount(right[right == guess], minlength=len(items))
    return {int(k): float(hits[k] / items[k]) for k in np.flatnonzero(items)}


def balanced_accuracy(true: Values, predicted: Values) -> float:
    """Mean recall over the classes that occur.

    Args:
        true: Class codes, shape ``(n,)``.
        predicted: Class codes, shape ``(n,)``.

    Raises:
        DataError: If these are no class codes, of different length, or there are none.

    Example:
        >>> balanced_accuracy([0, 0, 0, 1], [0, 0, 0, 0])
        0.5
    """
    recalls = recall_by_class(true, predicted)
    if not recalls:
        raise DataError("true: no items to measure accuracy on")
    return float(np.mean(list(recalls.values())))


def classification_scores(true: Values, predicted: Values, counts: Values) -> dict[str, float]:
    """What classifiers of long tails are reported by.

    Args:
        true: Class codes of test items, shape ``(n,)``.
        predicted: Class codes, shape ``(n,)``.
        counts: Training items of each class, shape ``(K,)``.

    Returns:
        ``accuracy``, ``balanced_accuracy``, and those of :func:`accuracy_by_frequency`.

    Raises:
        DataError: As :func:`accuracy_by_frequency`.

    Example:
        >>> classification_scores([0, 1], [0, 0], [30, 5])
        {'accuracy': 0.5, 'balanced_accuracy': 0.5, 'medium': 1.0, 'few': 0.0}
    """
    right = as_array(true) == as_array(predicted)
    found = {
        "accuracy": float(np.mean(right, dtype=np.float64)),
        "balanced_accuracy": balanced_accuracy(true, predicted),
    }
    return {**found, **accuracy_by_frequency(true, predicted, counts)}


def accuracy_by_frequency(
    true: Values, predicted: Values, counts: Values, *, many: int = 100, few: int = 20
) -> dict[str, float]:
    """Mean recall over the classes with many, a medium number of and few training items (Liu et al., CVPR 2019).

    On a balanced test set that is the accuracy on the items of these classes.

    Args:
        true: Class codes of test items, shape ``(n,)``.
        predicted: Class codes, shape ``(n,)``.
        counts: Training items of each class, shape ``(K,)``.
        many: Classes with more training items are ``"many"``.
        few: Classes with fewer are ``"few"``; all others are ``"medium"``.

    Returns:
        By name of the group; one without a class among the true ones is left out.

    Raises:
        ConfigError: If ``few`` is above ``many + 1``, so that a class would be in both groups.
        DataError: If these are no class codes, of different length, or not below K.

    Example:
        >>> accuracy_by_frequency([0, 1, 2, 2], [0, 0, 2, 1], [500, 60, 5])
        {'many': 1.0, 'medium': 0.0, 'few': 0.5}
    """
    if few > many + 1:
        raise ConfigError(f"few: at most many + 1 = {many + 1} expected, got {few}")
    sizes = as_array(counts)
    recalls = recall_by_class(class_codes("true", true, len(sizes)), predicted)
    groups: dict[str, list[float]] = {"many": [], "medium": [], "few": []}
    for k, recall in recalls.items():
        groups["many" if sizes[k] > many else "few" if sizes[k] < few else "medium"].append(recall)
    return {name: float(np.mean(found)) for name, found in groups.items() if found}
