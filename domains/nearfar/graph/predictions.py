"""Which test nodes a run's probe got right, kept so that two runs can be compared node by node."""

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
        write_arrays(path, {"nodes": np.array(self.nodes), "right": self.right})

    @classmethod
    def read(cls, path: Path) -> TestPredictions:
        """Read what :meth:`write` wrote; nothing is unpickled.

        Raises:
            DataError: If it is no such file.
        """
        found = read_arrays(path, ("nodes", "right"), "the predictions")
        return cls(str(found["nodes"]), found["right"].astype(bool))
