"""How much of a finer labelling a representation keeps that was trained on coarse labels only.

Supervised contrast tends to collapse a class into a point; what is inside a class, known here for the measurement and
to nobody else, is then lost.
"""

from __future__ import annotations

import warnings
from typing import Any, TypedDict

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nearfar.errors import DataError
from nearfar.labels import balanced_accuracy, class_codes
from nearfar.labels.codes import Values
from nearfar.longtail.heads.fitting import fit_head
from nearfar.neighbors import feature_rows
from nearfar.optional import require
from nearfar.runtime import stream_seed

STARTS = 10
"""Of k-means, of which the best counts."""


class HiddenNMI(TypedDict):
    """Normalised mutual information of clusters and fine classes, from 0 to 1.

    Attributes:
        mean: Over rows of the coarse classes that are measured; ``None`` if there are none.
        by_class: By coarse class.
    """

    mean: float | None
    by_class: dict[int, float]


class ProbeAccuracy(TypedDict):
    """What a probe got right.

    Attributes:
        accuracy: Share of rows.
        balanced_accuracy: Mean share over the classes that occur.
    """

    accuracy: float
    balanced_accuracy: float


def hidden_nmi(features: Tensor | NDArray[Any], coarse: Values, fine: Values, *, seed: int = 0) -> HiddenNMI:
    """Cluster each coarse class into as many clusters as it has fine classes, and compare.

    By k-means on unit features. Measured are coarse classes with at least two fine ones, and at least two rows for each
    of them on average: fewer rows agree with any labels. A class does not notice the other ones.

    Args:
        features: Shape ``(n, m)``; a row of zeros stays one.
        coarse: Class codes, shape ``(n,)``.
        fine: Class codes, shape ``(n,)``.
        seed: Of the starts of k-means.

    Raises:
        DataError: If features are not finite, or labels are no class codes, one a row.
        MissingDependencyError: If scikit-learn is not installed.

    Example:
        >>> import torch
        >>> turn = torch.arange(8) * 0.01 + torch.tensor([0, 0, 0, 0, 2, 2, 2, 2])
        >>> features = torch.stack([turn.cos(), turn.sin()], 1)
        >>> hidden_nmi(features, [0] * 8, [0] * 4 + [1] * 4)
        {'mean': 1.0, 'by_class': {0: 1.0}}
    """
    # In float64, where the square of the smallest float32 is no zero.
    rows = F.normalize(feature_rows("features", features).double(), dim=1, eps=1e-100).cpu().numpy()
    outer, inner = (_codes(name, labels, len(rows)) for name, labels in (("coarse", coarse), ("fine", fine)))
    found: dict[int, float] = {}
    sizes: list[int] = []
    for k in np.unique(outer).tolist():
        own = outer == k
        clusters, size = len(np.unique(inner[own])), int(own.sum())
        if clusters > 1 and size >= 2 * clusters:
            found[k] = _nmi(rows[own], inner[own], clusters, stream_seed(seed, "hidden_classes", k))
            sizes.append(size)
    mean = float(np.average(list(found.values()), weights=sizes)) if found else None
    return {"mean": mean, "by_class": found}


def fine_probe(
    train_features: Tensor | NDArray[Any],
    train_fine: Values,
    test_features: Tensor | NDArray[Any],
    test_fine: Values,
) -> ProbeAccuracy:
    """Accuracies of balanced logistic regression that was told the fine classes.

    Args:
        train_features: Shape ``(n, m)``.
        train_fine: Class codes, shape ``(n,)``.
        test_features: Shape ``(N, m)``, as wide and precise as those of training.
        test_fine: Class codes, shape ``(N,)``; one that training does not have is never right.

    Raises:
        DataError: If features are not finite or do not go together, labels are no class codes, one a row, or there is
            no row.
        MissingDependencyError: If scikit-learn is not installed.

    Example:
        >>> fine_probe(np.array([[0.0], [0.1], [1.0]]), [0, 0, 1], np.array([[0.2], [0.3], [0.9]]), [0, 1, 1])
        {'accuracy': 0.6666666666666666, 'balanced_accuracy': 0.75}
    """
    train, test = feature_rows("train_features", train_features), feature_rows("test_features", test_features)
    if (train.shape[1], train.dtype) != (test.shape[1], test.dtype):
        raise DataError(
            f"test_features: {train.dtype} with {train.shape[1]} columns expected, as in training, got {test.dtype} "
            f"with {test.shape[1]}"
        )
    learnt, right = _codes("train_fine", train_fine, len(train)), _codes("test_fine", test_fine, len(test))
    if not len(right):
        raise DataError("test_features: no row to measure accuracy on")
    head = fit_head(train, learnt, int(max(learnt.max(initial=0), right.max())) + 1)
    guess = head(test.to(train.device)).argmax(1).cpu().numpy()
    return {"accuracy": float((guess == right).mean()), "balanced_accuracy": balanced_accuracy(right, guess)}


def subclass_purity(subclasses: Values, fine: Values) -> float:
    """Share of rows whose fine class is the most frequent one of their subclass.

    The finer the subclasses, the higher: compare only equally many of them.

    Args:
        subclasses: Codes, shape ``(n,)``.
        fine: Class codes, shape ``(n,)``.

    Raises:
        DataError: If these are no codes, of different length, or there are none.

    Example:
        >>> subclass_purity([0, 0, 0, 1], [2, 2, 5, 5])
        0.75
    """
    parts = class_codes("subclasses", subclasses)
    inner = _codes("fine", fine, len(parts))
    if not len(parts):
        raise DataError("subclasses: no row to measure purity on")
    pairs, rows = np.unique(np.stack([parts, inner]), axis=1, return_counts=True)
    most = np.zeros(parts.max() + 1, dtype=np.int64)
    np.maximum.at(most, pairs[0], rows)
    return float(most.sum() / len(parts))


def _codes(name: str, labels: Values, rows: int) -> NDArray[np.int64]:
    codes = class_codes(name, labels)
    if len(codes) != rows:
        raise DataError(f"{name}: one label for each of {rows} rows expected, got {len(codes)}")
    return codes


def _nmi(rows: NDArray[np.float64], labels: NDArray[np.int64], clusters: int, seed: int) -> float:
    cluster: Any = require("sklearn.cluster", "measuring hidden classes")
    metrics: Any = require("sklearn.metrics", "measuring hidden classes")
    model = cluster.KMeans(clusters, n_init=STARTS, random_state=seed % 2**32)
    with warnings.catch_warnings():
        # Of fewer distinct rows than clusters: a collapsed class, which is a result.
        warnings.simplefilter("ignore")
        found = model.fit_predict(rows)
    return float(metrics.normalized_mutual_info_score(labels, found))
