"""The files of CIFAR-10 and CIFAR-100 as their author publishes them (Krizhevsky, 2009).

Both come pickled (``cifar-10-batches-py``, ``cifar-100-python``) and as plain bytes (``cifar-10-batches-bin``,
``cifar-100-binary``). A pickle may run any program: here only arrays, lists and text are taken out of it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nearfar.data.array_pickle import read_array_pickle
from nearfar.errors import DataError, first_line

PIXELS = 3072
_TRAIN, _TEST = tuple(f"data_batch_{number}" for number in range(1, 6)), ("test_batch",)
# By number of classes: folder, training and test files of the pickled form, then of the plain one.
PICKLED = {10: ("cifar-10-batches-py", _TRAIN, _TEST), 100: ("cifar-100-python", ("train",), ("test",))}
PLAIN = {
    10: ("cifar-10-batches-bin", tuple(f"{name}.bin" for name in _TRAIN), ("test_batch.bin",)),
    100: ("cifar-100-binary", ("train.bin",), ("test.bin",)),
}
Part = tuple[NDArray[np.uint8], NDArray[np.int64]]


def read_cifar(folder: Path, num_classes: int) -> tuple[Part, Part]:
    """Training and test images with their classes.

    Args:
        folder: Holds one of the published folders, or is one.
        num_classes: 10 or 100.

    Returns:
        Twice images, uint8, shape ``(N, 3, 32, 32)``, and classes, int64, shape ``(N,)``.

    Raises:
        DataError: If no such folder is there, or a file in it is not what it should be.
    """
    name, train, test = PICKLED[num_classes]
    plain, plain_train, plain_test = PLAIN[num_classes]
    for place in (folder / name, folder):
        if (place / train[0]).is_file():
            return _pickled(place, train, num_classes), _pickled(place, test, num_classes)
    for place in (folder / plain, folder):
        if (place / plain_train[0]).is_file():
            return _plain(place, plain_train, num_classes), _plain(place, plain_test, num_classes)
    raise DataError(
        f"data_dir: {folder} holds neither {name} nor {plain}; download CIFAR-{num_classes} and unpack it there"
    )


def _pickled(folder: Path, names: tuple[str, ...], num_classes: int) -> Part:
    key = b"labels" if num_classes == 10 else b"fine_labels"
    images, classes = [], []
    for name in names:
        path = folder / name
        try:
            content = read_array_pickle(path, what="file of CIFAR")
            images.append(np.asarray(content[b"data"], dtype=np.uint8).reshape(-1, 3, 32, 32))
            classes.append(np.asarray(content[key], dtype=np.int64).reshape(-1))
        except DataError:
            raise
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{path} is no file of CIFAR: {first_line(error)}") from None
    return _joined(folder, num_classes, images, classes)


def _plain(folder: Path, names: tuple[str, ...], num_classes: int) -> Part:
    labels = 1 if num_classes == 10 else 2  # CIFAR-100 has a coarse one in front
    images, classes = [], []
    for name in names:
        path = folder / name
        content = np.fromfile(path, dtype=np.uint8) if path.is_file() else np.empty(1, np.uint8)
        if len(content) % (PIXELS + labels):
            raise DataError(f"{path} is missing, or not made of rows of {PIXELS + labels} bytes")
        rows = content.reshape(-1, PIXELS + labels)
        images.append(rows[:, labels:].reshape(-1, 3, 32, 32))
        classes.append(rows[:, labels - 1].astype(np.int64))
    return _joined(folder, num_classes, images, classes)


def _joined(
    folder: Path, num_classes: int, images: list[NDArray[np.uint8]], classes: list[NDArray[np.int64]]
) -> Part:
    x, y = np.concatenate(images), np.concatenate(classes)
    if len(x) != len(y) or not len(x):
        raise DataError(f"{folder}: {len(x)} images and {len(y)} classes; download it again")
    if y.min() < 0 or y.max() >= num_classes:
        raise DataError(f"{folder}: classes from 0 to {num_classes - 1} expected, got {y.min()} to {y.max()}")
    return x, y
