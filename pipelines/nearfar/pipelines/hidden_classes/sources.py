"""Where rows with fine classes come from, and what every seed takes of them.

Series are split as their file splits them. Nodes are split at random, half of every fine class, anew for every seed,
and are transductive: the encoder passes over the whole graph, and is trained on the labels of the training nodes. Of
the training rows as many of each fine class are drawn as its merging says; all test rows are kept.

Epochs and learning rate are those with the best coarse accuracy, mean of the five trained methods, on training rows
held out, seeds 0 to 3, of a few: 60 epochs at 1e-2, 60 and 30 at 3e-3 for series; 60 and 100 at 1e-2 for nodes. All
else is what the methods have by default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nearfar.adapters import Inputs, NodeInputs, NodeRepresentation, SeriesInputs, SeriesRepresentation
from nearfar.errors import DataError
from nearfar.labels import class_counts, rows_per_class
from nearfar.pipelines.hidden_classes.merging import Merging
from nearfar.pipelines.hidden_classes.methods import Training
from nearfar.pipelines.noisy_labels.representations import by_size, halves
from nearfar.runtime import initial_weights, numpy_generator, stream_seed

SPEAKERS = Merging(((0, 1, 2, 3, 4), (5, 6), (7,), (8,)), (30, 30, 30, 30, 30, 20, 20, 12, 12))
"""Five speakers with all their series, two with two thirds, and two speakers alone."""
TOPICS = Merging(((0, 1, 2, 3), (4, 5), (6,)), (100, 100, 100, 100, 30, 30, 15))
"""Of topics numbered by their papers, the most first: four, two, and one alone."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """Some rows.

    Attributes:
        inputs: The rows, without any label.
        coarse: Class codes, shape ``(n,)``.
        fine: Class codes, shape ``(n,)``: for measuring, never for training.
    """

    inputs: Inputs
    coarse: NDArray[np.int64]
    fine: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Pool:
    """All rows of a data set that have a fine class.

    Attributes:
        domain: Short name, as in tables and in the store.
        data: Data set.
        about: What rows and classes are, and how they are split.
        digest: Of the data.
        fine: Class codes of all rows, shape ``(n,)``.
        names: Of the fine classes.
        merging: What is made of them.
        training: How encoders are trained on it.
        inputs: Gives rows by number.
        encoder: A new one, its weights from the default generator.
        tested: Rows to test on, where the data say which; ``None`` is half of every fine class, anew for every seed.
    """

    domain: str
    data: str
    about: str
    digest: str
    fine: NDArray[np.int64]
    names: tuple[str, ...]
    merging: Merging
    training: Training
    inputs: Callable[[NDArray[np.int64]], Inputs]
    encoder: Callable[[], nn.Module]
    tested: NDArray[np.int64] | None = None

    def draw(self, seed: int) -> tuple[Labelled, Labelled]:
        """Rows to train on and rows to test on.

        Args:
            seed: Of the choice.

        Raises:
            DataError: If a coarse class has no row to train on, or there is none to test on.
        """
        tested, fine = self.tested, self.fine
        if tested is None:
            rest, tested = halves(fine, numpy_generator(seed, "halves"))
        else:
            rest = np.setdiff1d(np.arange(len(fine)), tested)
        if not len(tested):
            raise DataError(f"{self.data}: no row to test on")
        rows = rest[rows_per_class(fine[rest], self.merging.sizes, numpy_generator(seed, "fine sizes"))]
        train, test = self._labelled(rows), self._labelled(tested)
        counts = class_counts(train.coarse, len(self.merging.groups))
        for name, group, count in zip(self.merging.names, self.merging.groups, counts, strict=True):
            if not count:
                members = ", ".join(self.names[k] for k in group)
                raise DataError(
                    f"{self.data}: coarse class {name}, made of {members}, has no row to train on; merge it with "
                    "another"
                )
        return train, test

    def new_encoder(self, seed: int) -> nn.Module:
        """An encoder before training; all methods of a seed begin with the same weights.

        Args:
            seed: Of the weights.
        """
        with initial_weights(stream_seed(seed, "encoder")):
            return self.encoder()

    def _labelled(self, rows: NDArray[np.int64]) -> Labelled:
        fine = self.fine[rows]
        return Labelled(self.inputs(rows), self.merging.coarse(fine), fine)


def speakers(data_dir: Path) -> Pool:
    """JapaneseVowels: two vowels as nine men said them, 12 channels of 7 to 29 steps.

    Args:
        data_dir: ``classification/JapaneseVowels/`` is in it.

    Raises:
        DataError: If the data are absent or damaged.
    """
    from nearfar.timeseries import ClassificationDataset, SeriesEncoder, load_dataset

    data = load_dataset("JapaneseVowels", data_dir)
    assert isinstance(data, ClassificationDataset)
    x, n = torch.cat([data.x_train, data.x_test]), len(data.y_train)
    channels = x.shape[2]
    return Pool(
        domain="timeseries",
        data=data.name,
        about="classes are speakers; published split, test series unseen; dilated convolutions, pooled",
        digest=data.digest(),
        fine=torch.cat([data.y_train, data.y_test]).numpy(),
        names=data.classes,
        merging=SPEAKERS,
        training=Training(epochs=60, batch_size=128, lr=3e-3),
        inputs=lambda rows: SeriesInputs(x[torch.from_numpy(rows)]),
        encoder=lambda: SeriesRepresentation(SeriesEncoder(channels, dim=64, hidden=32, depth=3)),
        tested=np.arange(n, len(x)),
    )


def topics(data_dir: Path) -> Pool:
    """Cora: 2708 papers with their words and citations, of seven topics.

    Args:
        data_dir: ``planetoid/Cora/raw/`` is in it.

    Raises:
        DataError: If the data are absent or damaged.
        MissingDependencyError: If PyG is not installed.
    """
    from nearfar.graph import GCNEncoder, load_dataset

    data = load_dataset("cora", data_dir)
    names = [str(k) for k in range(data.num_classes)]
    fine, _, names = by_size(data.y.numpy(), data.y.numpy(), names)
    width = data.x.shape[1]

    def nodes(rows: NDArray[np.int64]) -> Inputs:
        return NodeInputs(torch.from_numpy(rows), data.edge_index, num_features=width)

    return Pool(
        domain="graph",
        data=data.name,
        about="classes are topics of papers; halves, transductive; two graph convolutions",
        digest=data.digest(),
        fine=fine,
        names=tuple(names),
        merging=TOPICS,
        training=Training(epochs=100, batch_size=512, lr=1e-2),
        inputs=nodes,
        encoder=lambda: NodeRepresentation(GCNEncoder(width, 64), data.x, data.edge_index),
    )


SOURCES: Mapping[str, Callable[[Path], Pool]] = {"timeseries": speakers, "graph": topics}
"""By domain."""
