"""An order of rows in which every class comes as often: cycles over the classes, a few rows of each in turn."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.labels import class_counts
from nearfar.runtime import numpy_generator

IN_TURN = 4


def balanced_order(codes: NDArray[np.int64], seed: int, epoch: int) -> Tensor:
    """Rows of a pass: as many whole cycles over the classes as it takes to have at least as many draws as rows.

    Class-balanced sampling of Kang et al. (ICLR 2020), with four rows of a class in turn. Rows of a class are used
    equally often, to within one.

    Args:
        codes: Classes, shape ``(n,)``.
        seed: Of the run.
        epoch: Number of the pass; each has an order of its own.

    Returns:
        Row numbers, int64, shape ``(cycles * classes * 4,)``.

    Example:
        >>> codes = np.array([0] * 90 + [1, 1, 2])
        >>> np.bincount(codes[balanced_order(codes, 0, 0)]).tolist()
        [32, 32, 32]
    """
    rng = numpy_generator(seed, "order", epoch)
    counts = class_counts(codes)
    present = np.flatnonzero(counts)
    cycles = -(-len(codes) // (IN_TURN * len(present)))
    each = cycles * IN_TURN
    turns = np.argsort(rng.random((cycles, len(present))), axis=1)
    drawn = np.empty((len(present), cycles, IN_TURN), dtype=np.int64)
    of_class = np.split(np.argsort(codes, kind="stable"), np.cumsum(counts[present])[:-1])
    for place, rows in enumerate(of_class):
        shuffled = rng.random((-(-each // len(rows)), len(rows))).argsort(1)
        drawn[place] = rows[shuffled].reshape(-1)[:each].reshape(cycles, IN_TURN)
    order = drawn[turns, np.arange(cycles)[:, None]]
    return torch.from_numpy(order.reshape(-1))
