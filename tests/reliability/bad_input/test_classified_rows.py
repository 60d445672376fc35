"""B06: rows with classes, for calibration and long tails, that must be refused, or follow a policy.

=====================================  ==========================================================================
case                                   where
=====================================  ==========================================================================
NaN, infinite, huge features           here, through a file, both trainers and the classifier of features
one class                              a file: refused; trainers and the classifier predict it, and say so
a class of one row                     here: allowed
labels negative, text, gaps            any hashable label is a class: here, allowed
labels fractional                      taken for classes, and said
labels missing, infinite, empty        here
labels that differ by white space      here
rows != labels                         here
zero columns, constant columns         here: refused; said
fewer rows than a batch                here: allowed
splits that empty a class              holding out takes none of a class of one row; thinning out: here
noise rate, imbalance                  here, functions and commands
rows of another width at prediction    here
=====================================  ==========================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from nearfar.adapters import FeatureInputs, ImageInputs, as_inputs
from nearfar.calibration import RCALTrainer
from nearfar.classification.datasets import load_dataset
from nearfar.classification.training_rows import training_rows
from nearfar.encoders import MLP
from nearfar.errors import ConfigError, DataError
from nearfar.labels import label_noise, long_tail
from nearfar.longtail import SBCLTrainer
from nearfar.optional import installed
from nearfar.runtime import numpy_generator

Y = np.repeat(np.arange(3), 12)
X = (3 * np.eye(3, 4)[Y] + numpy_generator(0, "rows").normal(size=(36, 4))).astype(np.float32)
NAMES = np.array(["a", "b", "c"])[Y]

# Counted apart: what is refused, and what is odd and follows a policy.
refused_case = pytest.mark.row("B06", bad_inputs=1)
odd_case = pytest.mark.row("B06", odd_inputs=1)
with_sklearn = pytest.mark.skipif(not installed("sklearn"), reason="scikit-learn is not installed")
OWNERS = ["rcal", "sbcl", pytest.param("features", marks=with_sklearn)]


def at(value: float) -> NDArray[np.float64]:
    copy = X.astype(np.float64)
    copy[2, 3] = value
    return copy


def trained(owner: str, rows: Any, labels: Any, encoder: nn.Module | None = None, **more: Any) -> Any:
    """Something fitted for two epochs."""
    if owner == "features":
        from nearfar.calibration.feature_classifier import RCALFeatureClassifier

        return RCALFeatureClassifier(**{"epochs": 2, "random_state": 0, "device": "cpu", **more}).fit(
            rows, labels
        )
    settings = {"epochs": 2, "batch_size": 16, "device": "cpu", **more}
    encoder = encoder or MLP(4, (8,))
    if owner == "rcal":
        return RCALTrainer(encoder, rows, labels, pretrain__epochs=1, **settings).pretrain().fit()
    return SBCLTrainer(encoder, rows, labels, warmup_epochs=1, subclasses__every=1, **settings).fit()


ROWS: list[tuple[str, Any, str, str]] = [
    ("nan", at(np.nan), "row 2, column 3", "fill it"),
    ("infinite", at(-np.inf), "row 2, column 3", "fill it"),
    ("huge", at(1e300), r"1e\+300 in row 2, column 3", "power of ten"),
    ("no-square", at(1e38), r"1e\+38 in row 2, column 3", "power of ten"),
    ("zero-columns", X[:, :0], r"\(36, 0\)|shape=\(36, 0\)", "one feature expected|minimum of 1"),
    ("no-rows", X[:0], r"\(0, 4\)|shape=\(0, 4\)", "one row|minimum of 1"),
    ("flat", X[:, 0], "1 axes|1D array", "(?i)reshape"),
    ("text", np.full((36, 4), "low"), "str|'low'", "convert"),
    ("complex", X + 1j, "(?i)complex", "real numbers|not supported"),
    ("ragged", [[1, 2], [3]], "inhomogeneous", "rectangular|sequence"),
    ("nothing", None, "0 axes|scalar array", "(?i)reshape|expected"),
]


@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.parametrize(("rows", "value", "fix"), [pytest.param(*case[1:], id=case[0]) for case in ROWS])
@refused_case
def test_rows(owner: str, rows: Any, value: str, fix: str, refuses: Any) -> None:
    with refuses("^(features|rows|X): ", value, fix):
        trained(owner, rows, Y)


LABELS: list[tuple[str, Any, str, str]] = [
    ("too-few", Y[:5], "got 5", "one .*for each"),
    ("nan", np.where(Y == 0, np.nan, Y), "nan|NaN", "drop such rows|contains"),
    ("none", np.array([None, *[1] * 35], dtype=object), "None in row 0", "drop such rows"),
    ("infinite", np.where(Y == 0, np.inf, Y), "inf", "drop such rows|contains infinity"),
    ("empty", np.where(Y == 0, "", NAMES), "''", "drop such rows"),
    ("white-space", np.where(np.arange(36) == 3, "a ", NAMES), "'a' and 'a '", "strip them"),
    ("nothing", None, "None", "expected|passed"),
    ("unhashable", [[1]] * 36, r"\[1\]", "use text|1d array|2d|number"),
]


@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.parametrize(("labels", "value", "fix"), [pytest.param(*case[1:], id=case[0]) for case in LABELS])
@refused_case
def test_labels(owner: str, labels: Any, value: str, fix: str, refuses: Any) -> None:
    with refuses("^(labels|y: |RCALFeatureClassifier requires y)", value, fix):
        trained(owner, X, labels)


ALLOWED: list[tuple[str, Any, Any]] = [
    ("negative", X, Y - 5),
    ("gaps", X, Y * 10**9),
    ("text", X, NAMES),
    ("whole-numbers-in-floats", X, Y.astype(float)),
    ("class-of-one-row", X, np.where(np.arange(36) == 35, 9, np.minimum(Y, 1))),
    ("fewer-rows-than-a-batch", X[::5], Y[::5]),
    ("two-rows", X[[0, 35]], Y[[0, 35]]),
]


@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.parametrize(("rows", "labels"), [pytest.param(*case[1:], id=case[0]) for case in ALLOWED])
@odd_case
def test_what_is_allowed(owner: str, rows: Any, labels: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found = trained(owner, rows, labels)
    assert np.isfinite(np.asarray(found.predict_proba(rows))).all()
    assert set(found.classes_.tolist()) == set(labels.tolist())
    assert "labels" not in capsys.readouterr().err


FLAT = np.concatenate([X, np.full((36, 1), 7.0, np.float32)], axis=1)
SAID: list[tuple[str, Any, Any, str]] = [
    ("one-class", X, ["only"] * 36, "labels: all 36 rows are of class 'only'"),
    ("a-class-a-row", X, np.arange(36), "labels: 36 classes for as many rows"),
    ("constant-column", FLAT, Y, "features: 1 of 5 columns is constant, the first is column 4"),
    ("all-constant", np.ones_like(X), Y, "features: 4 of 4 columns are constant"),
]


@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.parametrize(("rows", "labels", "said"), [pytest.param(*case[1:], id=case[0]) for case in SAID])
@odd_case
def test_what_is_allowed_and_said(
    owner: str, rows: Any, labels: Any, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = trained(owner, rows, labels, encoder=MLP(rows.shape[1], (8,)))
    assert np.isfinite(np.asarray(found.predict_proba(rows))).all()
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("owner", ["rcal", "sbcl"])
@odd_case
def test_fractional_labels_are_classes_and_that_is_said(
    owner: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = trained(owner, X, Y + 0.5)
    assert found.classes_.tolist() == [0.5, 1.5, 2.5]
    assert "labels: 0.5 is taken for a class" in capsys.readouterr().err


@pytest.fixture(scope="module")
def fitted() -> dict[str, Any]:
    owners = ["rcal", "sbcl", *(["features"] if installed("sklearn") else [])]
    return {owner: trained(owner, X, Y) for owner in owners}


ASKED: list[tuple[str, Any, str, str]] = [
    ("nan", at(np.nan), "row 2, column 3", "fill it"),
    ("width", X[:, :2], r"\(N, 2\)|2 features", "same columns|expecting 4"),
    ("images", np.ones((2, 1, 4, 4)), r"1, 4, 4|dim 4", "same columns|dim <= 2"),
    ("none", X[:0], r"\(0, 4\)", "one row|minimum of 1"),
    ("flat", X[0], "1 axes|1D array", "(?i)reshape"),
    ("text", np.full((2, 4), "low"), "str|'low'", "convert"),
]


@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.parametrize(("rows", "value", "fix"), [pytest.param(*case[1:], id=case[0]) for case in ASKED])
@refused_case
def test_rows_to_predict(
    owner: str, rows: Any, value: str, fix: str, refuses: Any, fitted: dict[str, Any]
) -> None:
    with refuses("^(features|rows|X): ", value, fix):
        fitted[owner].predict(rows)


@pytest.mark.parametrize("owner", ["rcal", "sbcl"])
@refused_case
def test_encoders_of_another_width(owner: str, refuses: Any) -> None:
    with refuses("^encoder: MLP", r"\(\d+, 4\)", "build it for these rows"):
        trained(owner, X, Y, encoder=MLP(3, (8,)))


@pytest.mark.parametrize("owner", ["rcal", "sbcl"])
@refused_case
def test_encoders_that_diverged(owner: str, refuses: Any) -> None:
    encoder = MLP(4, (8,))
    with torch.no_grad():
        next(encoder.parameters()).fill_(torch.nan)
    with refuses("representations", "row 0", "whether the encoder diverged"):
        RCALTrainer(encoder, X, Y, device="cpu").calibrate() if owner == "rcal" else SBCLTrainer(
            encoder, X, Y
        )


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("keep", {"keep": 2}),
        ("head_lr", {"lr": float("nan")}),
        ("epochs", {"epochs": -1}),
        ("batch_size", {"batch_size": 0}),
        ("random_state", {"random_state": "a"}),
        ("outlier", {"outlier": "far"}),
        ("sample_weight", {}),
    ],
)
@with_sklearn
@refused_case
def test_settings_of_the_classifier(field: str, given: dict[str, Any], refuses: Any) -> None:
    from nearfar.calibration.feature_classifier import RCALFeatureClassifier

    value = str(next(iter(given.values()), "features and labels only"))
    with refuses(field, value, "should be|give a whole number|drop rows", ConfigError):
        RCALFeatureClassifier(**given).fit(X, Y, **({} if given else {"sample_weight": Y}))


# Files


def written(folder: Path, **changes: Any) -> Path:
    arrays = {"x_train": X, "y_train": Y, "x_test": X[::3], "y_test": Y[::3], **changes}
    path = folder / "rows.npz"
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


GREY = np.full((36, 1, 4, 4), 2.0, np.float32)
FILES: list[tuple[str, dict[str, Any], str, str, str]] = [
    ("nan", {"x_train": at(np.nan)}, "x_train", "row 2", "repair or drop"),
    ("infinite-in-test", {"x_test": at(np.inf)[:12]}, "x_test", "row 2", "repair or drop"),
    ("huge", {"x_train": at(1e30)}, "x_train", r"row 2 .*1e\+18", "power of ten"),
    ("zero-columns", {"x_train": X[:, :0], "x_test": X[::3, :0]}, "x_train", r"\(36, 0\)", "reshape"),
    ("no-rows", {"x_train": X[:0], "y_train": Y[:0]}, "x_train", "no row", "one at least"),
    ("no-test-rows", {"x_test": X[:0], "y_test": Y[:0]}, "x_test", "no row", "one at least"),
    ("three-axes", {"x_train": X[..., None]}, "x_train", r"\(36, 4, 1\)", "reshape"),
    ("text", {"x_train": X.astype(str)}, "x_train", "<U", "convert them"),
    ("widths", {"x_test": X[::3, :2]}, "rows of one shape", r"\(2,\) in x_test", "expected"),
    ("bright-images", {"x_train": GREY, "x_test": GREY[:12]}, "images", "2 to 2", "scale them"),
    ("rows-and-labels", {"y_train": Y[:5]}, "y_train", r"\(5,\)", "give each row one"),
    ("labels-by-column", {"y_train": Y[:, None]}, "y_train", r"shape \(n,\)", "one class a row"),
    ("label-nan", {"y_train": np.where(Y == 0, np.nan, Y)}, "labels", "nan", "drop such rows"),
    ("label-infinite", {"y_train": np.where(Y == 0, np.inf, Y)}, "y_train", "inf", "drop such rows"),
    (
        "label-empty",
        {"y_train": np.where(Y == 0, "", NAMES), "y_test": NAMES[::3]},
        "y_train",
        "''",
        "drop such",
    ),
    (
        "white-space",
        {"y_train": np.where(Y == 0, "a ", NAMES), "y_test": NAMES[::3]},
        "y_train",
        "'a'",
        "strip",
    ),
    ("bytes", {"y_train": NAMES.astype(bytes)}, "classes", "S1", "convert them"),
    ("classes-of-another-kind", {"y_train": NAMES}, "y_test", "'0' first", "both parts alike"),
    ("left-out", {"y_test": None}, "lacks y_test", "holds x_train", "lacks"),
    ("true-labels", {"y_train_true": Y[:3]}, "y_train_true", r"\(3,\)", r"shape \(36,\) expected"),
    ("half-of-the-finer", {"y_train_fine": Y}, "lacks y_test_fine", "finer classes", "of both parts"),
]


@pytest.mark.parametrize(
    ("changes", "field", "value", "fix"), [pytest.param(*case[1:], id=case[0]) for case in FILES]
)
@refused_case
def test_a_file(
    changes: dict[str, Any], field: str, value: str, fix: str, refuses: Any, tmp_path: Path
) -> None:
    path = written(tmp_path, **changes)
    with refuses(f"rows.npz.*{field}", value, fix):
        load_dataset(str(path))


@refused_case
def test_one_class_to_train_on(refuses: Any, tmp_path: Path) -> None:
    data = load_dataset(str(written(tmp_path, y_train=Y * 0)))
    assert any("all 36 rows are of class 0" in said for said in data.warnings)
    with refuses("rows.npz: y_train", "all 36 rows .* class 0", "add rows of another one"):
        training_rows(data, seed=0)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
@odd_case
def test_holding_out_empties_no_class(share: float, tmp_path: Path) -> None:
    lonely = np.where(np.arange(36) == 35, 2, np.minimum(Y, 1))
    rows = training_rows(load_dataset(str(written(tmp_path, y_train=lonely))), seed=0, validation=share)
    assert rows.counts(3).min() >= 1
    assert 2 not in rows.held_given


@refused_case
def test_nothing_to_hold_out(refuses: Any, tmp_path: Path) -> None:
    data = load_dataset(str(written(tmp_path)))
    with refuses("^validation=0.01", "12 rows is none", "raise it"):
        training_rows(data, seed=0, validation=0.01)


Spoil = Callable[[], Any]
RNG = numpy_generator(0, "spoilt")
SPOILT: list[tuple[str, Spoil, str, str, str, type[Exception]]] = [
    *(
        (
            f"rate-{rate}",
            lambda rate=rate: label_noise(Y, rate, rng=RNG),
            "^rate",
            str(rate),
            r"in \[0, 1\)",
            ConfigError,
        )
        for rate in (-0.1, 1, 1.5, float("nan"), "x")
    ),
    *(
        (
            f"ratio-{ratio}",
            lambda ratio=ratio: long_tail(Y, ratio, rng=RNG),
            "^ratio",
            str(ratio),
            "at least 1",
            ConfigError,
        )
        for ratio in (0.5, 0, -1, float("nan"), float("inf"), "x")
    ),
    ("kind", lambda: label_noise(Y, 0.2, kind="sim", rng=RNG), "^kind", "'sim'", "sym", ConfigError),  # type: ignore[arg-type]
    ("profile", lambda: long_tail(Y, 3, profile="lin", rng=RNG), "^profile", "'lin'", "exp", ConfigError),  # type: ignore[arg-type]
    (
        "one-class",
        lambda: label_noise(Y * 0, 0.2, rng=RNG),
        "^labels",
        "kind='imb'",
        "second class",
        DataError,
    ),
    (
        "beyond-classes",
        lambda: label_noise(Y, 0.2, num_classes=2, rng=RNG),
        "^labels",
        "2 in row 24",
        "below 2",
        DataError,
    ),
    (
        "negative",
        lambda: long_tail(Y - 1, 3, rng=RNG),
        "^labels",
        "-1 in row 0",
        "from 0 expected",
        DataError,
    ),
    ("fractional", lambda: long_tail(Y + 0.5, 3, rng=RNG), "^labels", "float64", "encode_labels", DataError),
    ("text", lambda: label_noise(NAMES, 0.2, rng=RNG), "^labels", "<U1", "encode_labels", DataError),
    (
        "gaps",
        lambda: long_tail(Y * 2, 3, rng=RNG),
        "^labels",
        "class 1 has no items",
        "without gaps",
        DataError,
    ),
    (
        "empty-class",
        lambda: long_tail(Y, 3, largest=99, rng=RNG),
        "^largest",
        "class 0 has 12",
        "at most",
        DataError,
    ),
    ("nothing", lambda: long_tail([], 3, rng=RNG), "^labels", "no items", "to choose from", DataError),
]


@pytest.mark.parametrize(
    ("spoil", "field", "value", "fix", "error"), [pytest.param(*case[1:], id=case[0]) for case in SPOILT]
)
@refused_case
def test_noise_and_long_tails(
    spoil: Spoil, field: str, value: str, fix: str, error: type[Exception], refuses: Any
) -> None:
    with refuses(field, value, fix, error):
        spoil()


# Rows of anybody's

GIVEN: list[tuple[str, Callable[[], Any], str, str, str]] = [
    ("features-of-truth", lambda: FeatureInputs(X > 0), "features", "bool", "convert"),
    ("features-nan", lambda: FeatureInputs(at(np.nan)), "features", "nan in row 2, column 3", "fill it"),
    ("features-axes", lambda: FeatureInputs(X[None]), "features", r"\(1, 36, 4\)", "reshape"),
    (
        "images-channels",
        lambda: ImageInputs(np.zeros((2, 5, 4, 4))),
        "images",
        r"\(2, 5, 4, 4\)",
        "channels come first",
    ),
    ("images-bright", lambda: ImageInputs(GREY), "images", "2 to 2", "divide by the largest"),
    ("images-integers", lambda: ImageInputs(np.zeros((2, 1, 4, 4), int)), "images", "int64", "convert them"),
    (
        "images-nan",
        lambda: ImageInputs(GREY * np.nan),
        "images",
        "nan in image 0, channel 0, row 0",
        "fill it",
    ),
    ("rows-axes", lambda: as_inputs(np.zeros((1, 1, 1, 1, 1))), "rows", "5 axes", "reshape"),
    ("rows-ragged", lambda: as_inputs([[1], [1, 2]]), "rows", "inhomogeneous", "pad"),
    ("rows-nothing", lambda: as_inputs(None), "rows", "0 axes", "reshape"),
]


@pytest.mark.parametrize(
    ("make", "field", "value", "fix"), [pytest.param(*case[1:], id=case[0]) for case in GIVEN]
)
@refused_case
def test_rows_of_anybody(make: Callable[[], Any], field: str, value: str, fix: str, refuses: Any) -> None:
    with refuses(f"^{field}", value, fix):
        make()


@pytest.mark.parametrize("method", ["calibration.rcal", "longtail.sbcl"])
@pytest.mark.parametrize(
    ("changes", "words", "code", "told"),
    [
        pytest.param({"x_train": at(np.nan)}, [], 3, "x_train: row 2 is not finite", id="nan"),
        pytest.param({"y_train": Y * 0}, [], 3, "all 36 rows to train on are of class 0", id="one-class"),
        pytest.param({"y_train": Y[:5]}, [], 3, "y_train: one class a row expected", id="labels"),
        pytest.param({}, ["noise.rate=1.5"], 2, "noise.rate: ", id="noise"),
        pytest.param({}, ["noise.rate=-0.1"], 2, "noise.rate: ", id="negative-noise"),
        pytest.param({}, ["imbalance.ratio=0.5"], 2, "imbalance.ratio: ", id="imbalance"),
        pytest.param(
            {}, ["imbalance.ratio=2", "imbalance.largest=99"], 3, "largest: class 0 has 12", id="largest"
        ),
        pytest.param({}, ["validation=0.01"], 3, "validation=0.01", id="validation"),
    ],
)
@refused_case
def test_a_command(
    method: str, changes: dict[str, Any], words: list[str], code: int, told: str, command: Any, tmp_path: Path
) -> None:
    path = written(tmp_path, **changes)
    assert told in command(["train", method, f"data={path}", "device=cpu", *words], code)
