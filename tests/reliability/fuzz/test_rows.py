"""F04: rows with classes in .npz files and in the four forms of CIFAR."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

pytest.importorskip("hypothesis")
from hypothesis import given
from hypothesis import strategies as st

from nearfar.classification.cifar import PICKLED, PLAIN
from nearfar.classification.datasets import LabelledDataset, load_dataset

pytestmark = pytest.mark.row("F04")


def check(found: LabelledDataset | None) -> None:
    """What was read is whole."""
    if found is None:
        return
    for x, y in ((found.x_train, found.y_train), (found.x_test, found.y_test)):
        assert len(x) == len(y) > 0
        assert not x.is_floating_point() or x.isfinite().all()
        assert 0 <= y.min() <= y.max() < found.num_classes
    found.digest()


@pytest.mark.parametrize("images", [False, True])
@given(data=st.data())
def test_npz(fuzz: Any, images: bool, data: st.DataObject) -> None:
    """Features or images, with wrong labels and finer classes or without."""
    shape = (1, 3, 3) if images else (4,)
    x = (np.arange(12 * int(np.prod(shape))) % 7 / 7).reshape(12, *shape).astype(np.float32)
    arrays = {"x_train": x[:8], "y_train": np.arange(8) % 3, "x_test": x[8:], "y_test": np.arange(4) % 3}
    if data.draw(st.booleans()):
        arrays |= {"y_train_true": np.arange(8) % 3}
        arrays |= {"y_train_fine": np.arange(8) % 6, "y_test_fine": np.arange(4) % 6}
    content = data.draw(fuzz.spoilt_npz(arrays))
    check(fuzz.read({"toy.npz": content}, lambda folder: load_dataset("toy.npz", folder)))


def cifar_files(num_classes: int, pickled: bool) -> dict[str, bytes]:
    """All files of one form, two images each."""
    folder, train, test = (PICKLED if pickled else PLAIN)[num_classes]
    images = (np.arange(2 * 3072) % 251).astype(np.uint8).reshape(2, 3072)
    if pickled:
        names = [b"labels"] if num_classes == 10 else [b"fine_labels", b"coarse_labels"]
        content = pickle.dumps({b"data": images, **{name: [1, 2] for name in names}}, protocol=2)
    else:
        labels = 1 if num_classes == 10 else 2
        content = np.concatenate([np.ones((2, labels), np.uint8), images], 1).tobytes()
    return {f"{folder}/{name}": content for name in (*train, *test)}


@pytest.mark.parametrize("pickled", [False, True], ids=["bytes", "pickles"])
@pytest.mark.parametrize("num_classes", [10, 100])
@given(data=st.data())
def test_cifar(fuzz: Any, num_classes: int, pickled: bool, data: st.DataObject) -> None:
    """One file of them; nothing in a pickle is run, whatever it names."""
    files = cifar_files(num_classes, pickled)
    name = data.draw(st.sampled_from(sorted(files)))
    original = files[name]
    # What is worth spoiling is in front of the pixels and behind them.
    ends = data.draw(fuzz.spoilt_bytes(original[:400] + original[-200:]))
    files[name] = ends[:400] + original[400:-200] + ends[400:] if data.draw(st.booleans()) else ends
    found = fuzz.read(files, lambda folder: load_dataset(f"cifar{num_classes}", folder), ["cifar"])
    check(found)
