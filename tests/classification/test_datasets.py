"""Data by name or file, checked: what is read, and what is refused with which words."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nearfar.classification.datasets import LabelledDataset, load_dataset
from nearfar.classification.encoder import encoder_for, encoder_name, inputs_for
from nearfar.encoders import Standardised
from nearfar.errors import ConfigError, DataError
from nearfar.optional import PACKAGES, installed

Write = Callable[..., Path]


@pytest.mark.skipif(not installed("sklearn"), reason=f"needs scikit-learn: {PACKAGES['sklearn'].command}")
def test_digits_are_all_there_once() -> None:
    """1797 of them, 50 of each class to test on, no image in both parts; the same split every time."""
    found, again = load_dataset("digits"), load_dataset("Digits")
    assert found.x_train.shape == (1297, 1, 8, 8)
    assert found.y_test.bincount().tolist() == [50] * 10
    assert 0 <= found.x_train.min() < found.x_train.max() == 1
    rows = torch.cat([found.x_train, found.x_test]).flatten(1)
    from sklearn.datasets import load_digits

    given = load_digits()
    pairs = sorted(map(tuple, np.column_stack([given.data / 16, given.target]).tolist()))
    labels = torch.cat([found.y_train, found.y_test])[:, None]
    assert sorted(map(tuple, torch.cat([rows.double(), labels], 1).tolist())) == pairs
    assert found.digest() == again.digest()
    assert found.largest is not None
    assert found.largest <= int(found.y_train.bincount().min())


def test_superclass_digits_are_the_same_images() -> None:
    """Coarse classes by digit, which are kept beside them; each digit has the rows its size asks for."""
    fine, coarse = load_dataset("digits"), load_dataset("Superclass-Digits")
    assert torch.equal(coarse.x_train, fine.x_train)
    assert coarse.fine_train is not None
    assert coarse.fine_test is not None
    assert torch.equal(coarse.fine_train, fine.y_train)
    for y, digits in ((coarse.y_train, coarse.fine_train), (coarse.y_test, coarse.fine_test)):
        groups = {(int(a), int(b)) for a, b in zip(digits, y, strict=True)}
        assert groups == set(enumerate((0, 0, 0, 0, 0, 1, 1, 2, 3, 4)))
    assert coarse.sizes is not None
    assert all(fine.y_train.bincount() >= torch.tensor(coarse.sizes))
    assert coarse.digest() != fine.digest()


def test_finer_classes_of_a_file(write_npz: Write) -> None:
    """Text too; their codes are those of both parts together, and the fingerprint notices them."""
    names = np.array(["ant", "bee", "cat", "dog"])
    fine = {"y_train_fine": names[np.repeat([0, 1, 3], 20)], "y_test_fine": names[np.repeat([0, 2, 3], 6)]}
    found = load_dataset(str(write_npz("with", **fine)))
    assert found.fine_train is not None
    assert found.fine_test is not None
    assert found.fine_train.unique().tolist() == [0, 1, 3]
    assert found.fine_test.unique().tolist() == [0, 2, 3]
    assert found.digest() != load_dataset(str(write_npz("without"))).digest()
    for name in fine:
        with pytest.raises(DataError, match=f"lacks {name}; give finer classes of both parts, or of neither"):
            load_dataset(str(write_npz("half", **{**fine, name: None})))


def test_a_file_of_features(write_npz: Write) -> None:
    """Numbers become float32, classes the numbers from 0; the name is that of the file."""
    path = write_npz(
        x_train=np.arange(8).reshape(4, 2), y_train=[7, 5, 7, 5], x_test=np.eye(2), y_test=[5, 7]
    )
    found = load_dataset(str(path))
    assert (found.name, found.source) == ("toy", str(path))
    assert found.x_train.dtype == torch.float32
    assert found.classes == (5, 7)
    assert found.y_train.tolist() == [1, 0, 1, 0]
    assert found.y_test.tolist() == [0, 1]
    assert found.true is None
    assert found.warnings == ()
    assert not found.is_images


def test_a_file_is_looked_for_in_the_folder(write_npz: Write) -> None:
    """By its name alone."""
    path = write_npz()
    assert load_dataset(path.name, path.parent).digest() == load_dataset(str(path)).digest()


@pytest.mark.parametrize(
    ("train", "test", "classes"),
    [
        (["b", "a", "c", "a"], ["a", "c"], ("a", "b", "c")),
        ([True, False, True, False], [False, True], (False, True)),
        ([0.5, 1.5, 0.5, 2.5], [2.5, 0.5], (0.5, 1.5, 2.5)),
        ([-1, 10, 3, 3], [10, -1], (-1, 3, 10)),
    ],
    ids=["text", "bool", "float", "numbers with gaps"],
)
def test_labels_of_many_types(write_npz: Write, train: Any, test: Any, classes: tuple[Any, ...]) -> None:
    """Right labels too, where they are given."""
    path = write_npz(
        x_train=np.eye(4), y_train=train, x_test=np.eye(2, 4), y_test=test, y_train_true=train[::-1]
    )
    found = load_dataset(str(path))
    assert found.classes == classes
    assert [found.classes[k] for k in found.y_train.tolist()] == train
    assert [found.classes[k] for k in found.y_test.tolist()] == test
    assert found.true is not None
    assert [found.classes[k] for k in found.true.tolist()] == train[::-1]


def test_a_class_that_is_never_given_is_said(write_npz: Write) -> None:
    """Whether it is in the test part or among the right labels."""
    found = load_dataset(str(write_npz(y_test=np.repeat([0, 1, 3], 6))))
    assert found.num_classes == 4
    assert found.warnings == ("1 classes have no training row, class 3 first",)
    true = np.where(np.arange(60) == 0, 9, np.repeat(np.arange(3), 20))
    assert load_dataset(str(write_npz(y_train_true=true))).warnings


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.float16])
def test_images_stay_bytes_or_lie_between_0_and_1(write_npz: Write, dtype: Any) -> None:
    """uint8 is kept, to be scaled a batch at a time."""
    whole = np.issubdtype(dtype, np.integer)
    x = (np.arange(4 * 3 * 64).reshape(4, 3, 8, 8) % (256 if whole else 2)).astype(dtype)
    found = load_dataset(str(write_npz(x_train=x, y_train=[0, 1, 0, 1], x_test=x[:2], y_test=[0, 1])))
    assert found.is_images
    assert found.x_train.dtype == (torch.uint8 if whole else torch.float32)
    assert np.array_equal(found.x_train.numpy(), x.astype(found.x_train.numpy().dtype))


def bad(value: float, row: int = 3) -> Any:
    x = np.zeros((60, 4), np.float32)
    x[row, 1] = value
    return x


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_test": None, "y_train": None}, r"toy\.npz lacks y_train, x_test; it holds x_train, y_test"),
        (
            {"y_train": np.zeros((60, 1))},
            r"y_train, y_test hold one class a row, shape \(n,\)",
        ),
        ({"y_train": np.zeros(59, int)}, r"y_train: one class a row expected, shape \(60,\), got \(59,\)"),
        ({"y_test": np.zeros(17, int)}, r"y_test: one class a row expected, shape \(18,\), got \(17,\)"),
        ({"y_train_true": np.zeros(59, int)}, r"y_train_true: shape \(60,\) expected, got \(59,\)"),
        (
            {"x_train": np.zeros((60, 5))},
            r"rows of one shape expected, got \(5,\) in x_train and \(4,\) in x_test",
        ),
        (
            {"x_train": np.zeros((60, 4, 2))},
            r"x_train: features \(n, m\) or images .* got shape \(60, 4, 2\)",
        ),
        ({"x_train": np.zeros((60, 0))}, r"x_train: features \(n, m\) .* got shape \(60, 0\)"),
        ({"x_test": np.zeros((0, 4)), "y_test": np.zeros(0, int)}, "x_test has no row"),
        ({"x_train": np.full((60, 4), "a")}, "x_train, x_test: numbers expected, got <U1"),
        ({"x_train": np.zeros((60, 4), complex)}, "x_train, x_test: numbers expected, got complex128"),
        ({"x_train": bad(np.nan)}, r"x_train: row 3 is not finite \(1 such rows\); repair or drop them"),
        ({"x_test": bad(-np.inf, 7)[:18]}, "x_test: row 7 is not finite"),
        ({"y_train": np.r_[np.nan, np.zeros(59)]}, r"labels: .*nan.* in row 0 is no label"),
        (
            {"y_train": np.zeros(60, int), "y_test": np.zeros(18, int)},
            r"y_train: two classes at least expected, got \(0,\)",
        ),
    ],
)
def test_files_that_cannot_be_used(write_npz: Write, changes: dict[str, Any], message: str) -> None:
    """The array, what is wrong with it, and what to do."""
    with pytest.raises(DataError, match=message):
        load_dataset(str(write_npz(**changes)))


@pytest.mark.parametrize(("value", "told"), [(1.5, "0 to 1.5"), (-0.25, "-0.25 to 0"), (255.0, "0 to 255")])
def test_images_out_of_range(write_npz: Write, value: float, told: str) -> None:
    """Bytes that were made floating point are the usual mistake."""
    x = np.zeros((60, 1, 8, 8), np.float32)
    x[5, 0, 2, 2] = value
    with pytest.raises(
        DataError, match=rf"x_train: images of floating point are in \[0, 1\], got {told}; scale"
    ):
        load_dataset(str(write_npz(x_train=x, x_test=x[:18] * 0)))


def test_what_cannot_be_found_or_read(tmp_path: Path) -> None:
    """A near name is suggested; a file of something else is named; nothing is unpickled."""
    with pytest.raises(DataError, match=r"data: there is no 'cifar11'; did you mean"):
        load_dataset("cifar11")
    with pytest.raises(DataError, match=r"data: there is no 'nothing\.npz'"):
        load_dataset("nothing.npz", tmp_path)
    (tmp_path / "text.npz").write_text("a text")
    with pytest.raises(DataError, match=r"text\.npz cannot be read as \.npz"):
        load_dataset("text.npz", tmp_path)
    (tmp_path / "empty.npz").write_bytes(b"")
    with pytest.raises(DataError, match=r"empty\.npz cannot be read as \.npz"):
        load_dataset("empty.npz", tmp_path)
    objects = np.array(["a", 1], dtype=object)
    np.savez(tmp_path / "objects.npz", x_train=np.eye(2), y_train=objects, x_test=np.eye(2), y_test=objects)
    with pytest.raises(DataError, match=r"objects\.npz cannot be read as \.npz: y_train\.npy holds objects"):
        load_dataset("objects.npz", tmp_path)


def test_a_file_cut_off_is_named(write_npz: Write) -> None:
    """Wherever it ends."""
    path = write_npz()
    content = path.read_bytes()
    for end in range(1, len(content), 61):
        path.write_bytes(content[:end])
        with pytest.raises(DataError, match="toy"):
            load_dataset(str(path))


def test_the_fingerprint_is_that_of_the_content(write_npz: Write) -> None:
    """Not of the name; one number changes it, so do right labels."""
    first = load_dataset(str(write_npz("a")))
    assert load_dataset(str(write_npz("b"))).digest() == first.digest()
    x = first.x_train.numpy().copy()
    x[0, 0] += 1
    true = first.y_train.numpy()
    digests = {load_dataset(str(write_npz(x_train=x))).digest(), first.digest()}
    digests |= {load_dataset(str(write_npz(y_train_true=true))).digest()}
    assert len(digests) == 3


# Encoders and views ----------------------------------------------------------------------------------------------


def dataset(*shape: int, name: str = "toy", dtype: torch.dtype = torch.float32) -> LabelledDataset:
    x, y = torch.zeros(4, *shape, dtype=dtype), torch.tensor([0, 1, 0, 1])
    return LabelledDataset(name, "a test", x, y, x, y, (0, 1))


@pytest.mark.parametrize(
    ("shape", "name"),
    [((7,), "mlp"), ((1, 8, 8), "small_cnn"), ((3, 16, 9), "small_cnn"), ((3, 32, 32), "resnet32")],
)
def test_the_encoder_is_chosen_by_the_shape(shape: tuple[int, ...], name: str) -> None:
    """Unless one is asked for."""
    data = dataset(*shape)
    assert encoder_name("auto", data) == name
    assert encoder_name("identity", data) == "identity"
    encoder = encoder_for("auto", data, 0)
    assert encoder.eval()(torch.zeros(2, *shape)).shape == (2, encoder.dim)


def test_weights_are_those_of_the_seed() -> None:
    """And the caller's generator notices nothing."""
    before = torch.random.get_rng_state()
    first, again, other = (encoder_for("mlp", dataset(7), seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_colours_are_standardised() -> None:
    """With the numbers of CIFAR, of either kind; grey images and features are not."""
    means = {
        name: encoder_for("small_cnn", dataset(3, 8, 8, name=name), 0).mean.flatten().tolist()
        for name in ("cifar10", "cifar100")
    }
    assert means["cifar10"] != means["cifar100"]
    assert isinstance(encoder_for("auto", dataset(3, 8, 8), 0), Standardised)
    assert not isinstance(encoder_for("auto", dataset(1, 8, 8), 0), Standardised)
    assert not isinstance(encoder_for("auto", dataset(7), 0), Standardised)


def test_views_suit_the_rows() -> None:
    """Digits are not mirrored; images have one or three channels; encoders of images are not for features."""
    small, large = dataset(1, 8, 8), dataset(3, 32, 32, dtype=torch.uint8)
    assert not inputs_for(small.x_train, small).flips  # type: ignore[attr-defined]
    assert inputs_for(large.x_train, large).flips  # type: ignore[attr-defined]
    two = dataset(2, 8, 8)
    with pytest.raises(ConfigError, match="images of one or three channels expected, got 2"):
        inputs_for(two.x_train, two)
    with pytest.raises(ConfigError, match=r"encoder: resnet32 is for images .* rows have shape \(7,\)"):
        encoder_for("resnet32", dataset(7), 0)


def test_a_dataset_is_checked_when_it_is_made() -> None:
    """Also one that does not come from a file."""
    good = dataset(7)
    with pytest.raises(DataError, match="a test: x_test: row 1 is not finite"):
        dataclasses.replace(good, x_test=torch.tensor([[0.0] * 7, [torch.nan] * 7, *[[0.0] * 7] * 2]))
