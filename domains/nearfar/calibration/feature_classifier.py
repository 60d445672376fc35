"""RCAL on a matrix of features, as a scikit-learn classifier. Importing this module imports scikit-learn."""

# ruff: noqa: N803 - X is scikit-learn's name

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.adapters import FeatureInputs
from nearfar.adapters.arrays import as_tensor, check_finite
from nearfar.calibration.gaussians import ClassGaussians
from nearfar.calibration.rcal.batches import StageBatches
from nearfar.calibration.rcal.config import Outlier, RCALConfig, Ridge, Weighting
from nearfar.calibration.rcal.method import RCAL
from nearfar.classification.row_batches import epoch_steps
from nearfar.classification.trainable import check_trainable
from nearfar.config.layers import Layer, resolve
from nearfar.encoders import Identity
from nearfar.errors import ConfigError, DataError
from nearfar.labels import encode_labels
from nearfar.optional import require
from nearfar.runtime import Runtime
from nearfar.training import fit

_sklearn: Any = require("sklearn.base", "the classifier of features")
_checks: Any = require("sklearn.utils.validation", "the classifier of features")
_targets: Any = require("sklearn.utils.multiclass", "the classifier of features")
_random: Any = require("sklearn.utils", "the classifier of features")

PASSES, STEPS = 40, 500


class RCALFeatureClassifier(_sklearn.ClassifierMixin, _sklearn.BaseEstimator):  # type: ignore[misc]  # untyped
    """A linear classifier of features whose labels may be wrong and whose classes may be of any size.

    Stage two of RCAL (Zhang et al., ICCV 2023) with the features as representations: a softmax is trained on mixed
    rows, and on draws from one Gaussian a class, fitted to the rows whose label is trusted. Unlike filters by
    out-of-fold probabilities it needs no folds, so classes of one item are no problem.

    Args:
        outlier: Which labels are not trusted: ``knn`` (their neighbours have others), ``lof`` (paper; lonely rows) or
            ``none``.
        keep: knn: share of every class that is trusted, in (0, 1].
        q: Head classes that a tail class borrows from.
        gamma: How much, in [0, 1].
        alpha: Ridge of the covariance of tail classes.
        weighting: Of heads: ``paper``, ``inverse`` or ``uniform``.
        ridge: ``ones`` (paper) or ``eye``.
        head_mass: Share of all rows that head classes hold.
        real_rows: Rows mixed: ``kept`` (trusted ones) or ``all`` (paper).
        loss: On them: ``cross_entropy`` or ``balanced_softmax``.
        mixup: Of Beta(a, a); 0 mixes nothing.
        standardize: Whether features are scaled to mean 0 and deviation 1.
        epochs: Passes over the rows; ``None`` is 40, and on few rows as many as make 500 steps.
        batch_size: Rows, and draws, of a step.
        lr: Peak learning rate on rows; falls along a cosine.
        draws_lr: Learning rate on draws.
        weight_decay: On rows.
        device: ``auto``, ``cpu``, ``cuda``, ...
        random_state: Seed, generator of NumPy, or ``None`` for another result every time.

    Attributes:
        classes_: Labels, sorted where they can be.
        coef_: Of the features as given, shape ``(K, m)``.
        intercept_: Shape ``(K,)``.
        suspect_labels_: Rows of ``fit`` whose label is not trusted, bool, shape ``(n,)``.
        gaussians_: Fitted to the features, scaled if they are.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> X = np.concatenate([rng.normal(0, 1, (80, 2)), rng.normal(6, 1, (20, 2))])
        >>> y = np.array(["often"] * 80 + ["rare"] * 20)
        >>> y[:10] = "rare"  # wrong
        >>> found = RCALFeatureClassifier(random_state=0).fit(X, y)
        >>> bool(found.suspect_labels_[:10].all()), found.predict([[0, 0], [6, 6]]).tolist()
        (True, ['often', 'rare'])
    """

    def __init__(
        self,
        outlier: Outlier = "knn",
        *,
        keep: float = 0.6,
        q: int = 3,
        gamma: float = 0.3,
        alpha: float = 0.01,
        weighting: Weighting = "paper",
        ridge: Ridge = "ones",
        head_mass: float = 0.5,
        real_rows: Literal["all", "kept"] = "kept",
        loss: Literal["cross_entropy", "balanced_softmax"] = "cross_entropy",
        mixup: float = 1.0,
        standardize: bool = True,
        epochs: int | None = None,
        batch_size: int = 256,
        lr: float = 0.005,
        draws_lr: float = 0.005,
        weight_decay: float = 0.03,
        device: str = "auto",
        random_state: Any = None,
    ) -> None:
        self.outlier, self.keep, self.q, self.gamma, self.alpha = outlier, keep, q, gamma, alpha
        self.weighting, self.ridge, self.head_mass = weighting, ridge, head_mass
        self.real_rows, self.loss, self.mixup, self.standardize = real_rows, loss, mixup, standardize
        self.epochs, self.batch_size, self.lr, self.draws_lr = epochs, batch_size, lr, draws_lr
        self.weight_decay, self.device, self.random_state = weight_decay, device, random_state

    def fit(self, X: Any, y: Any, **unsupported: Any) -> Self:
        """Find suspect labels and train.

        Args:
            X: Features, finite, shape ``(n, m)``; an array, a tensor on any device or a frame.
            y: Labels of any hashable type, shape ``(n,)``.
            **unsupported: Nothing. Weights of rows, ``sample_weight`` elsewhere, are refused: what a row counts is what
                is found out here.

        Raises:
            ConfigError: If a setting is out of bounds, or a weight is given.
            DataError: If rows and labels do not go together, features are not finite, or labels are missing or no
                classes; a ValueError, in scikit-learn's words where it has some.
        """
        if unsupported:
            raise ConfigError(
                f"{next(iter(unsupported))}: fit takes features and labels only; drop rows, or repeat them, instead"
            )
        x = self._features(X, reset=True)
        codes, classes = self._classes(y, len(x))
        check_trainable(FeatureInputs(x), codes.numpy(), classes)
        try:
            seed = int(_random.check_random_state(self.random_state).randint(2**31 - 1))
        except ValueError as error:
            raise ConfigError(
                f"random_state: {error}; give a whole number, a generator of NumPy, or None"
            ) from None
        center, scale = np.zeros(x.shape[1]), np.ones(x.shape[1])
        if self.standardize:
            center, scale = x.mean(0, dtype=np.float64), x.std(0, dtype=np.float64)
            # A constant column is rounding away from its mean: it stays small.
            scale = np.where(scale > 1e-12 * np.abs(center), scale, 1.0)
        method = self._trained(torch.from_numpy((x - center) / scale).float(), codes, len(classes), seed)
        weight, bias = (p.detach().cpu().double().numpy() for p in method.head.parameters())
        self.classes_ = classes
        self.coef_ = weight / scale
        self.intercept_ = bias - self.coef_ @ center
        self.suspect_labels_ = ~method.kept.cpu().numpy()
        self.gaussians_: ClassGaussians | None = method.gaussians
        return self

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Logits, shape ``(N, K)``; their difference, shape ``(N,)``, if there are two classes.

        Args:
            X: Features, shape ``(N, m)``.
        """
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probability of every class, shape ``(N, K)``.

        Args:
            X: Features, shape ``(N, m)``.
        """
        logits = self._logits(X)
        odds = np.exp(logits - logits.max(1, keepdims=True))
        found: NDArray[np.float64] = odds / odds.sum(1, keepdims=True)
        return found

    def predict(self, X: Any) -> NDArray[Any]:
        """Most probable classes, shape ``(N,)``.

        Args:
            X: Features, shape ``(N, m)``.
        """
        best = self._logits(X).argmax(1)
        found: NDArray[Any] = self.classes_[best]
        return found

    def _logits(self, X: Any) -> NDArray[np.float64]:
        _checks.check_is_fitted(self, "coef_")
        x = self._features(X, reset=False)
        logits: NDArray[np.float64] = x @ self.coef_.T + self.intercept_
        return logits

    def _features(self, X: Any, *, reset: bool) -> NDArray[Any]:
        """Finite numbers, shape ``(N, m)``."""
        given = _as_array(X)
        try:
            x: NDArray[Any] = _checks.validate_data(self, given, reset=reset, dtype=(np.float64, np.float32))
        except ValueError as error:
            raise DataError(f"X: {_not_finite(given)}{' '.join(str(error).split())}") from None
        check_finite("X", as_tensor("X", x), ("row", "column"))
        return x

    def _classes(self, y: Any, rows: int) -> tuple[Tensor, NDArray[Any]]:
        """Codes and labels; what scikit-learn knows as labels is checked by it."""
        if y is None:
            raise DataError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
        given = _as_array(y)
        if hasattr(given, "__array__"):
            given = given if hasattr(given, "to_numpy") else np.asarray(given)
            try:
                given = _checks.column_or_1d(given, warn=True, dtype=None)
                if given.dtype.kind in "fciub":
                    _targets.check_classification_targets(given)
            except ValueError as error:
                raise DataError(f"y: {' '.join(str(error).split())}") from None
        codes, classes = encode_labels(given)
        if len(codes) != rows:
            raise DataError(f"y: one label for each of {rows} rows expected, got {len(codes)}")
        return torch.as_tensor(codes), classes

    def _trained(self, x: Tensor, codes: Tensor, num_classes: int, seed: int) -> RCAL:
        config = self._config(seed, len(x))
        inputs = FeatureInputs(x)
        runtime = Runtime.start(config.device)
        try:
            method = RCAL(config, Identity(x.shape[1]), inputs, codes, num_classes).to(runtime.device)
            fit(method, StageBatches(inputs, codes, config), config=config, runtime=runtime, quiet=True)
            method.calibrate()  # also after no epoch at all
        finally:
            runtime.close()
        return method

    def _passes(self, rows: int) -> int:
        if self.epochs is not None:
            return self.epochs
        # What is no size is refused with the other settings.
        size = self.batch_size if isinstance(self.batch_size, int) and self.batch_size > 0 else 1
        return max(PASSES, -(-STEPS // epoch_steps(rows, size)))

    def _config(self, seed: int, rows: int) -> RCALConfig:
        gaussians = {
            "outlier": self.outlier,
            "keep": self.keep,
            "q": self.q,
            "gamma": self.gamma,
            "alpha": self.alpha,
            "weighting": self.weighting,
            "ridge": self.ridge,
            "head_mass": self.head_mass,
            "lr": self.draws_lr,
        }
        given = {
            "data": "given",
            "seed": seed,
            "device": self.device,
            "epochs": self._passes(rows),
            "batch_size": self.batch_size,
            "pretrain": {"epochs": 0},
            "gaussians": gaussians,
            "beta": 0.0,
            "mixup": self.mixup,
            "loss": self.loss,
            "real_rows": self.real_rows,
            "head_lr": self.lr,
            "optim": {"name": "sgd", "schedule": "cosine", "weight_decay": self.weight_decay},
            "milestones": (),
        }
        return resolve(RCALConfig, [Layer(type(self).__name__, given)])


def _not_finite(values: Any) -> str:
    """Where the first number is that is none, as a sentence; nothing where there is no such place."""
    try:
        if np.iscomplexobj(values):
            return ""
        wrong = np.argwhere(~np.isfinite(np.asarray(values, dtype=np.float64)))
    except (AttributeError, TypeError, ValueError):  # text, lists of different lengths
        return ""
    if not len(wrong) or wrong.shape[1] != 2:
        return ""
    row, column = wrong[0].tolist()
    return f"row {row}, column {column} is not finite, fill it or leave the row out: "


def _as_array(values: Any) -> Any:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else values
