"""The training part as a method sees it: thinned out, its labels partly wrong, some of it held out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.classification.datasets import LabelledDataset
from nearfar.classification.settings import ImbalanceConfig, NoiseConfig
from nearfar.classification.trainable import check_two_classes
from nearfar.data import content_digest
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
        fine: Finer classes of the rows learnt from, where known; never shown to a method either.
    """

    rows: Tensor
    given: Tensor
    true: Tensor | None
    held: Tensor
    held_given: Tensor
    fine: Tensor | None = None

    def counts(self, num_classes: int) -> Tensor:
        """Rows of every class by given label, shape ``(K,)``."""
        return torch.bincount(self.given, minlength=num_classes)


def training_rows(
    dataset: LabelledDataset,
    imbalance: ImbalanceConfig | None = None,
    noise: NoiseConfig | None = None,
    *,
    seed: int,
    validation: float = 0.0,
) -> TrainingRows:
    """Thin out, then make labels wrong, then hold out; a function of the seed and the data alone.

    Every method of a comparison sees the same rows under a seed.

    Args:
        dataset: Clean and whole.
        imbalance: How it is thinned out; ``None`` takes all rows.
        noise: How labels are made wrong; ``None`` leaves them.
        seed: Of the run.
        validation: Share of every class to hold out.

    Raises:
        DataError: If a class has too few rows, nothing is left to hold out, or one class alone is left to train on.
    """
    rows = np.arange(len(dataset.y_train)) if imbalance is None else _thinned(dataset, imbalance, seed)
    given = dataset.y_train.numpy()[rows]
    true = None if dataset.true is None else dataset.true.numpy()[rows]
    check_two_classes(f"{dataset.source}: y_train", given, dataset.classes)
    if noise is not None:
        rng = numpy_generator(seed, "label_noise")
        found = label_noise(given, noise.rate, kind=noise.kind, num_classes=dataset.num_classes, rng=rng)
        given, true = np.asarray(found.labels), np.asarray(found.true)
    held = _held_out(given, validation, seed)
    check_two_classes(f"{dataset.source}: y_train", given[~held], dataset.classes)
    fine = None if dataset.fine_train is None else dataset.fine_train.numpy()[rows]
    return TrainingRows(
        _tensor(rows[~held]),
        _tensor(given[~held]),
        None if true is None else _tensor(true[~held]),
        _tensor(rows[held]),
        _tensor(given[held]),
        None if fine is None else _tensor(fine[~held]),
    )


def spoilt_name(
    dataset: LabelledDataset, imbalance: ImbalanceConfig | None, noise: NoiseConfig | None
) -> tuple[str, str]:
    """Name and fingerprint of a data set that was thinned out and mislabelled.

    How it was belongs to the data; which rows were, to the seed.

    Args:
        dataset: Clean and whole.
        imbalance: As of :func:`training_rows`.
        noise: As of :func:`training_rows`.

    Example:
        >>> from nearfar.classification.datasets import load_dataset
        >>> spoilt_name(load_dataset("digits"), ImbalanceConfig(ratio=10), NoiseConfig(rate=0.4))[0]
        'digits-exp10-imb0.4'
    """
    name, how = dataset.name, []
    if imbalance is not None and imbalance.ratio is not None:
        name += f"-{imbalance.profile}{imbalance.ratio:g}"
        how += [imbalance.profile, str(imbalance.ratio), str(imbalance.largest or dataset.largest)]
    elif imbalance is not None and dataset.sizes is not None:
        how.append(str(dataset.sizes))
    if noise is not None:
        name += f"-{noise.kind}{noise.rate:g}"
        how += [noise.kind, str(noise.rate)]
    return name, content_digest([dataset.digest(), *(how or ["as it is"])])


def _thinned(dataset: LabelledDataset, imbalance: ImbalanceConfig, seed: int) -> NDArray[np.int64]:
    rng = numpy_generator(seed, "long_tail")
    if imbalance.ratio is not None:
        largest = imbalance.largest or dataset.largest
        return long_tail(
            dataset.y_train, imbalance.ratio, profile=imbalance.profile, largest=largest, rng=rng
        )
    if dataset.sizes is None:
        return np.arange(len(dataset.y_train))
    of = dataset.y_train if dataset.fine_train is None else dataset.fine_train
    return rows_per_class(of, dataset.sizes, rng)


def _tensor(values: NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))


def _held_out(given: NDArray[np.int64], validation: float, seed: int) -> NDArray[np.bool_]:
    """Whether a row is held out; of a class of n, ``share * n`` rounded down are."""
    held = np.zeros(len(given), dtype=bool)
    if validation == 0:
        return held
    sizes = (validation * class_counts(given) + 1e-9).astype(np.int64)
    held[rows_per_class(given, sizes, numpy_generator(seed, "held_out"))] = True
    if not held.any():
        largest = np.bincount(given).max()
        raise DataError(f"validation={validation:g} of the largest class of {largest} rows is none; raise it")
    return held
