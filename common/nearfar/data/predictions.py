"""Which cases of a test set a run got right, kept so that two runs can be compared case by case."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nearfar.data.arrays import read_arrays, write_arrays
from nearfar.data.digest import content_digest
from nearfar.errors import DataError

FILE = "predictions.npz"


@dataclass(frozen=True)
class TestPredictions:
    """Of one trained classifier or probe.

    Attributes:
        cases: Digest of the test cases and their classes, in order.
        predicted: Class of each, int64, shape ``(M,)``.
        right: Whether it is the true one, bool, shape ``(M,)``.
    """

    __test__ = False  # pytest takes it for one of its own otherwise

    cases: str
    predicted: NDArray[np.int64]
    right: NDArray[np.bool_]

    @classmethod
    def of(cls, cases: Tensor, y: Tensor, predicted: Tensor) -> TestPredictions:
        """Of test cases.

        Args:
            cases: What tells them apart: themselves, or their numbers, shape ``(M, ...)``.
            y: Classes, shape ``(M,)``.
            predicted: Shape ``(M,)``.
        """
        digest = content_digest(cases.numpy(), y.numpy())
        return cls(digest, predicted.numpy(), (predicted == y).numpy())

    def write(self, path: Path) -> None:
        """Write them.

        Args:
            path: The file; an older one is replaced in one step.

        Raises:
            OSError: If it cannot be written.
        """
        arrays = {"cases": np.array(self.cases), "predicted": self.predicted, "right": self.right}
        write_arrays(path, arrays)

    @classmethod
    def read(cls, path: Path) -> TestPredictions:
        """Read what :meth:`write` wrote; nothing is unpickled.

        Raises:
            DataError: If it is no such file.
        """
        found = read_arrays(path, ("cases", "predicted", "right"), "the predictions")
        cases, predicted, right = found["cases"], found["predicted"], found["right"]
        kinds = cases.dtype.kind, predicted.dtype.kind, right.dtype.kind
        if kinds != ("U", "i", "b") or predicted.ndim != 1 or predicted.shape != right.shape or cases.ndim:
            raise DataError(
                f"{path} does not hold the predictions of a run: a class and a truth value of every case expected, got "
                f"{predicted.dtype} of {predicted.shape} and {right.dtype} of {right.shape}; write it anew"
            )
        return cls(str(cases), predicted.astype(np.int64), right)
