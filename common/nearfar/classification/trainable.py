"""What rows and labels must be before a classifier is trained on them, and what is worth saying of them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearfar.adapters import FeatureInputs, Inputs
from nearfar.errors import DataError
from nearfar.messages import warn


def check_trainable(inputs: Inputs, codes: NDArray[np.int64], classes: Iterable[Any]) -> None:
    """Refuse labels that do not belong to the rows, or are none; say what else is odd of both.

    Args:
        inputs: The rows.
        codes: Labels as places in ``classes``, shape ``(N,)``.
        classes: What they stand for, shape ``(K,)``.

    Raises:
        DataError: If there is another number of labels, or one is no class.

    Example:
        >>> check_trainable(FeatureInputs([[0.0], [1.0]]), np.array([0, 1]), ["a", "a "])
        Traceback (most recent call last):
        nearfar.errors.DataError: labels: 'a' and 'a ' differ by white space alone; strip them
    """
    known = list(classes)
    if len(codes) != len(inputs):
        raise DataError(
            f"labels: one for each of {len(inputs)} rows expected, got {len(codes)}; leave out rows without a label"
        )
    check_class_names("labels", known)
    for remark in (*class_remarks("labels", codes, known), *_row_remarks(inputs)):
        warn(remark)


def check_two_classes(name: str, codes: NDArray[np.int64], classes: Iterable[Any]) -> None:
    """Refuse labels that are all the same.

    Args:
        name: What they are called, for messages.
        codes: Places in ``classes``, at least one, shape ``(N,)``.
        classes: What they stand for.

    Raises:
        DataError: If they are.

    Example:
        >>> check_two_classes("y_train", np.array([0, 0]), ["cat", "dog"])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        nearfar.errors.DataError: y_train: all 2 rows to train on are of class 'cat'; add rows of another one, ...
    """
    if (codes == codes[0]).all():
        label = _plain(list(classes)[int(codes[0])])
        raise DataError(
            f"{name}: all {len(codes)} rows to train on are of class {label!r}; add rows of another one, or thin out "
            "less"
        )


def check_class_names(name: str, classes: Iterable[Any]) -> None:
    """Refuse labels that nobody means as classes.

    Any hashable label is a class, negative and fractional numbers included; but not infinity, an empty text, or two
    texts that differ by white space alone.

    Args:
        name: What they are called, for messages.
        classes: Distinct labels.

    Raises:
        DataError: If there is such a label.

    Example:
        >>> check_class_names("y_train", [0.0, math.inf])
        Traceback (most recent call last):
        nearfar.errors.DataError: y_train: inf is no class; drop such rows, or name a class for them
    """
    bare: dict[str, str] = {}
    for label in map(_plain, classes):
        if (isinstance(label, float) and math.isinf(label)) or (isinstance(label, str) and not label.strip()):
            raise DataError(f"{name}: {label!r} is no class; drop such rows, or name a class for them")
        if isinstance(label, str):
            other = bare.setdefault(label.strip(), label)
            if other != label:
                raise DataError(f"{name}: {other!r} and {label!r} differ by white space alone; strip them")


def class_remarks(name: str, codes: NDArray[np.int64], classes: Iterable[Any]) -> tuple[str, ...]:
    """What is odd about labels that can be trained on.

    Args:
        name: What they are called, for messages.
        codes: Places in ``classes``, shape ``(N,)``.
        classes: What they stand for, shape ``(K,)``.

    Example:
        >>> class_remarks("y", np.array([0, 0, 0]), ["cat"])
        ("y: all 3 rows are of class 'cat': there is nothing to tell apart",)
    """
    known, found = [_plain(label) for label in classes], []
    if len(codes) > 1 and (codes == codes[0]).all():
        label = known[int(codes[0])]
        found.append(f"{name}: all {len(codes)} rows are of class {label!r}: there is nothing to tell apart")
    if len(known) == len(codes) > 2:
        found.append(f"{name}: {len(known)} classes for as many rows: are they ids, or numbers to predict?")
    between = next((label for label in known if isinstance(label, float) and not label.is_integer()), None)
    if between is not None:
        found.append(f"{name}: {between!r} is taken for a class, not for a number between two")
    return tuple(found)


def _row_remarks(inputs: Inputs) -> tuple[str, ...]:
    if not isinstance(inputs, FeatureInputs) or len(inputs) < 2:
        return ()
    constant = (inputs.features == inputs.features[:1]).all(0)
    count = int(constant.sum())
    if not count:
        return ()
    first, width = int(constant.int().argmax()), inputs.features.shape[1]
    verb = "is" if count == 1 else "are"
    return (
        f"features: {count} of {width} columns {verb} constant, the first is column {first}: nothing is learnt of them",
    )


def _plain(label: Any) -> Any:
    return label.item() if isinstance(label, np.generic) else label
