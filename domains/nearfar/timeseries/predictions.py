"""Which test series a run's classifier got right, kept so that two runs can be compared series by series."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nearfar.data import content_digest, read_arrays, write_arrays

FILE = "predictions.npz"


@dataclass(frozen=True)
class TestPredictions:
    """Of one trained encoder.

    Attributes:
        series: Digest of the test series and their classes, in order.
        predicted: Class of each, int64, shape ``(M,)``.
        right: Whether it is the true one, bool, shape ``(M,)``.
    """

    __test__ = False  # pytest takes it for one of its own otherwise

    series: str
    predicted: NDArray[np.int64]
    right: NDArray[np.bool_]

    @classmethod
    def of(cls, x: Tensor, y: Tensor, predicted: Tensor) -> TestPredictions:
        """Of the test series.

        Args:
            x: Series, shape ``(M, T, F)``.
            y: Classes, shape ``(M,)``.
            predicted: Shape ``(M,)``.
        """
        digest = content_digest(x.numpy(), y.numpy())
        return cls(digest, predicted.numpy(), (predicted == y).numpy())

    def write(self, path: Path) -> None:
        """Write them.

        Args:
            path: The file; an older one is replaced in one step.

        Raises:
            OSError: If it cannot be written.
        """
        arrays = {"series": np.array(self.series), "predicted": self.predicted, "right": self.right}
        write_arrays(path, arrays)

    @classmethod
    def read(cls, path: Path) -> TestPredictions:
        """Read what :meth:`write` wrote; nothing is unpickled.

        Raises:
            DataError: If it is no such file.
        """
        found = read_arrays(path, ("series", "predicted", "right"), "the predictions")
        return cls(str(found["series"]), found["predicted"], found["right"].astype(bool))
