"""Distributional calibration of RCAL: robust Gaussians of all classes, those of the tail moved towards heads.

Zhang et al., "When Noisy Labels Meet Long Tail Dilemmas: A Representation Calibration Method", ICCV 2023, section 3.2.
Where the paper contradicts itself there is a setting: its weights prefer far donors (``weighting``), and its ridge, a
matrix of ones, leaves a singular covariance singular (``ridge``).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Self, TypeAlias

import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.calibration.gaussians.composition import RIDGES, Composition, compose
from nearfar.calibration.gaussians.donors import WEIGHTINGS, donor_weights, nearest_heads
from nearfar.calibration.gaussians.factors import CovarianceFactors
from nearfar.calibration.gaussians.labelled_features import given_codes, given_features, given_mask
from nearfar.calibration.gaussians.mahalanobis import squared_mahalanobis
from nearfar.calibration.gaussians.outliers import check_filter, inliers
from nearfar.calibration.gaussians.sampling import draw_rows
from nearfar.errors import ConfigError, DataError
from nearfar.labels.codes import Values
from nearfar.labels.head import head_classes
from nearfar.runtime import generator as stream

Features: TypeAlias = "Tensor | NDArray[Any]"
Counts: TypeAlias = "int | str | Sequence[int] | Tensor | NDArray[Any]"


class ClassGaussians:
    r"""A Gaussian for every class, and exact draws from it that form no covariance matrix.

    Statistics are those of the kept items of each given class, in float64: mean \hat\mu_k and unbiased covariance
    \hat\Sigma_k. Head classes keep them; a tail class with donors c and their weights \omega_c has

    .. math::
        \mu_k' = \gamma \sum_c \omega_c \hat\mu_c + (1 - \gamma) \hat\mu_k, \qquad
        \Sigma_k' = \gamma \sum_c \omega_c \hat\Sigma_c + (1 - \gamma) \hat\Sigma_k + \alpha R

    A class of one item has a covariance of zero, a class without items has no Gaussian and lends nothing. Covariances
    are weighted sums of thin factors (centred rows), made when they are first needed. Features are kept by reference:
    do not write into them while draws are wanted.

    Args:
        outlier: Which items are left out first: ``"lof"`` (paper), ``"knn"`` (recommended) or ``"none"``; see
            :func:`nearfar.calibration.gaussians.outliers.inliers`.
        keep: Share of every class that ``"knn"`` keeps, in (0, 1].
        q: Donors of a tail class; all heads where there are fewer.
        gamma: Share of the donors, in [0, 1]. The paper gives no value.
        alpha: Size of the ridge, at least 0.
        weighting: Of donors: ``"paper"``, ``"inverse"`` or ``"uniform"``; see
            :func:`nearfar.calibration.gaussians.donors.donor_weights`.
        ridge: R: ``"ones"`` (paper) or ``"eye"``. Tail classes have it, head classes do not.
        head_mass: Share of all items that the head classes hold together at least, in (0, 1].
        seed: Of :meth:`sample` without a generator.
        threshold: Largest local outlier factor of a kept item.
        neighbors: Neighbours that the filter looks at; its default without it.

    Raises:
        ConfigError: If a setting is out of bounds.

    Attributes:
        classes_: Labels by code, K of them.
        codes_: Code of every item, int64 of the CPU, shape ``(N,)``.
        counts_: Items n_k of each class, kept or not, int64 of the CPU, shape ``(K,)``.
        kept_counts_: Those that are kept, int64 of the CPU, shape ``(K,)``.
        head_classes_: Codes of the head classes, largest first, int64 of the CPU, shape ``(H,)``.
        inlier_mask_: Whether an item is kept, bool of the CPU, shape ``(N,)``; the others have suspect labels.
        means_: Means of the kept items, NaN for a class without items, float64, shape ``(K, m)``.
        calibrated_means_: Means of the Gaussians, same shape and NaN.
        donors_: Codes of the donors, nearest first; -1 where there is none, int64 of the CPU, shape ``(K, min(q, H))``.
        donor_weights_: Their weights; 0 where there is none, float64 of the CPU, same shape.
        donor_distances_: Euclidean distances of the means; NaN where there is none, float64 of the CPU, same shape.
        composition_: The sums that the covariances are.
        factors_: Their thin factors, in the dtype of the draws.

    Example:
        >>> rng = torch.Generator().manual_seed(0)
        >>> x = torch.randn(64, 3, generator=rng)
        >>> y = ["cat"] * 50 + ["dog"] * 10 + ["eel"] * 4
        >>> gaussians = ClassGaussians(outlier="none").fit(x, y)
        >>> gaussians.donor_table()[2]["donors"]
        ['cat']
        >>> drawn, codes = gaussians.sample("equal")
        >>> drawn.shape, codes.bincount().tolist()
        (torch.Size([150, 3]), [50, 50, 50])
    """

    classes_: tuple[Hashable, ...]
    codes_: Tensor
    counts_: Tensor
    kept_counts_: Tensor
    head_classes_: Tensor
    inlier_mask_: Tensor
    means_: Tensor
    calibrated_means_: Tensor
    donors_: Tensor
    donor_weights_: Tensor
    donor_distances_: Tensor
    composition_: Composition
    factors_: CovarianceFactors

    def __init__(
        self,
        outlier: str = "lof",
        keep: float = 0.6,
        q: int = 3,
        gamma: float = 0.3,
        alpha: float = 0.01,
        weighting: str = "paper",
        ridge: str = "ones",
        head_mass: float = 0.5,
        seed: int = 0,
        *,
        threshold: float = 1.5,
        neighbors: int | None = None,
    ) -> None:
        self.outlier, self.keep, self.threshold, self.neighbors = outlier, keep, threshold, neighbors
        self.q, self.gamma, self.alpha, self.weighting, self.ridge = q, gamma, alpha, weighting, ridge
        self.head_mass, self.seed = head_mass, seed
        check_filter(outlier, keep=keep, threshold=threshold, neighbors=neighbors)
        for name, choices in (("weighting", WEIGHTINGS), ("ridge", RIDGES)):
            if getattr(self, name) not in choices:
                expected = " or ".join(map(repr, choices))
                raise ConfigError(f"{name}: {expected} expected, got {getattr(self, name)!r}")
        if not 0 < head_mass <= 1:
            raise ConfigError(f"head_mass: a share in (0, 1] expected, got {head_mass}")
        if not 0 <= gamma <= 1:
            raise ConfigError(f"gamma: a number in [0, 1] expected, got {gamma}")
        if not 0 <= alpha < math.inf:
            raise ConfigError(f"alpha: a finite number of at least 0 expected, got {alpha}")
        if q < 1:
            raise ConfigError(f"q: at least 1 donor expected, got {q}; gamma=0 borrows nothing")

    def fit(
        self,
        features: Features,
        labels: Values,
        *,
        inliers: Features | None = None,
        classes: Sequence[Hashable] | None = None,
    ) -> Self:
        """Find outliers, donors and means; covariances wait until they are needed.

        Args:
            features: Finite, shape ``(N, m)``, on any device. Half precision is widened to float32, in a copy, and
                draws come in half precision again.
            labels: Given class of every item, of any hashable type, shape ``(N,)``.
            inliers: Items to keep, bool, shape ``(N,)``, instead of looking for outliers.
            classes: All labels there are, by code; those that occur, in order, without it. A label that does not occur
                is a class without a Gaussian.

        Raises:
            DataError: If a feature is not finite, shapes do not go together, a label is missing or not among
                ``classes``, one of these is named twice, or ``inliers`` keeps nothing of a class that has items.
        """
        x, dtype = given_features(features)
        codes, names = given_codes(labels, len(x), classes)
        counts = codes.bincount(minlength=len(names))
        mask = self._found_inliers(x, codes) if inliers is None else given_mask(inliers, codes, names)
        rows = mask.nonzero()[:, 0]
        kept = codes[rows]
        order = kept.argsort(stable=True)
        kept_counts = kept.bincount(minlength=len(names))
        rows_of = rows[order].split(kept_counts.tolist())

        means = x.new_full((len(names), x.shape[1]), float("nan"), dtype=torch.float64)
        for k, its_rows in enumerate(rows_of):
            if len(its_rows):
                means[k] = x[its_rows.to(x.device)].double().mean(0)
        self.classes_, self.codes_, self.counts_, self.kept_counts_ = names, codes, counts, kept_counts
        self.inlier_mask_, self.means_ = mask, means
        self.head_classes_ = torch.from_numpy(head_classes(counts, self.head_mass))
        self._find_donors()
        self.factors_ = CovarianceFactors(x, rows_of, means, x.dtype)
        self.composition_ = compose(
            self.donors_,
            self.donor_weights_,
            kept_counts > 0,
            gamma=self.gamma,
            alpha=self.alpha,
            ridge=self.ridge,
        )
        self._features, self._dtype = x, dtype
        self._centres = self.calibrated_means_.to(x.dtype)
        return self

    def covariance(self, k: int) -> Tensor:
        """The covariance of one Gaussian, written out; for looking at, draws never need it.

        Args:
            k: Code of the class.

        Returns:
            float64, shape ``(m, m)``, on the device of the features.

        Raises:
            DataError: If the class has no items, or there is none of this code.
        """
        self.check_codes(torch.tensor([k]))
        total = self.means_.new_zeros(self.means_.shape[1], self.means_.shape[1])
        for source, share in self.composition_.parts(k):
            factor = self.factors_.exact(source)
            total.addmm_(factor.t(), factor, alpha=share)
        if self.composition_.ridged[k] and self.ridge == "ones":
            total += self.alpha
        elif self.composition_.ridged[k]:
            total.diagonal().add_(self.alpha)
        return total

    def draw(self, classes: Tensor, generator: torch.Generator) -> Tensor:
        """One draw for every wanted class, in a few products; no wait for the device if ``classes`` is on the CPU.

        Args:
            classes: Codes, int64, shape ``(B,)``.
            generator: Source of the draws; of the CPU gives the same ones on every device, up to rounding.

        Returns:
            Shape ``(B, m)``, dtype and device of the features.

        Raises:
            DataError: If a class has no items, or there is none of this code.
        """
        codes = classes.cpu()
        self.check_codes(codes)
        drawn = draw_rows(self._centres, self.factors_, self.composition_, codes, generator)
        return drawn.to(self._dtype)

    def sample(
        self, n_per_class: Counts = "equal", generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draws of all classes, one class after the other.

        Args:
            n_per_class: See :meth:`draws_per_class`.
            generator: Source of the draws; without it a stream of ``seed``, so the same draws every time.

        Returns:
            Draws, shape ``(S, m)``, dtype and device of the features; and their codes, int64, shape ``(S,)``, on the
            same device.

        Raises:
            DataError: If draws are wanted of a class without items.
        """
        codes = torch.arange(len(self._fitted().classes_)).repeat_interleave(
            self.draws_per_class(n_per_class)
        )
        drawn = self.draw(codes, generator or stream(self.seed, "gaussians"))
        return drawn, codes.to(drawn.device)

    def draws_per_class(self, n_per_class: Counts = "equal") -> Tensor:
        """How many draws of each class are meant.

        Args:
            n_per_class: A number for every class that has items; ``"equal"``, the kept items of the largest class;
                ``"fill"``, what a class lacks to these; or numbers by code, shape ``(K,)``.

        Returns:
            int64 of the CPU, shape ``(K,)``.

        Raises:
            ConfigError: If it is another word, a negative number or of another length.
            DataError: If draws are wanted of a class without items.
        """
        kept = self._fitted().kept_counts_
        if isinstance(n_per_class, str):
            if n_per_class not in ("equal", "fill"):
                raise ConfigError(
                    f"n_per_class: 'equal', 'fill' or whole numbers expected, got {n_per_class!r}"
                )
            wanted = (kept > 0) * kept.max() if n_per_class == "equal" else (kept > 0) * (kept.max() - kept)
        elif isinstance(n_per_class, int):
            wanted = (kept > 0) * n_per_class
        else:
            wanted = torch.as_tensor(n_per_class).cpu()
        if wanted.shape != kept.shape or wanted.is_floating_point() or bool((wanted < 0).any()):
            raise ConfigError(
                f"n_per_class: one number of at least 0, or {len(kept)} of them, expected, got {n_per_class!r}"
            )
        self.check_codes(wanted.nonzero()[:, 0])
        return wanted.long()

    def score_samples(self, features: Features) -> Tensor:
        """Squared Mahalanobis distances to all Gaussians, through the thin factors.

        Head classes have the ridge here too: without one the distance does not exist where a class has m items or
        fewer, and it would not be comparable between classes.

        Args:
            features: Shape ``(N, m)``.

        Returns:
            Shape ``(N, K)``, dtype and device of the fitted features; infinite for a class without items.

        Raises:
            ConfigError: If ``ridge`` is not ``"eye"`` or ``alpha`` is zero.
            DataError: If a feature is not finite, or there are more or fewer than were fitted.
        """
        means = self._fitted().calibrated_means_
        if self.ridge != "eye" or self.alpha == 0:
            raise ConfigError(
                f"ridge={self.ridge!r}, alpha={self.alpha}: a covariance may be singular, so there is no distance; "
                "set ridge='eye' and a positive alpha"
            )
        x = given_features(features)[0].to(means.device, torch.float64)
        if x.shape[1] != means.shape[1]:
            raise DataError(f"features: {means.shape[1]} columns expected, as fitted, got {x.shape[1]}")
        scores = x.new_full((len(x), len(means)), float("inf"))
        for k in self.kept_counts_.nonzero()[:, 0].tolist():
            parts = [self.factors_[source] * share**0.5 for source, share in self.composition_.parts(k)]
            scores[:, k] = squared_mahalanobis(x, means[k], torch.cat(parts).double(), self.alpha)
        return scores.to(self._dtype)

    def check_codes(self, codes: Tensor) -> None:
        """Raise unless all are codes of classes with a Gaussian.

        Args:
            codes: int64 of the CPU, shape ``(B,)``.

        Raises:
            DataError: If one is no code, or its class has no items.
        """
        kept = self._fitted().kept_counts_
        if codes.dtype != torch.int64 or codes.dim() != 1:
            raise DataError(
                f"classes: int64 codes of shape (B,) expected, got {codes.dtype} of shape {tuple(codes.shape)}"
            )
        outside = (codes < 0) | (codes >= len(kept))
        if bool(outside.any()):
            raise DataError(
                f"classes: codes from 0 to {len(kept) - 1} expected, got {codes[outside][0].item()}"
            )
        empty = kept[codes] == 0
        if bool(empty.any()):
            label = self.classes_[int(codes[empty][0])]
            raise DataError(f"class {label!r} has no items, so no Gaussian to draw from; leave it out")

    def donor_table(self) -> list[dict[str, Any]]:
        """Who borrowed from whom, a row for each class, for a report.

        Returns:
            Rows with ``class``, ``count``, ``kept``, ``head``, and lists ``donors`` (labels), ``weights`` and
            ``distances``, all in plain Python types but the labels.
        """
        heads = set(self._fitted().head_classes_.tolist())
        table = []
        for k, label in enumerate(self.classes_):
            there = self.donors_[k] >= 0
            table.append(
                {
                    "class": label,
                    "count": int(self.counts_[k]),
                    "kept": int(self.kept_counts_[k]),
                    "head": k in heads,
                    "donors": [self.classes_[donor] for donor in self.donors_[k][there].tolist()],
                    "weights": self.donor_weights_[k][there].tolist(),
                    "distances": self.donor_distances_[k][there].tolist(),
                }
            )
        return table

    def state(self) -> dict[str, Tensor]:
        """All that :meth:`load_state` needs: ``features``, ``codes``, ``inliers`` and ``counts``."""
        fitted = self._fitted()
        return {
            "features": self._features,
            "codes": fitted.codes_,
            "inliers": fitted.inlier_mask_,
            "counts": fitted.counts_,
        }

    def load_state(self, state: Mapping[str, Tensor], classes: Sequence[Hashable] | None = None) -> Self:
        """Fit again, with the inliers found then.

        Args:
            state: As :meth:`state` gave it: features ``(N, m)``, codes and inliers ``(N,)``, counts ``(K,)``.
            classes: Labels by code; the codes themselves without it.

        Raises:
            ConfigError: If there are not K labels.
        """
        size = len(state["counts"])
        names = tuple(range(size)) if classes is None else tuple(classes)
        if len(names) != size:
            raise ConfigError(f"classes: {size} labels expected, got {len(names)}")
        self.fit(state["features"], state["codes"], inliers=state["inliers"], classes=range(size))
        self.classes_ = names
        return self

    def _found_inliers(self, x: Tensor, codes: Tensor) -> Tensor:
        return inliers(
            x, codes, self.outlier, keep=self.keep, threshold=self.threshold, neighbors=self.neighbors
        ).cpu()

    def _find_donors(self) -> None:
        """Sets the attributes of donors, and the calibrated means."""
        heads = self.head_classes_
        is_tail = self.counts_ > 0
        is_tail[heads] = False
        tails = is_tail.nonzero()[:, 0]
        device = self.means_.device
        donors, squared = (
            part.cpu() for part in nearest_heads(self.means_, heads.to(device), tails.to(device), self.q)
        )
        if not bool(squared.isfinite().all()):
            raise DataError(
                "features: too large, the squares of distances overflow; divide them by a constant"
            )
        shape = (len(self.classes_), min(self.q, len(heads)))
        self.donors_ = torch.full(shape, -1)
        self.donor_weights_ = torch.zeros(shape, dtype=torch.float64)
        self.donor_distances_ = torch.full(shape, float("nan"), dtype=torch.float64)
        self.donors_[tails] = donors
        self.donor_weights_[tails] = donor_weights(squared, self.counts_[donors], self.weighting)
        self.donor_distances_[tails] = squared.sqrt()

        self.calibrated_means_ = self.means_.clone()
        weights = self.donor_weights_[tails].to(device)
        borrowed = torch.einsum("tq,tqm->tm", weights, self.means_[donors.to(device)])
        at = tails.to(device)
        self.calibrated_means_[at] = self.gamma * borrowed + (1 - self.gamma) * self.means_[at]

    def _fitted(self) -> Self:
        if not hasattr(self, "composition_"):
            raise DataError(f"this {type(self).__name__} is not fitted yet; call fit first")
        return self
