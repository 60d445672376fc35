"""The four forms CIFAR is published in, and files that are not what they should be."""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nearfar.classification.cifar import read_cifar
from nearfar.classification.datasets import load_dataset
from nearfar.errors import DataError
from nearfar.runtime import numpy_generator

Images = NDArray[np.uint8]
PARTS = {10: [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"], 100: ["train", "test"]}
FOLDERS = {
    (10, "pickled"): "cifar-10-batches-py",
    (100, "pickled"): "cifar-100-python",
    (10, "plain"): "cifar-10-batches-bin",
    (100, "plain"): "cifar-100-binary",
}


def part(number: int, num_classes: int, rows: int = 3) -> tuple[Images, NDArray[np.int64]]:
    """Images, shape ``(rows, 3, 32, 32)``, and classes of one file."""
    rng = numpy_generator(number, "part")
    return rng.integers(0, 256, (rows, 3, 32, 32), dtype=np.uint8), rng.integers(0, num_classes, rows)


def as_python_2(x: Images, labels: dict[str, list[int]]) -> bytes:
    """What Python 2 wrote: protocol 2, byte strings, names of the NumPy of 2009."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + text(b"b") + b"tR"
    dtype = b"cnumpy\ndtype\n(" + text(b"u1") + b"K\x00K\x01tR(K\x03" + text(b"|") + b"NNN"
    dtype += number(-1) * 2 + b"K\x00tb"
    flat = x.reshape(len(x), -1)
    content = b"T" + struct.pack("<i", flat.nbytes) + flat.tobytes()
    array = (
        made + b"(K\x01(" + number(flat.shape[0]) + number(flat.shape[1]) + b"t" + dtype + b"I00\n" + content
    )
    out = b"\x80\x02(" + text(b"batch_label") + text(b"a batch") + text(b"data") + array + b"tb"
    for name, values in labels.items():
        out += text(name.encode()) + b"(" + b"".join(number(v) for v in values) + b"l"
    return out + b"d."


def content_of(form: str, x: Images, y: NDArray[np.int64], num_classes: int) -> bytes:
    """One file."""
    coarse = (y // 5).tolist()
    names = (
        {"labels": y.tolist()} if num_classes == 10 else {"coarse_labels": coarse, "fine_labels": y.tolist()}
    )
    if form == "python 2":
        return as_python_2(x, names)
    if form == "pickled":
        keyed: dict[bytes, Any] = {name.encode(): values for name, values in names.items()}
        return pickle.dumps({b"data": x.reshape(len(x), -1), **keyed}, protocol=2)
    columns = [y] if num_classes == 10 else [np.array(coarse), y]
    rows = np.concatenate([np.stack(columns, 1).astype(np.uint8), x.reshape(len(x), -1)], 1)
    return rows.tobytes()


def write(folder: Path, form: str, num_classes: int) -> Path:
    """All files of one form, below ``folder``; returns where they lie."""
    kind = "plain" if form == "plain" else "pickled"
    place = folder / FOLDERS[num_classes, kind]
    place.mkdir(parents=True)
    for number, name in enumerate(PARTS[num_classes]):
        path = place / (f"{name}.bin" if kind == "plain" else name)
        path.write_bytes(content_of(form, *part(number, num_classes), num_classes))
    return place


@pytest.mark.parametrize("form", ["pickled", "python 2", "plain"])
@pytest.mark.parametrize("num_classes", [10, 100])
def test_all_published_forms_are_read(tmp_path: Path, form: str, num_classes: int) -> None:
    """Images and fine classes come back in order, from the folder or from the one above it."""
    place = write(tmp_path, form, num_classes)
    parts = [part(number, num_classes) for number in range(len(PARTS[num_classes]))]
    for folder in (tmp_path, place):
        (x, y), (x_test, y_test) = read_cifar(folder, num_classes)
        assert [str(array.dtype) for array in (x, y, y_test)] == ["uint8", "int64", "int64"]
        assert np.array_equal(x, np.concatenate([images for images, _ in parts[:-1]]))
        assert np.array_equal(y, np.concatenate([classes for _, classes in parts[:-1]]))
        assert np.array_equal(x_test, parts[-1][0])
        assert np.array_equal(y_test, parts[-1][1])
    found = load_dataset(f"cifar{num_classes}", place)
    assert found.is_images
    assert found.num_classes == num_classes
    assert np.array_equal(found.x_train.numpy(), x)
    assert found.true is None


def test_nothing_there(tmp_path: Path) -> None:
    """Both names and what to do are said."""
    with pytest.raises(
        DataError, match=r"data_dir: .* neither cifar-100-python nor cifar-100-binary; download CIFAR-100"
    ):
        read_cifar(tmp_path, 100)


class Command:
    """Runs a program when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: str) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("function", [os.system, os.mkdir, eval, getattr, np.load], ids=lambda f: f.__name__)
def test_a_pickle_that_runs_programs_is_refused_and_does_not(
    tmp_path: Path, protocol: int, function: Callable[..., Any]
) -> None:
    """Only what arrays are made of is built."""
    place, trace = write(tmp_path, "pickled", 10), tmp_path / "trace"
    told = {
        os.system: f"touch {trace}",
        os.mkdir: str(trace),
        eval: f"__import__('os').mkdir({str(trace)!r})",
    }.get(function, "x")
    content = pickle.dumps({b"data": Command(function, told), b"labels": [1]}, protocol=protocol)
    (place / "data_batch_2").write_bytes(content)
    with pytest.raises(DataError, match=r"data_batch_2 is no file of CIFAR: it asks for .*, which an array"):
        read_cifar(tmp_path, 10)
    assert not trace.exists()


@pytest.mark.parametrize("form", ["pickled", "python 2", "plain"])
def test_a_file_cut_off_anywhere_is_named(tmp_path: Path, form: str) -> None:
    """Wherever it ends, the message is one about data."""
    place = write(tmp_path, form, 10)
    path = place / ("data_batch_3.bin" if form == "plain" else "data_batch_3")
    content = path.read_bytes()
    ends = [*range(1, 260), *range(260, len(content), 997), len(content) - 2, len(content) - 1]
    for end in ends:
        path.write_bytes(content[:end])
        with pytest.raises(DataError, match="data_batch_3"):
            read_cifar(tmp_path, 10)
    path.unlink()
    with pytest.raises(DataError, match=r"data_batch_3.* (is missing|is no file of CIFAR)"):
        read_cifar(tmp_path, 10)


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    """A pickle of nothing is none."""
    (write(tmp_path, "pickled", 100) / "test").write_bytes(b"")
    with pytest.raises(DataError, match="test is no file of CIFAR"):
        read_cifar(tmp_path, 100)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({b"data": np.zeros((2, 3072), np.uint8)}, r"no file of CIFAR: b'labels'"),
        ({b"data": np.zeros((2, 100), np.uint8), b"labels": [0, 1]}, "cannot reshape"),
        (
            {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]},
            "images and 13 classes; download it again",
        ),
        ([1, 2], "no file of CIFAR"),
        (None, "no file of CIFAR"),
    ],
    ids=["no labels", "not images", "a label is missing", "a list", "none"],
)
def test_pickles_of_something_else(tmp_path: Path, content: Any, message: str) -> None:
    """Other keys, other shapes."""
    (write(tmp_path, "pickled", 10) / "data_batch_1").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(DataError, match=message):
        read_cifar(tmp_path, 10)
