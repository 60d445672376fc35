"""The training part as a method sees it: thinned out, its labels partly wrong, some of it held out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nearfar.calibration.config import CalibrationConfig
from nearfar.calibration.datasets import LabelledDataset
from nearfar.errors import DataError
from nearfar.labels import class_counts, label_noise, long_tail, rows_per_class
from nearfar.runtime import numpy_generator


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """Which rows are learnt from, and under which labels.

    Attributes:
        rows: Into the training part of the data set, int64, shape ``(n,)``.
        given: Labels they are learnt with, int64, shape ``(n,)``.
        true: Right ones, where known; never shown to a method.
        held: Rows to select by, int64, shape ``(h,)``; may be none.
        held_given: Their labels as given.
    """

    rows: Tensor
    given: Tensor
    true: Tensor | None
    held: Tensor
    held_given: Tensor

    def counts(self, num_classes: int) -> Tensor:
        """Rows of every class by given label, shape ``(K,)``."""
        return torch.bincount(self.given, minlength=num_classes)


def training_rows(dataset: LabelledDataset, config: CalibrationConfig) -> TrainingRows:
    """Thin out, then make labels wrong, then hold out; a function of the seed and the data alone.

    Every method of a comparison sees the same rows under a seed.

    Args:
        dataset: Clean and whole.
        config: How it is spoilt.

    Raises:
        DataError: If a class has too few rows, or nothing is left to hold out.
    """
    y = dataset.y_train.numpy()
    true = None if dataset.true is None else dataset.true.numpy()
    rows = np.arange(len(y))
    given = y
    if config.spoil:
        i, noise = config.imbalance, config.noise
        rows = long_tail(
            y,
            i.ratio,
            profile=i.profile,
            largest=i.largest or dataset.largest,
            rng=numpy_generator(config.seed, "long_tail"),
        )
        found = label_noise(
            y[rows],
            noise.rate,
            kind=noise.kind,
            num_classes=dataset.num_classes,
            rng=numpy_generator(config.seed, "label_noise"),
        )
        given, true = np.asarray(found.labels), np.asarray(found.true)
    held = _held_out(given, config)
    parts = [rows[~held], given[~held], rows[held], given[held]]
    learnt, labels, apart, apart_labels = (torch.from_numpy(np.ascontiguousarray(part)) for part in parts)
    right = None if true is None else torch.from_numpy(np.ascontiguousarray(true[~held]))
    return TrainingRows(learnt, labels, right, apart, apart_labels)


def _held_out(given: np.ndarray, config: CalibrationConfig) -> np.ndarray:
    """Whether a row is held out; of a class of n, ``share * n`` rounded down are."""
    held = np.zeros(len(given), dtype=bool)
    if config.validation == 0:
        return held
    sizes = (config.validation * class_counts(given) + 1e-9).astype(np.int64)
    held[rows_per_class(given, sizes, numpy_generator(config.seed, "held_out"))] = True
    if not held.any():
        largest = np.bincount(given).max()
        raise DataError(
            f"validation={config.validation:g} of the largest class of {largest} rows is none; raise it"
        )
    return held
