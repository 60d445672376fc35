"""Rows of every class, against a loop over classes."""

from __future__ import annotations

import numpy as np
import pytest

from nearfar.errors import DataError
from nearfar.labels import rows_per_class
from nearfar.runtime import numpy_generator


def test_a_loop_over_classes_chooses_the_same() -> None:
    """Of a class without rows none, of one with too few all."""
    labels = np.array([2, 0, 0, 2, 3, 0, 2, 3, 0])
    sizes = [2, 5, 1, 9]
    rng = numpy_generator(3, "rows")
    expected = [
        r for k in range(4) for r in rng.permutation(np.flatnonzero(labels == k))[: sizes[k]].tolist()
    ]
    found = rows_per_class(labels, sizes, numpy_generator(3, "rows"))
    assert found.tolist() == sorted(expected)
    assert np.bincount(labels[found], minlength=4).tolist() == [2, 0, 1, 2]


def test_labels_beyond_the_sizes_are_refused() -> None:
    with pytest.raises(DataError, match="below 2 expected, got 2 in row 1"):
        rows_per_class([0, 2], [1, 1], numpy_generator(0, "rows"))
