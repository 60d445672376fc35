"""Classifiers of features with noisy, long-tailed labels, by name and behind one signature.

All of them see the same numbers: every feature is scaled to mean 0 and deviation 1 over the training rows, and test
rows by the same mean and deviation; a constant feature becomes 0. All linear ones but RCAL have the penalty of
scikit-learn's default, ``||W||^2 / 2`` next to the sum of losses. None is tuned. Where features come from does not
matter here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from nearfar.config.suggest import suggest
from nearfar.errors import ConfigError, DataError
from nearfar.labels import balanced_softmax, class_codes, class_counts
from nearfar.optional import installed, missing, require

Features: TypeAlias = NDArray[np.floating[Any]]
Codes: TypeAlias = NDArray[np.int64]
FitPredict: TypeAlias = Callable[[Features, Codes, Features, int], Codes]

FOLDS = 5
"""Of cleanlab's out-of-fold probabilities; its own default."""
SMOTE_NEIGHBORS = 5
"""Of imbalanced-learn's SMOTE; its own default."""
KEEP = 0.6
"""Share of every class that the filter by neighbours keeps; that of RCAL."""


class CannotRunError(DataError):
    """A method that has no result for these labels, such as one by folds when a class has a single item."""


@dataclass(frozen=True)
class Baseline:
    """A classifier of features.

    Attributes:
        name: Short, as in files and on the command line.
        title: In tables.
        classify: Given scaled features.
        requires: Packages that it needs, by import name.
    """

    name: str
    title: str
    classify: FitPredict
    requires: tuple[str, ...] = ("sklearn",)

    def fit_predict(self, x_train: Features, y_noisy: Codes, x_test: Features, seed: int) -> Codes:
        """Scale features, train, predict.

        Args:
            x_train: Finite, shape ``(n, m)``.
            y_noisy: Class codes, possibly wrong, shape ``(n,)``. A class without items is never predicted.
            x_test: Finite, shape ``(N, m)``.
            seed: Of everything that is drawn.

        Returns:
            Class codes, shape ``(N,)``.

        Raises:
            DataError: If shapes do not go together, or a feature is not finite.
            CannotRunError: If the method has no result for these labels.
            MissingDependencyError: If a package is not installed.
        """
        train, test = standardized(x_train, x_test)
        labels = class_codes("y_noisy", y_noisy)
        if len(labels) != len(train) or not len(labels):
            raise DataError(
                f"y_noisy: one label for each of the {len(train)} training rows expected, got {len(labels)}"
            )
        return np.asarray(self.classify(train, labels, test, seed), dtype=np.int64)


def available(names: Iterable[str] | None = None) -> tuple[list[Baseline], dict[str, str]]:
    """Baselines whose packages are installed, and why the others are left out.

    Args:
        names: Some of :data:`BASELINES`; all by default.

    Returns:
        Baselines, in the order of the names; notes by name of those left out.

    Raises:
        ConfigError: If there is no such baseline.
    """
    found, notes = [], {}
    for name in BASELINES if names is None else names:
        if name not in BASELINES:
            otherwise = f"choose from {', '.join(BASELINES)}"
            raise ConfigError(f"methods: {name!r} is unknown; {suggest(name, BASELINES, otherwise)}")
        absent = [module for module in BASELINES[name].requires if not installed(module)]
        if absent:
            notes[name] = str(missing(absent[0], BASELINES[name].title))
        else:
            found.append(BASELINES[name])
    return found, notes


def standardized(x_train: Features, x_test: Features) -> tuple[Features, Features]:
    """Scale features by the mean and deviation of the training rows, in float64.

    Args:
        x_train: Shape ``(n, m)``.
        x_test: Shape ``(N, m)``.

    Returns:
        Both, scaled; a feature that is constant in training is 0 there and only centred in the test rows.

    Raises:
        DataError: If shapes do not go together, or a feature is not finite.
    """
    train, test = np.asarray(x_train, dtype=np.float64), np.asarray(x_test, dtype=np.float64)
    if train.ndim != 2 or test.ndim != 2 or train.shape[1] != test.shape[1]:
        raise DataError(
            f"x_train, x_test: shapes (n, m) and (N, m) expected, got {train.shape} and {test.shape}"
        )
    for name, rows in (("x_train", train), ("x_test", test)):
        if len(wrong := np.flatnonzero(~np.isfinite(rows).all(1))):
            raise DataError(
                f"{name}: finite features expected, not so in row {wrong[0]} ({len(wrong)} such rows)"
            )
    center, scale = train.mean(0), train.std(0)
    # A constant column is rounding away from its mean.
    scale = np.where(scale > 1e-12 * np.abs(center), scale, 1.0)
    return (train - center) / scale, (test - center) / scale


def logistic(x_train: Features, y_noisy: Codes, x_test: Features, seed: int) -> Codes:  # noqa: ARG001 - draws nothing
    """Logistic regression, scikit-learn's defaults.

    Args:
        x_train: Scaled, shape ``(n, m)``.
        y_noisy: Shape ``(n,)``.
        x_test: Scaled, shape ``(N, m)``.
        seed: Not used.
    """
    return _regression(x_train, y_noisy, x_test, balanced=False)


def balanced_logistic(x_train: Features, y_noisy: Codes, x_test: Features, seed: int) -> Codes:  # noqa: ARG001
    """The same with ``class_weight="balanced"``: all classes weigh the same in the loss.

    Args:
        x_train: Scaled, shape ``(n, m)``.
        y_noisy: Shape ``(n,)``.
        x_test: Scaled, shape ``(N, m)``.
        seed: Not used.
    """
    return _regression(x_train, y_noisy, x_test)


def oversampled(x_train: Features, y_noisy: Codes, x_test: Features, seed: int) -> Codes:
    """Rows of small classes repeated at random until all are as large (imbalanced-learn), then logistic regression.

    Args:
        x_train: Scaled, shape ``(n, m)``.
        y_noisy: Shape ``(n,)``.
        x_test: Scaled, shape ``(N, m)``.
        seed: Of the rows that are repeated.
    """
    sampling = require("imblearn.over_sampling", "random oversampling")
    if len(np.unique(y_noisy)) > 1:
        x_train, y_noisy = sampling.RandomOverSampler(random_state=seed).fit_resample(x_train, y_noisy)
    return _regression(x_train, y_noisy, x_test, balanced=False)


def smote(x_train: Features, y_noisy: Codes, x_test: Features, seed: int) -> Codes:
    """New rows between neighbours of small classes (SMOTE, imbalanced-learn), then logistic regression.

    Five neighbours, or as many as the smallest class has.

    Args:
        x_train: Scaled, shape ``(n, m)``.
        y_noisy: Shape ``(n,)``.
        x_test: Scaled, shape ``(N, m)``.
        seed: Of the new rows.

    Raises:
        CannotRunError: If a class has one item: there is no neighbour of its class.
    """
    sampling = require("imblearn.over_sampling", "SMOTE")
    neighbors = min(SMOTE_NEIGHBORS, _smallest(y_noisy, "SMOTE") - 1)
    if len(np.unique(y_noisy)) > 1:
        maker = sampling.SMOTE(k_neighbors=neighbors, random_state=seed)
        x_train, y_noisy = maker.fit_resample(x_train, y_noisy)
    return _regression(x_train, y_noisy, x_test, balanced=False)


def cleanlab(x_train: Features, y_noisy: Codes, x_test: Features, seed: int) -> Codes:
    """Labels that cleanlab finds wrong dropped, then balanced logistic regression on the rest.

    Probabilities are those of balanced logistic regression over five stratified folds, or as many folds as the smallest
    class has items. A class of which nothing is left is never predicted.

    Args:
        x_train: Scaled, shape ``(n, m)``.
        y_noisy: Shape ``(n,)``.
        x_test: Scaled, shape ``(N, m)``.
        seed: Of the folds.

    Raises:
        CannotRunError: If a class has one item: it cannot be in training and out of it.
    """
    dropped = cleanlab_suspects(x_train, y_noisy, seed)
    return _regression(x_train[~dropped], y_noisy[~dropped], x_test)


def cleanlab_suspects(x_train: Features, y_noisy: Codes, seed: int) -> NDArray[np.bool_]:
    """Rows whose label ``cleanlab.filter.find_label_issues`` finds wrong, with its defaults.

    Args:
        x_train: Scaled, shape ``(n, m)``.
        y_noisy: Shape ``(n,)``.
        seed: Of the folds.

    Returns:
        Mask, shape ``(n,)``.

    Raises:
        CannotRunError: If a class has one item.
    """
    selection = require("sklearn.model_selection", "out-of-fold probabilities")
    linear = require("sklearn.linear_model", "out-of-fold probabilities")
    issues = require("cleanlab.filter", "finding wrong labels")
    classes, codes = np.unique(y_noisy, return_inverse=True)
    smallest = _smallest(y_noisy, "cleanlab")
    if len(classes) < 2:
        return np.zeros(len(codes), dtype=bool)
    folds = selection.StratifiedKFold(min(FOLDS, smallest), shuffle=True, random_state=seed)
    model = linear.LogisticRegression(class_weight="balanced", max_iter=2000)
    odds = selection.cross_val_predict(model, x_train, codes, cv=folds, method="predict_proba")
    with warnings.catch_warnings():
        # Of classes so small that it flags nothing in them: what it does then is the result.
        warnings.simplefilter("ignore")
        found = issues.find_label_issues(labels=codes, pred_probs=odds, n_jobs=1)
    return np.asarray(found, dtype=bool)


def nearest_mean(x_train: Features, y_noisy: Codes, x_test: Features, seed: int) -> Codes:  # noqa: ARG001
    """The class whose mean is nearest.

    Args:
        x_train: Scaled, shape ``(n, m)``.
        y_noisy: Shape ``(n,)``.
        x_test: Scaled, shape ``(N, m)``.
        seed: Not used.
    """
    classes = np.unique(y_noisy)
    means = np.stack([x_train[y_noisy == k].mean(0) for k in classes])
    # Without the square of the test row, which is the same for all classes.
    distance = (means**2).sum(1) - 2 * x_test @ means.T
    nearest: Codes = classes[distance.argmin(1)]
    return nearest


def linear_balanced_softmax(x_train: Features, y_noisy: Codes, x_test: Features, seed: int) -> Codes:  # noqa: ARG001
    """Balanced softmax (Ren et al., NeurIPS 2020) on a linear layer, to the optimum: full batch, LBFGS.

    Args:
        x_train: Scaled, shape ``(n, m)``.
        y_noisy: Shape ``(n,)``.
        x_test: Scaled, shape ``(N, m)``.
        seed: Not used.
    """
    rows, codes = torch.from_numpy(np.asarray(x_train, dtype=np.float64)), torch.from_numpy(y_noisy)
    counts = class_counts(y_noisy)
    weight = torch.zeros(rows.shape[1], len(counts), dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(len(counts), dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weight, bias], max_iter=1000, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
    )

    def loss() -> float:
        solver.zero_grad()
        value = balanced_softmax(rows @ weight + bias, codes, counts) + weight.square().sum() / (
            2 * len(rows)
        )
        value.backward()
        return value.item()

    solver.step(loss)
    with torch.no_grad():
        logits = torch.from_numpy(np.asarray(x_test, dtype=np.float64)) @ weight + bias
    # An empty class has learnt nothing: its logit is 0 everywhere.
    logits[:, torch.from_numpy(counts == 0)] = -torch.inf
    return np.asarray(logits.argmax(1), dtype=np.int64)


def agreeing_neighbors(x_train: Features, y_noisy: Codes, x_test: Features, seed: int) -> Codes:  # noqa: ARG001
    """The labels of every class that most neighbours agree with, then balanced logistic regression on these rows.

    Args:
        x_train: Scaled, shape ``(n, m)``.
        y_noisy: Shape ``(n,)``.
        x_test: Scaled, shape ``(N, m)``.
        seed: Not used.
    """
    from nearfar.calibration.gaussians import inliers

    kept = inliers(x_train, y_noisy, "knn", keep=KEEP).numpy()
    return _regression(x_train[kept], y_noisy[kept], x_test)


def rcal_lof(x_train: Features, y_noisy: Codes, x_test: Features, seed: int) -> Codes:
    """RCAL with the paper's filter, lonely rows; default settings.

    Args:
        x_train: Scaled, shape ``(n, m)``.
        y_noisy: Shape ``(n,)``.
        x_test: Scaled, shape ``(N, m)``.
        seed: Of the classifier.
    """
    return _rcal(x_train, y_noisy, x_test, seed, "lof")


def rcal_knn(x_train: Features, y_noisy: Codes, x_test: Features, seed: int) -> Codes:
    """RCAL with the filter by neighbours; default settings.

    Args:
        x_train: Scaled, shape ``(n, m)``.
        y_noisy: Shape ``(n,)``.
        x_test: Scaled, shape ``(N, m)``.
        seed: Of the classifier.
    """
    return _rcal(x_train, y_noisy, x_test, seed, "knn")


def _rcal(x_train: Features, y_noisy: Codes, x_test: Features, seed: int, outlier: Any) -> Codes:
    # Importing it imports scikit-learn.
    from nearfar.calibration.feature_classifier import RCALFeatureClassifier

    model = RCALFeatureClassifier(outlier, device="cpu", random_state=seed).fit(x_train, y_noisy)
    predicted: Codes = model.predict(x_test)
    return predicted


def _regression(x_train: Features, y_noisy: Codes, x_test: Features, *, balanced: bool = True) -> Codes:
    linear = require("sklearn.linear_model", "logistic regression")
    classes = np.unique(y_noisy)
    if len(classes) == 1:  # which scikit-learn refuses
        return np.full(len(x_test), classes[0], dtype=np.int64)
    model = linear.LogisticRegression(class_weight="balanced" if balanced else None, max_iter=2000)
    predicted: Codes = model.fit(x_train, y_noisy).predict(x_test)
    return predicted


def _smallest(y_noisy: Codes, name: str) -> int:
    """Items of the smallest class that has any, at least two."""
    counts = class_counts(y_noisy)
    present = np.flatnonzero(counts)
    k = present[counts[present].argmin()]
    if counts[k] < 2:
        raise CannotRunError(f"{name} cannot run: class {k} has one item, at least 2 are needed")
    return int(counts[k])


BASELINES: dict[str, Baseline] = {
    baseline.name: baseline
    for baseline in (
        Baseline("logistic", "logistic regression", logistic),
        Baseline("balanced", "balanced logistic regression", balanced_logistic),
        Baseline("oversampled", "random oversampling + LR", oversampled, ("sklearn", "imblearn")),
        Baseline("smote", "SMOTE + LR", smote, ("sklearn", "imblearn")),
        Baseline("cleanlab", "cleanlab + balanced LR", cleanlab, ("sklearn", "cleanlab")),
        Baseline("nearest-mean", "nearest class mean", nearest_mean, ()),
        Baseline("balanced-softmax", "linear balanced softmax", linear_balanced_softmax, ()),
        Baseline("neighbors", "kNN filter + balanced LR", agreeing_neighbors),
        Baseline("rcal-lof", "RCAL-LOF", rcal_lof),
        Baseline("rcal-knn", "RCAL-kNN", rcal_knn),
    )
}
"""In the order of tables; the last is the one that the others are compared with."""
