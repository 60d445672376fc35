"""From ``data=<name or file>`` to rows with classes: digits, CIFAR, a file of yours.

All of them are clean and whole; :mod:`nearfar.classification.training_rows` thins classes out and makes labels wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.adapters.arrays import LARGEST
from nearfar.classification.cifar import read_cifar
from nearfar.classification.trainable import check_class_names, class_remarks
from nearfar.config import suggest
from nearfar.data import content_digest
from nearfar.data.npz import read_npz
from nearfar.errors import DataError
from nearfar.labels import encode_labels, rows_per_class
from nearfar.optional import require
from nearfar.runtime import numpy_generator

FINE = ("y_train_fine", "y_test_fine")
TEST_PER_CLASS = 50
DIGITS_LARGEST = 120
# Coarse class of every digit, and how many of each digit are trained on: a large class of five digits, one of two,
# three rare ones of one.
SUPERCLASSES = (0, 0, 0, 0, 0, 1, 1, 2, 3, 4)
SUPERCLASS_SIZES = (80, 80, 80, 80, 80, 40, 40, 20, 12, 12)


@dataclass(frozen=True, eq=False)
class LabelledDataset:
    """Rows with classes, to learn from and to test on, checked.

    Attributes:
        name: Of the data set.
        source: Where it came from.
        x_train: Features ``(n, m)``, or images ``(n, C, H, W)``, uint8 or floating point in [0, 1].
        y_train: Classes from 0, int64, shape ``(n,)``.
        x_test: As ``x_train``, ``(M, ...)``.
        y_test: Shape ``(M,)``.
        classes: What the numbers stand for.
        true: Right classes of the training rows, where known; ``y_train`` may be wrong then. Shape ``(n,)``.
        largest: Rows of the largest class when it is thinned out and nobody says otherwise.
        fine_train: Finer classes of the training rows, where known, inside those of ``y_train``: to look for, never to
            learn from. int64, shape ``(n,)``.
        fine_test: Those of the test rows, shape ``(M,)``.
        sizes: Training rows of every finer class (of every class, without such) that belong to the data; ``None`` is
            all.
        warnings: What the checks found worth saying.

    Raises:
        DataError: If a part is not as described.
    """

    name: str
    source: str
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    classes: tuple[Any, ...]
    true: Tensor | None = None
    largest: int | None = None
    fine_train: Tensor | None = None
    fine_test: Tensor | None = None
    sizes: tuple[int, ...] | None = None
    warnings: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        """Check all of it once."""
        for part, x, y in (("train", self.x_train, self.y_train), ("test", self.x_test, self.y_test)):
            _check(f"{self.source}: x_{part}", x)
            if y.shape != (len(x),):
                raise DataError(
                    f"{self.source}: y_{part}: one class a row expected, shape ({len(x)},), got {tuple(y.shape)}; "
                    "give each row one"
                )
            if not len(y):
                raise DataError(f"{self.source}: x_{part} has no row; one at least is needed")
        if self.x_train.shape[1:] != self.x_test.shape[1:]:
            raise DataError(
                f"{self.source}: rows of one shape expected, got {tuple(self.x_train.shape[1:])} in x_train and "
                f"{tuple(self.x_test.shape[1:])} in x_test"
            )
        if len(self.classes) < 2:
            raise DataError(f"{self.source}: y_train: two classes at least expected, got {self.classes}")
        if self.true is not None and self.true.shape != self.y_train.shape:
            raise DataError(
                f"{self.source}: y_train_true: shape {tuple(self.y_train.shape)} expected, got {tuple(self.true.shape)}"
            )
        if (self.fine_train is None) != (self.fine_test is None):
            raise DataError(
                f"{self.source}: y_train_fine and y_test_fine expected, or neither; got one of them"
            )
        for part, y, fine in (
            ("train", self.y_train, self.fine_train),
            ("test", self.y_test, self.fine_test),
        ):
            if fine is not None and fine.shape != y.shape:
                raise DataError(
                    f"{self.source}: y_{part}_fine: shape {tuple(y.shape)} expected, got {tuple(fine.shape)}"
                )

    @property
    def is_images(self) -> bool:
        """Whether rows are images."""
        return self.x_train.dim() == 4

    @property
    def num_classes(self) -> int:
        """Classes of the training and the test part together."""
        return len(self.classes)

    def digest(self) -> str:
        """Fingerprint of the content."""
        parts = [self.x_train, self.y_train, self.x_test, self.y_test]
        parts += [part for part in (self.true, self.fine_train, self.fine_test) if part is not None]
        return content_digest(*(part.numpy() for part in parts))


def load_dataset(data: str, data_dir: str | Path | None = None) -> LabelledDataset:
    """Find, read and check a data set.

    Args:
        data: ``digits`` (scikit-learn's, 50 images of every class to test on); ``superclass-digits`` (the same images,
            digits 0 to 4 one class, 5 and 6 another, 7, 8, 9 one each); ``cifar10`` or ``cifar100`` (unpacked in
            ``data_dir``); or an ``.npz`` file with ``x_train``, ``y_train``, ``x_test``, ``y_test`` and, if it is known
            which labels are right, ``y_train_true``; if finer classes are known, ``y_train_fine`` and ``y_test_fine``.
            Features are ``(n, m)``, images ``(n, C, H, W)``; classes may be numbers or text.
        data_dir: Folder to look in.

    Raises:
        DataError: If it cannot be found, read or used.
        MissingDependencyError: If scikit-learn is needed and not installed.

    Example:
        >>> digits = load_dataset("digits")
        >>> digits.x_train.shape, len(digits.x_test)
        (torch.Size([1297, 1, 8, 8]), 500)
    """
    folder = Path(data_dir).expanduser() if data_dir is not None else Path()
    known: dict[str, Callable[[], LabelledDataset]] = {
        "digits": _digits,
        "superclass-digits": _superclass_digits,
        "cifar10": lambda: _cifar(folder, 10),
        "cifar100": lambda: _cifar(folder, 100),
    }
    for name in (data.lower(), data.lower().replace("-", "")):
        if name in known:
            return known[name]()
    for path in (Path(data).expanduser(), folder / data):
        if path.is_file() and path.suffix == ".npz":
            return _file(path)
    hint = suggest(data, known, f"known are {', '.join(known)}, or an .npz file")
    raise DataError(f"data: there is no '{data}'; {hint}")


def _digits() -> LabelledDataset:
    found: Any = require("sklearn.datasets", "the digits").load_digits()
    x = torch.from_numpy(found.images).float()[:, None] / 16
    y = np.asarray(found.target, dtype=np.int64)
    test = np.zeros(len(y), dtype=bool)
    test[rows_per_class(y, [TEST_PER_CLASS] * 10, numpy_generator(0, "digits_test"))] = True
    part, labels = torch.from_numpy(test), torch.from_numpy(y)
    return LabelledDataset(
        "digits",
        "sklearn.datasets.load_digits",
        x[~part],
        labels[~part],
        x[part],
        labels[part],
        tuple(range(10)),
        largest=DIGITS_LARGEST,
    )


def _superclass_digits() -> LabelledDataset:
    digits, coarse = _digits(), torch.tensor(SUPERCLASSES)
    return replace(
        digits,
        name="superclass-digits",
        y_train=coarse[digits.y_train],
        y_test=coarse[digits.y_test],
        classes=("0-4", "5-6", "7", "8", "9"),
        largest=None,
        fine_train=digits.y_train,
        fine_test=digits.y_test,
        sizes=SUPERCLASS_SIZES,
    )


def _cifar(folder: Path, num_classes: int) -> LabelledDataset:
    (x_train, y_train), (x_test, y_test) = read_cifar(folder, num_classes)
    return LabelledDataset(
        f"cifar{num_classes}",
        str(folder),
        torch.from_numpy(x_train),
        torch.from_numpy(y_train),
        torch.from_numpy(x_test),
        torch.from_numpy(y_test),
        tuple(range(num_classes)),
    )


def _file(path: Path) -> LabelledDataset:
    names = ("x_train", "y_train", "x_test", "y_test")
    arrays = read_npz(path, (*names, "y_train_true", *FINE))
    missing = [name for name in names if name not in arrays]
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}; it holds {', '.join(arrays) or 'nothing known'}")
    true = arrays.get("y_train_true")
    parts, classes = _encoded(
        path, arrays, ("y_train", "y_test", *(() if true is None else ("y_train_true",)))
    )
    fine = None
    if any(name in arrays for name in FINE):
        if missing := [name for name in FINE if name not in arrays]:
            raise DataError(f"{path} lacks {missing[0]}; give finer classes of both parts, or of neither")
        fine, _ = _encoded(path, arrays, FINE)
    warnings = list(class_remarks("y_train", parts[0].numpy(), classes.tolist()))
    absent = sorted(set(range(len(classes))) - set(parts[0].tolist()))
    if len(parts[0]) and len(parts[1]) and set(parts[1].tolist()) <= set(absent):
        raise DataError(
            f"{path}: y_test: no training row is of any of its classes, {classes.tolist()[int(parts[1][0])]!r} "
            "first; write labels of both parts alike"
        )
    if absent:
        warnings.append(
            f"{len(absent)} classes have no training row, class {classes.tolist()[absent[0]]!r} first"
        )
    return LabelledDataset(
        path.stem,
        str(path),
        _rows(path, arrays["x_train"]),
        parts[0],
        _rows(path, arrays["x_test"]),
        parts[1],
        tuple(classes.tolist()),
        true=parts[2] if true is not None else None,
        fine_train=None if fine is None else fine[0],
        fine_test=None if fine is None else fine[1],
        warnings=tuple(warnings),
    )


def _encoded(
    path: Path, arrays: Mapping[str, Any], names: Sequence[str]
) -> tuple[tuple[Tensor, ...], NDArray[Any]]:
    """Codes of the classes in some arrays, and what they stand for."""
    every = [arrays[name] for name in names]
    if any(part.ndim != 1 for part in every):
        raise DataError(f"{path}: {', '.join(names)} hold one class a row, shape (n,)")
    if any(part.dtype.kind not in "iubfU" for part in every):
        kinds = ", ".join(sorted({str(part.dtype) for part in every}))
        raise DataError(
            f"{path}: classes are numbers or text, got {kinds}; convert them (bytes: .astype(str))"
        )
    try:
        codes, classes = encode_labels(np.concatenate(every))
        check_class_names(", ".join(names), classes.tolist())
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    return torch.as_tensor(codes).split([len(part) for part in every]), classes


def _rows(path: Path, x: Any) -> Tensor:
    if x.dtype.kind not in "fiub":
        raise DataError(f"{path}: x_train, x_test: numbers expected, got {x.dtype}; convert them to float32")
    if x.dtype == np.uint8 and x.ndim == 4:
        return torch.from_numpy(x)
    return torch.from_numpy(np.asarray(x, dtype=np.float32))


def _check(name: str, x: Tensor) -> None:
    if x.dim() not in (2, 4) or 0 in x.shape[1:]:
        raise DataError(
            f"{name}: features (n, m) or images (n, C, H, W) expected, got shape {tuple(x.shape)}; reshape "
            "them"
        )
    if not x.is_floating_point():
        return
    large = (x.abs() > LARGEST).flatten(1).any(1)
    wrong = (~x.flatten(1).isfinite().all(1)).nonzero()[:, 0]
    if len(wrong):
        raise DataError(
            f"{name}: row {int(wrong[0])} is not finite ({len(wrong)} such rows); repair or drop them"
        )
    if bool(large.any()):
        raise DataError(
            f"{name}: row {int(large.nonzero()[0])} has a number beyond {LARGEST:g}, its square is no number of "
            "float32; divide by a power of ten"
        )
    if x.dim() == 4 and (x.min() < 0 or x.max() > 1):
        raise DataError(
            f"{name}: images of floating point are in [0, 1], got {float(x.min()):g} to {float(x.max()):g}; "
            "scale them, or give uint8"
        )
