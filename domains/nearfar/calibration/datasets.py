"""From ``data=<name or file>`` to rows with classes: digits, CIFAR, a file of yours.

All of them are clean and whole; :mod:`nearfar.calibration.spoilt` thins classes out and makes labels wrong.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nearfar.calibration.cifar import read_cifar
from nearfar.config import suggest
from nearfar.data import content_digest
from nearfar.errors import DataError
from nearfar.labels import encode_labels, rows_per_class
from nearfar.optional import require
from nearfar.runtime import numpy_generator

TEST_PER_CLASS = 50
DIGITS_LARGEST = 120


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
    warnings: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        """Check all of it once."""
        for part, x, y in (("train", self.x_train, self.y_train), ("test", self.x_test, self.y_test)):
            _check(f"{self.source}: x_{part}", x)
            if y.shape != (len(x),):
                raise DataError(
                    f"{self.source}: y_{part}: one class a row expected, shape ({len(x)},), got {tuple(y.shape)}"
                )
            if not len(y):
                raise DataError(f"{self.source}: x_{part} has no row")
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
        parts += [] if self.true is None else [self.true]
        return content_digest(*(part.numpy() for part in parts))


def load_dataset(data: str, data_dir: str | Path | None = None) -> LabelledDataset:
    """Find, read and check a data set.

    Args:
        data: ``digits`` (scikit-learn's, 50 images of every class to test on); ``cifar10`` or ``cifar100`` (unpacked in
            ``data_dir``); or an ``.npz`` file with ``x_train``, ``y_train``, ``x_test``, ``y_test`` and, if it is known
            which labels are right, ``y_train_true``. Features are ``(n, m)``, images ``(n, C, H, W)``; classes may be
            numbers or text.
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
        "cifar10": lambda: _cifar(folder, 10),
        "cifar100": lambda: _cifar(folder, 100),
    }
    name = data.lower().replace("-", "")
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
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in (*names, "y_train_true") if name in file}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is no .npz file of arrays: {error}") from error
    missing = [name for name in names if name not in arrays]
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}; it holds {', '.join(arrays) or 'nothing known'}")
    train, test = arrays["y_train"], arrays["y_test"]
    true = arrays.get("y_train_true")
    every = [train, test] if true is None else [train, test, true]
    if any(part.ndim != 1 for part in every):
        raise DataError(f"{path}: y_train, y_test and y_train_true hold one class a row, shape (n,)")
    if any(part.dtype.kind not in "iubfU" for part in every):
        kinds = ", ".join(sorted({str(part.dtype) for part in every}))
        raise DataError(
            f"{path}: classes are numbers or text, got {kinds}; convert them (bytes: .astype(str))"
        )
    codes, classes = encode_labels(np.concatenate(every))
    parts = torch.as_tensor(codes).split([len(part) for part in every])
    warnings = []
    absent = sorted(set(range(len(classes))) - set(parts[0].tolist()))
    if absent:
        warnings.append(
            f"{len(absent)} classes have no training row, class {classes.tolist()[absent[0]]!r} first"
        )
    return LabelledDataset(
        path.stem,
        str(path),
        _rows(arrays["x_train"]),
        parts[0],
        _rows(arrays["x_test"]),
        parts[1],
        tuple(classes.tolist()),
        true=parts[2] if true is not None else None,
        warnings=tuple(warnings),
    )


def _rows(x: Any) -> Tensor:
    if x.dtype.kind not in "fiub":
        raise DataError(f"x_train, x_test: numbers expected, got {x.dtype}")
    if x.dtype == np.uint8 and x.ndim == 4:
        return torch.from_numpy(x)
    return torch.from_numpy(np.asarray(x, dtype=np.float32))


def _check(name: str, x: Tensor) -> None:
    if x.dim() not in (2, 4) or 0 in x.shape[1:]:
        raise DataError(
            f"{name}: features (n, m) or images (n, C, H, W) expected, got shape {tuple(x.shape)}"
        )
    if not x.is_floating_point():
        return
    wrong = (~x.flatten(1).isfinite().all(1)).nonzero()[:, 0]
    if len(wrong):
        raise DataError(
            f"{name}: row {int(wrong[0])} is not finite ({len(wrong)} such rows); repair or drop them"
        )
    if x.dim() == 4 and (x.min() < 0 or x.max() > 1):
        raise DataError(
            f"{name}: images of floating point are in [0, 1], got {float(x.min()):g} to {float(x.max()):g}; "
            "scale them, or give uint8"
        )
