"""Labels of any hashable type as integers, and back: ``classes[codes]``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nearfar.errors import DataError
from nearfar.labels.codes import Values


def encode_labels(
    labels: Values, *, classes: Sequence[Any] | NDArray[Any] | None = None
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Number the classes: sorted, or by first appearance where they cannot be compared with one another.

    Labels are the same class if they are equal and have the same hash: ``1``, ``1.0``, ``True`` and a tensor that
    holds 1 are.

    Args:
        labels: Text, numbers, tuples or other hashable objects, shape ``(n,)``; an array, a tensor, a column of a
            data frame or a list.
        classes: All classes in the order of their codes, where some may have no item or the order is to be kept.

    Returns:
        Codes, shape ``(n,)``, and classes, shape ``(K,)``: an array of numbers or of text where the labels are of
        one such type, otherwise of objects. ``classes[codes]`` are the labels.

    Raises:
        DataError: If a label is missing (``None``, NaN), not hashable or not in ``classes``; names the row. If there
            is more than one column, or ``classes`` names a class twice.

    Example:
        >>> codes, classes = encode_labels(["dog", "cat", "dog"])
        >>> codes.tolist(), classes.tolist()
        ([1, 0, 1], ['cat', 'dog'])
    """
    array = _plain_array(labels)
    if array is not None and classes is None:
        found, codes = np.unique(array, return_inverse=True)
        return codes.astype(np.int64), found
    items = labels.tolist() if isinstance(labels, Tensor) else labels
    if array is not None:
        items = array.tolist()
    values = [_label(row, item) for row, item in enumerate(items)]
    if classes is None:
        known = _in_order(dict.fromkeys(values))
    else:
        known = [_label(row, item, "classes") for row, item in enumerate(classes)]
    places = {label: code for code, label in enumerate(known)}
    if len(places) < len(known):
        twice = next(label for code, label in enumerate(known) if places[label] != code)
        raise DataError(f"classes: {twice!r} is named twice")
    codes = np.fromiter((places.get(value, -1) for value in values), np.int64, len(values))
    if len(unknown := np.flatnonzero(codes < 0)):
        row = unknown[0]
        raise DataError(
            f"labels: {values[row]!r} in row {row} is none of the {len(known)} classes ({len(unknown)} such rows)"
        )
    return codes, _class_array(known)


def _plain_array(labels: Values) -> NDArray[Any] | None:
    """Labels as an array that numpy can sort, or ``None`` where it would mistake or not know them."""
    if isinstance(labels, Tensor):
        array = labels.detach().cpu().numpy()
    elif isinstance(labels, np.ndarray):
        array = labels
    elif hasattr(labels, "to_numpy"):  # pandas and polars
        array = np.asarray(labels.to_numpy())
    else:
        if isinstance(labels, str) or not isinstance(labels, Iterable):
            raise DataError(f"labels: one label an item expected, got {labels!r}")
        return None
    if array.ndim != 1:
        raise DataError(f"labels: shape (n,) expected, one label an item, got {array.shape}")
    if array.dtype.kind == "O":
        return None
    missing = np.isnan(array) if array.dtype.kind in "fcmM" else np.zeros(0, bool)
    if missing.any():
        raise _missing("labels", int(missing.argmax()), array[missing.argmax()].item())
    return array


def _label(row: int, item: Any, name: str = "labels") -> Any:
    if isinstance(item, Tensor | np.generic) or (isinstance(item, np.ndarray) and item.ndim == 0):
        # A tensor's hash is that of the object; scalars of numpy would make arrays of mixed types.
        if isinstance(item, Tensor) and item.numel() != 1:
            raise DataError(
                f"{name}: one label in row {row} expected, got a tensor of shape {tuple(item.shape)}"
            )
        item = item.item()
    try:
        known = {item: None}
    except TypeError:
        raise DataError(
            f"{name}: {item!r} in row {row} is not hashable; use text, a number or a tuple"
        ) from None
    try:
        is_missing = item is None or not bool(item == item)  # what NaN is not
    except TypeError:  # pandas.NA
        is_missing = True
    except ValueError:  # compares itself element by element: a label all the same
        is_missing = False
    if is_missing:
        raise _missing(name, row, item)
    return next(iter(known))


def _missing(name: str, row: int, item: Any) -> DataError:
    return DataError(f"{name}: {item!r} in row {row} is no label; drop such rows or name a class for them")


def _in_order(labels: Iterable[Any]) -> list[Any]:
    found = list(labels)
    try:
        return sorted(found)
    except TypeError:
        return found


def _class_array(classes: list[Any]) -> NDArray[Any]:
    kinds = {type(label) for label in classes}
    if len(kinds) == 1 and kinds <= {str, int, float, bool}:
        return np.array(classes)
    array = np.empty(len(classes), dtype=object)
    for code, label in enumerate(classes):  # numpy would make a matrix of tuples
        array[code] = label
    return array
