"""Which test nodes a run's probe got right, kept so that two runs can be compared node by node."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nearfar.atomic import replace_file
from nearfar.data import content_digest
from nearfar.errors import DataError

FILE = "predictions.npz"


@dataclass(frozen=True)
class TestPredictions:
    """Of one trained encoder.

    Attributes:
        nodes: Digest of the test nodes and their classes, in order.
        right: Whether the class was found, bool, shape ``(T,)``.
    """

    __test__ = False  # pytest takes it for one of its own otherwise

    nodes: str
    right: NDArray[np.bool_]

    @classmethod
    def of(cls, y: Tensor, predicted: Tensor, mask: Tensor) -> TestPredictions:
        """Of the nodes in a mask.

        Args:
            y: Classes, shape ``(n,)``.
            predicted: By the probe, shape ``(n,)``.
            mask: Measured nodes, bool, shape ``(n,)``.
        """
        nodes = content_digest(mask.nonzero()[:, 0].numpy(), y[mask].numpy())
        return cls(nodes, (predicted == y)[mask].numpy())

    def write(self, path: Path) -> None:
        """Write them.

        Args:
            path: The file; an older one is replaced in one step.

        Raises:
            OSError: If it cannot be written.
        """
        arrays = {"nodes": np.array(self.nodes), "right": self.right}
        replace_file(path, lambda file: np.savez_compressed(file, **arrays))  # type: ignore[arg-type]

    @classmethod
    def read(cls, path: Path) -> TestPredictions:
        """Read what :meth:`write` wrote; nothing is unpickled.

        Raises:
            DataError: If it is no such file.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                return cls(str(file["nodes"]), file["right"].astype(bool))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"{path} does not hold the predictions of a run: {error}") from None
