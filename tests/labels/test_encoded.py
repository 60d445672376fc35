"""Labels of any hashable type as codes, and back."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pytest
import torch

from nearfar.errors import DataError
from nearfar.labels import class_counts, encode_labels


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["b", "a", "b"], ["a", "b"]),
        ([7, -2, 7], [-2, 7]),
        ([2.5, 1.0], [1.0, 2.5]),
        ([True, False, True], [False, True]),
        ([("x", 2), ("x", 1)], [("x", 1), ("x", 2)]),
        ([np.int64(4), np.int64(3)], [3, 4]),
        ([np.str_("q"), "p"], ["p", "q"]),
        ([torch.tensor(4), torch.tensor([3]), torch.tensor(4)], [3, 4]),
        (torch.tensor([5, 1, 5]), [1, 5]),
        (np.array(["b", "a"]), ["a", "b"]),
        (np.array([3, 1], dtype=np.uint8), [1, 3]),
        (np.array(["b", 3, "b"], dtype=object), ["b", 3]),
        ([3, "b", 3, None.__class__], [3, "b", type(None)]),
        (["b", ("a",), 1j], ["b", ("a",), 1j]),
        ([frozenset({1}), frozenset({2})], [frozenset({1}), frozenset({2})]),
        ([datetime.date(2024, 1, 2), datetime.date(2024, 1, 1)], [datetime.date(2024, 1, d) for d in (1, 2)]),
        ([], []),
        (np.array([], dtype=str), []),
    ],
)
def test_codes_and_classes(labels: Any, expected: list[Any]) -> None:
    codes, classes = encode_labels(labels)
    assert codes.dtype == np.int64
    assert classes.tolist() == expected
    assert classes.ndim == 1
    plain = [item.item() if isinstance(item, torch.Tensor) else item for item in labels]
    assert classes[codes].tolist() == plain


def test_classes_keep_a_plain_type() -> None:
    assert encode_labels(["b", "a"])[1].dtype.kind == "U"
    assert encode_labels([1, 2])[1].dtype == np.int64
    assert encode_labels([1, "a"])[1].dtype == object
    assert encode_labels([(1, 2), (3, 4)])[1].shape == (2,)


def test_equal_labels_are_one_class() -> None:
    assert encode_labels([1, 1.0, True, np.float32(1)])[0].tolist() == [0, 0, 0, 0]


def test_columns_of_data_frames() -> None:
    pandas = pytest.importorskip("pandas")
    for column in (
        pandas.Series(["b", "a", "b"]),
        pandas.Series(["b", "a", "b"], dtype="category"),
        pandas.Series(["b", "a", "b"], index=[5, 6, 7], dtype="string"),
    ):
        codes, classes = encode_labels(column)
        assert (codes.tolist(), classes.tolist()) == ([1, 0, 1], ["a", "b"])
    with pytest.raises(DataError, match="in row 1 is no label"):
        encode_labels(pandas.Series(["b", None], dtype="string"))


def test_given_classes_keep_their_order() -> None:
    codes, classes = encode_labels(["b", "a"], classes=["c", "b", "a"])
    assert (codes.tolist(), classes.tolist()) == ([1, 2], ["c", "b", "a"])
    assert class_counts(codes, 3).tolist() == [0, 1, 1]
    for labels in (np.array([5, 3]), torch.tensor([5, 3]), [5, 3]):
        assert encode_labels(labels, classes=np.array([5, 4, 3]))[0].tolist() == [0, 2]
    with pytest.raises(DataError, match=r"labels: 'x' in row 1 is none of the 2 classes \(2 such rows\)"):
        encode_labels(["a", "x", "x"], classes=["a", "b"])
    with pytest.raises(DataError, match="classes: 'a' is named twice"):
        encode_labels(["a"], classes=["a", "b", "a"])
    with pytest.raises(DataError, match="classes: nan in row 1"):
        encode_labels(["a"], classes=["a", float("nan")])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", None], "labels: None in row 1 is no label; drop such rows"),
        ([1.0, float("nan")], "labels: nan in row 1"),
        (["a", float("nan")], "labels: nan in row 1"),
        (np.array([1.0, np.nan]), "in row 1 is no label"),
        (torch.tensor([torch.nan, 1.0]), "in row 0 is no label"),
        (np.array(["2024-01-01", "NaT"], dtype="datetime64[D]"), "in row 1 is no label"),
        (np.array(["a", None], dtype=object), "labels: None in row 1"),
        (["a", ["b"]], r"labels: \['b'\] in row 1 is not hashable; use text, a number or a tuple"),
        ([torch.zeros(2)], r"one label in row 0 expected, got a tensor of shape \(2,\)"),
        (np.zeros((3, 1)), r"labels: shape \(n,\) expected, one label an item, got \(3, 1\)"),
        (torch.zeros(3, 2), r"got \(3, 2\)"),
        ("abc", "labels: one label an item expected, got 'abc'"),
        (3, "labels: one label an item expected, got 3"),
    ],
)
def test_bad_labels(labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        encode_labels(labels)


def test_counts_of_classes() -> None:
    assert class_counts([]).tolist() == []
    assert class_counts([1, 1], 4).tolist() == [0, 2, 0, 0]
    with pytest.raises(DataError, match="labels: class codes 0, 1, ... of shape"):
        class_counts(np.zeros((2, 2), int))
    with pytest.raises(DataError, match="got float64"):
        class_counts([0.0, 1.0])
