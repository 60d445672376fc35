"""Calibrated classification of features: end to end beside what people use, its two filters, and draws.

Rows of a mixture of ten Gaussians of one covariance, a long tail of ratio 10, 40 % of the labels wrong. Of such data a
linear rule is the true one and noise fills all 160 directions: the best case of logistic regression and of filters
by its probabilities, a hard one for filters by distance. What methods are worth on real features is measured by
cifar_features.py and nearfar.pipelines.noisy_labels; here it only shows that what is timed does its work. One thread, a
fresh process per figure, process CPU seconds, peak memory above the data.

End to end: ``RCALFeatureClassifier`` with its defaults, and with the paper's filter, next to balanced logistic
regression and to cleanlab (out-of-fold probabilities of that regression over five folds, ``find_label_issues``, the
regression again on the rest). Filters: the agreement of neighbours and the local outlier factor against scikit-learn's
neighbours, the same numbers. Draws: ``ClassGaussians`` against the explicit form, a float64 covariance matrix a class
and its square root, by Cholesky, or by eigendecomposition where the matrix is singular and Cholesky fails; means and
donors are given to the explicit form for nothing. A long figure is extrapolated from some of the classes, which is
said, and what does not fit into memory is not run.

    python benchmarks/calibration.py [--quick] [--part end-to-end agreement lof draws]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.calibration.gaussians import ClassGaussians
from nearfar.calibration.gaussians.outliers import LOF_NEIGHBORS
from nearfar.labels import (
    balanced_accuracy,
    class_counts,
    default_neighbors,
    head_classes,
    keep_most,
    label_agreement,
    label_noise,
    long_tail_counts,
    purity,
)
from nearfar.neighbors import local_outlier_factor
from nearfar.optional import installed, require
from nearfar.pipelines.noisy_labels.baselines import KEEP, cleanlab_suspects
from nearfar.runtime import generator, numpy_generator

if TYPE_CHECKING:
    from benchmarks.measure import cost, cost_of_one_call, free_bytes, in_fresh_process
else:
    from measure import cost, cost_of_one_call, free_bytes, in_fresh_process  # first on the path of a script

ROWS, QUICK_ROWS, WARM_ROWS = 20_000, 4_000, 1_000
DIM, CLASSES, RATIO, NOISE = 160, 10, 10.0, 0.4
TEST_ROWS = 1_000  # of each class
APART = 0.2  # spread of the means in deviations of a class: a linear rule then gets 4 of 5 rows right
DRAWS = 128
LOF_THRESHOLD = 1.5
MEMORY_SHARE = 0.7  # of what is free
SECONDS = 30  # what a fit may take


@dataclass(frozen=True)
class Problem:
    """Features and labels.

    Attributes:
        x: float32, shape ``(n, 160)``.
        true: Shape ``(n,)``.
        labels: Of which some are wrong, shape ``(n,)``.
        x_test: Shape ``(N, 160)``.
        y_test: Shape ``(N,)``.
    """

    x: NDArray[np.float32]
    true: NDArray[np.int64]
    labels: NDArray[np.int64]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.int64]


def tail_sizes(rows: int, classes: int = CLASSES) -> NDArray[np.int64]:
    """Long tail of as many rows; what rounding leaves over goes to the largest class."""
    largest = int(rows / (RATIO ** (-np.arange(classes) / (classes - 1))).sum())
    sizes = long_tail_counts(largest, classes, RATIO)
    sizes[0] += rows - sizes.sum()
    return sizes


def problem(rows: int) -> Problem:
    """Drawn with variances that fall like those of principal components, as means do."""
    rng = numpy_generator(0, "mixture")
    scale = (1 + np.arange(DIM)) ** -0.5
    means = APART * rng.standard_normal((CLASSES, DIM))
    true = np.repeat(np.arange(CLASSES), tail_sizes(rows))
    y_test = np.repeat(np.arange(CLASSES), TEST_ROWS)
    x, x_test = (
        ((means[codes] + rng.standard_normal((len(codes), DIM))) * scale).astype(np.float32)
        for codes in (true, y_test)
    )
    noisy = label_noise(true, NOISE, num_classes=CLASSES, rng=numpy_generator(0, "label noise"))
    return Problem(x, true, noisy.labels, x_test, y_test)


# End to end


def fitted(side: str, data: Problem) -> tuple[Callable[[NDArray[np.float32]], Any], NDArray[np.bool_]]:
    """What predicts, and the rows whose label it trusts."""
    if side in ("rcal-knn", "rcal-lof"):
        from nearfar.calibration.feature_classifier import RCALFeatureClassifier

        model = RCALFeatureClassifier(device="cpu", random_state=0)
        if side == "rcal-lof":
            model.set_params(outlier="lof")
        model.fit(data.x, data.labels)
        return model.predict, ~model.suspect_labels_
    linear = require("sklearn.linear_model", "the comparison with scikit-learn")
    center, scale = data.x.mean(0), data.x.std(0)
    x = (data.x - center) / scale
    kept = np.ones(len(x), dtype=bool)
    if side == "cleanlab":
        kept = ~cleanlab_suspects(x, data.labels, 0)
    regression = linear.LogisticRegression(class_weight="balanced", max_iter=2000)
    regression.fit(x[kept], data.labels[kept])
    return lambda rows: regression.predict((rows - center) / scale), kept


def end_to_end(side: str, rows: int, keep: Path) -> dict[str, Any]:  # noqa: ARG001 - nothing to compare
    """Cost of one fit and what it is worth."""
    data = problem(rows)
    fitted(side, problem(WARM_ROWS))
    done: list[Any] = []
    found = cost_of_one_call(lambda: done.extend(fitted(side, data)))
    predict, kept = done
    counts = class_counts(data.labels)
    pure = purity(data.true, data.labels, kept, subset=np.setdiff1d(np.arange(CLASSES), head_classes(counts)))
    return {
        "seconds": found.seconds,
        "megabytes": found.megabytes,
        "accuracy": balanced_accuracy(data.y_test, predict(data.x_test)),
        "kept": pure.share_kept,
        "purity": pure.overall,
        "tail": pure.subset,
    }


# Filters


def agreement(side: str, rows: int, keep: Path) -> dict[str, Any]:
    """Agreement of the neighbours with every label."""
    data = problem(rows)
    if side == "ours":

        def step() -> None:
            np.save(keep, label_agreement(data.x, data.labels).numpy())
    else:
        neighbors = require("sklearn.neighbors", "the comparison with scikit-learn")

        def step() -> None:
            x, metric = data.x, "cosine"
            if side == "sklearn, unit rows":
                x, metric = x / np.linalg.norm(x, axis=1, keepdims=True), "euclidean"
            search = neighbors.NearestNeighbors(n_neighbors=default_neighbors(rows), metric=metric).fit(x)
            voters = data.labels[search.kneighbors(return_distance=False)]
            votes = (1 / class_counts(data.labels))[voters]
            np.save(keep, (votes * (voters == data.labels[:, None])).sum(1) / votes.sum(1))

    found = cost(step, "cpu", most=3)
    return {"seconds": found.seconds, "megabytes": found.megabytes}


def lof(side: str, rows: int, keep: Path) -> dict[str, Any]:
    """Local outlier factors within every given class."""
    data = problem(rows)
    wheres = [np.flatnonzero(data.labels == k) for k in range(CLASSES)]
    factors = np.empty(rows)
    if side == "ours":

        def factor(x: NDArray[np.float32]) -> Any:
            return local_outlier_factor(x, LOF_NEIGHBORS).numpy()
    else:
        neighbors = require("sklearn.neighbors", "the comparison with scikit-learn")

        def factor(x: NDArray[np.float32]) -> Any:
            return -neighbors.LocalOutlierFactor(LOF_NEIGHBORS).fit(x).negative_outlier_factor_

    def step() -> None:
        for where in wheres:
            factors[where] = factor(data.x[where])

    found = cost(step, "cpu", most=3)
    np.save(keep, factors)
    return {"seconds": found.seconds, "megabytes": found.megabytes}


def equal_agreement(ours: NDArray[Any], theirs: NDArray[Any], labels: NDArray[np.int64]) -> str:
    """Where float32 decides otherwise which of two rows is the last neighbour, a score moves by a vote."""
    kept, others = (keep_most(torch.from_numpy(scores), labels, KEEP) for scores in (ours, theirs))
    same = float((np.abs(ours - theirs) < 1e-5).mean())
    return (
        f"{100 * same:.2f} % of the scores equal to 1e-5, {int((kept != others).sum())} rows kept otherwise"
    )


def equal_lof(ours: NDArray[Any], theirs: NDArray[Any], labels: NDArray[np.int64]) -> str:  # noqa: ARG001
    """Differences of factors, and what they change at the threshold."""
    otherwise = int(((ours > LOF_THRESHOLD) != (theirs > LOF_THRESHOLD)).sum())
    return f"largest difference {np.abs(ours - theirs).max():.1e}, {otherwise} rows kept otherwise"


# Draws


@dataclass(frozen=True)
class Size:
    """Width, classes and rows of a problem of draws, and of how many classes the explicit side takes the root."""

    dim: int
    classes: int
    rows: int
    measured: int

    @property
    def matrices(self) -> int:
        """Bytes of all covariance matrices."""
        return 8 * self.classes * self.dim**2


# As the end-to-end problem; as WebVision-50 behind Inception-ResNet-v2; as ImageNet-LT behind a ResNet-50.
SIZES = (Size(160, 10, 20_000, 10), Size(1536, 50, 66_000, 50), Size(2048, 1000, 115_846, 20))
QUICK_SIZES = (Size(160, 10, 4_000, 10), Size(512, 50, 6_000, 50), Size(2048, 1000, 12_000, 10))


class ExplicitGaussians:
    """The same Gaussians, every covariance written out.

    Args:
        x: Shape ``(n, m)``.
        codes: Shape ``(n,)``.
        means: Calibrated means and donors of all classes are taken from it.
        measured: Number of classes whose square root is taken; spread over all, with the last.

    Attributes:
        roots: Square roots of the covariances of these, covariances of the others; float64, shape ``(K, m, m)``.
        seconds: Time that square roots took.
        without_cholesky: Of how many of them Cholesky failed.
    """

    def __init__(self, x: Tensor, codes: Tensor, means: ClassGaussians, measured: int) -> None:
        classes, dim = means.means_.shape
        self.means = means.calibrated_means_
        self.roots = torch.empty(classes, dim, dim, dtype=torch.float64)
        for k in range(classes):
            rows = x[codes == k].double() - means.means_[k]
            torch.mm(rows.T, rows, out=self.roots[k]).div_(len(rows) - 1)
        # Donors are head classes, which stay as they are: tail classes can be changed in place.
        for k in range(classes):
            if means.donors_[k, 0] < 0:
                continue
            self.roots[k] *= 1 - means.gamma
            for donor, share in zip(means.donors_[k].tolist(), means.donor_weights_[k].tolist(), strict=True):
                self.roots[k].add_(self.roots[donor], alpha=means.gamma * share)
            self.roots[k] += means.alpha
        began, self.without_cholesky = time.process_time(), 0
        for k in torch.linspace(classes - 1, 0, measured).round().long().tolist():
            root, info = torch.linalg.cholesky_ex(self.roots[k])
            if info:
                self.without_cholesky += 1
                values, vectors = torch.linalg.eigh(self.roots[k])
                root = vectors * values.clamp_(min=0).sqrt_()
            self.roots[k] = root
        self.seconds = time.process_time() - began

    def draw(self, classes: Tensor, rng: torch.Generator) -> Tensor:
        """As that of ``ClassGaussians``."""
        noise = torch.randn(len(classes), self.means.shape[1], generator=rng, dtype=torch.float64)
        drawn = self.means[classes]
        for k in classes.unique().tolist():
            where = classes == k
            drawn[where] += noise[where] @ self.roots[k].T
        return drawn


def draws(side: str, size: Size) -> dict[str, Any]:
    """Cost of getting ready, of a batch, and whether the covariance of the last class is the same."""
    codes = torch.from_numpy(np.repeat(np.arange(size.classes), tail_sizes(size.rows, size.classes)))
    rng = generator(0, "features")
    x = torch.randn(len(codes), size.dim, generator=rng)
    x += torch.randn(size.classes, size.dim, generator=rng)[codes]
    given = ClassGaussians(outlier="none").fit(x, codes)
    wanted = torch.randint(size.classes, (DRAWS,), generator=rng)
    made: list[Any] = []

    def prepare() -> None:
        if side == "explicit":
            made.append(ExplicitGaussians(x, codes, given, size.measured))
            return
        ours = ClassGaussians(outlier="none").fit(x, codes)
        for k in range(size.classes):
            ours.factors_[k]
        made.append(ours)

    ready = cost_of_one_call(prepare)
    batch = cost(lambda: made[0].draw(wanted, rng), "cpu", seconds=1.0)
    found: dict[str, Any] = {
        "seconds": ready.seconds,
        "megabytes": ready.megabytes,
        "batch": batch.seconds,
        "note": "",
    }
    if side == "explicit":
        explicit = made[0]
        found["seconds"] += explicit.seconds * (size.classes / size.measured - 1)
        if size.measured < size.classes:
            found["note"] = f"square roots extrapolated from {size.measured} classes; "
        last, expected = explicit.roots[-1], given.covariance(size.classes - 1)
        apart = torch.linalg.matrix_norm(last @ last.T - expected) / torch.linalg.matrix_norm(expected)
        found["note"] += f"Cholesky fails on {explicit.without_cholesky} of {size.measured} classes; "
        found["note"] += f"covariance of the last one apart by {float(apart):.0e}"
    return found


# Report

Part = Callable[[str, int, Path], dict[str, Any]]
PARTS: dict[str, tuple[str, Part, dict[str, str]]] = {
    "end-to-end": (
        "End to end, one fit",
        end_to_end,
        {
            "balanced": "balanced logistic regression",
            "cleanlab": "cleanlab, then balanced logistic regression",
            "rcal-lof": "RCALFeatureClassifier, outlier='lof' (paper)",
            "rcal-knn": "RCALFeatureClassifier",
        },
    ),
    "agreement": (
        "Agreement of the nearest neighbours by cosine",
        agreement,
        {
            "sklearn": "scikit-learn, metric='cosine'",
            "sklearn, unit rows": "scikit-learn, Euclidean on unit rows",
            "ours": "label_agreement (ours)",
        },
    ),
    "lof": (
        "Local outlier factor of every class",
        lof,
        {"sklearn": "scikit-learn", "ours": "local_outlier_factor (ours)"},
    ),
}
EQUAL = {"agreement": equal_agreement, "lof": equal_lof}
QUALITY = {
    "accuracy": "balanced accuracy",
    "kept": "rows kept",
    "purity": "right labels",
    "tail": "in tail classes",
}


def report(name: str, rows: int, options: list[str], folder: Path) -> None:
    """One part: its sides, how many times less each costs than the first, and whether they agree."""
    title, _, sides = PARTS[name]
    whole = name == "end-to-end"
    columns = ["CPU s", "peak MB", *(QUALITY.values() if whole else ("times less", ""))]
    print(f"\n{title}, {rows:,} x {DIM}\n\n| | {' | '.join(columns)} |\n|{'--|' * (1 + len(columns))}")
    first = None
    for side, words in sides.items():
        package = "cleanlab" if side == "cleanlab" else "sklearn"
        if side != "ours" and not installed(package):
            print(f"| {words} | {package} is not installed |")
            continue
        kept = str(folder / f"{name}-{side}.npy")
        figure = in_fresh_process([__file__, "--child", name, side, "--keep", kept, *options], {})
        first = first or figure["seconds"]
        cells = [f"{figure['seconds']:.2f}", f"{figure['megabytes']:,.0f}"]
        if whole:
            cells += [f"{100 * figure[key]:.1f} %" for key in QUALITY]
        else:
            compared = _compared(name, rows, folder) if side == "ours" else ""
            cells += [f"{first / figure['seconds']:.1f}", compared]
        print(f"| {words} | {' | '.join(cells)} |", flush=True)
        if side == "rcal-knn" and rows == ROWS:
            verdict = "within" if figure["seconds"] <= SECONDS else "NOT within"
            print(f"\n{verdict} the {SECONDS} s that a fit may take", flush=True)


def _compared(name: str, rows: int, folder: Path) -> str:
    """Ours and scikit-learn's, if that is there."""
    theirs = folder / f"{name}-sklearn.npy"
    if not theirs.exists():
        return ""
    return EQUAL[name](np.load(folder / f"{name}-ours.npy"), np.load(theirs), problem(rows).labels)


def report_draws(quick: bool) -> None:
    """Both sides at all sizes."""
    print(f"\nDraws: time to get ready, and of {DRAWS} draws; peak memory above the features\n")
    print("| | ready, CPU s | draws, CPU ms | peak MB | |\n|--|--|--|--|--|")
    for index, size in enumerate(QUICK_SIZES if quick else SIZES):
        label = f"m = {size.dim:,}, K = {size.classes:,}, {size.rows:,} rows"
        figures = {}
        for side, words in (("explicit", "explicit covariances"), ("ours", "ClassGaussians")):
            if side == "explicit" and size.matrices > MEMORY_SHARE * free_bytes("cpu"):
                print(f"| {label}, {words} | | | needs about {size.matrices / 1e9:.1f} GB | |", flush=True)
                continue
            options = ["--quick"] if quick else []
            found = in_fresh_process([__file__, "--child", "draws", side, "--size", str(index), *options], {})
            figures[side], note = found, found["note"]
            if side == "ours":
                explicit = figures.get("explicit", {"megabytes": size.matrices / 1e6})
                times = explicit["megabytes"] / max(found["megabytes"], 1)
                features = 4 * size.rows * size.dim / 1e6
                note = f"{times:,.1f} times less memory; the features are {features:,.0f} MB"
            print(
                f"| {label}, {words} | {found['seconds']:.2f} | {1e3 * found['batch']:.1f} "
                f"| {found['megabytes']:,.0f} | {note} |",
                flush=True,
            )


def main() -> None:
    """Measure all parts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller problems")
    parser.add_argument("--part", nargs="+", choices=[*PARTS, "draws"], default=[*PARTS, "draws"])
    parser.add_argument(
        "--child", nargs=2, metavar=("PART", "SIDE"), help="measure one figure and print JSON"
    )
    parser.add_argument("--keep", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = QUICK_ROWS if arguments.quick else ROWS
    if arguments.child:
        part, side = arguments.child
        if part == "draws":
            found = draws(side, (QUICK_SIZES if arguments.quick else SIZES)[arguments.size])
        else:
            found = PARTS[part][1](side, rows, arguments.keep)
        print(json.dumps(found))
        return
    options = ["--quick"] if arguments.quick else []
    print(f"{CLASSES} Gaussians, ratio {RATIO:g}, {NOISE:.0%} of the labels wrong; one thread, CPU seconds")
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.part:
            if name == "draws":
                report_draws(arguments.quick)
            else:
                report(name, rows, options, Path(folder))


if __name__ == "__main__":
    main()
