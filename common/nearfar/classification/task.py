"""What tasks on data sets of rows with classes have in common: rows, encoder, evaluation, a saved classifier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nearfar.adapters import Inputs, representations
from nearfar.classification.classifier import TrainedClassifier, class_logits, save_classifier
from nearfar.classification.datasets import load_dataset
from nearfar.classification.encoder import encoder_for, encoder_name, inputs_for
from nearfar.classification.settings import ImbalanceConfig, NoiseConfig
from nearfar.classification.training_rows import spoilt_name, training_rows
from nearfar.config import RunConfig
from nearfar.data.predictions import FILE, TestPredictions
from nearfar.labels import classification_scores
from nearfar.runtime import Runtime
from nearfar.training import BatchSource, Cases, DatasetCard, Method, Task

Split = Literal["val", "test"]


class ClassificationTask(Task):
    """A data set, thinned out and mislabelled as told, an encoder for it, and test rows.

    Args:
        config: Settings of the method; with ``data``, ``validation`` and ``encoder``.
        method_class: Takes ``(config, encoder, inputs, given, num_classes)``; its ``batches`` take a method.
        imbalance: How classes are thinned out; ``None`` takes all rows.
        noise: How labels are made wrong; ``None`` leaves them.

    Attributes:
        dataset: Clean and whole.
        training: Which rows are learnt from, under which labels.
        inputs: Those rows.
        tested: Rows of the test part.
        held: Rows to select by; those learnt from where none are held out.

    Raises:
        DataError: If the data cannot be found, read or used.
    """

    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "balanced_accuracy", "many", "medium", "few")
    case_metrics: ClassVar[tuple[str, ...] | None] = ("accuracy",)
    cases_file: ClassVar[str | None] = FILE

    def __init__(
        self,
        config: Any,
        method_class: type[Any],
        imbalance: ImbalanceConfig | None = None,
        noise: NoiseConfig | None = None,
    ) -> None:
        self.config, self.method_class = config, method_class
        self.dataset = data = load_dataset(config.data, config.data_dir)
        self.training = rows = training_rows(
            data, imbalance, noise, seed=config.seed, validation=config.validation
        )
        self.inputs = inputs_for(data.x_train[rows.rows], data)
        self.tested = inputs_for(data.x_test, data)
        self.held = inputs_for(data.x_train[rows.held], data) if len(rows.held) else self.inputs
        counts: dict[str, int | float] = {
            "train": len(rows.rows),
            "held": len(rows.held),
            "test": len(data.x_test),
            "classes": data.num_classes,
        }
        name, digest = spoilt_name(data, imbalance, noise)
        self.card = DatasetCard(name, digest, data.source, counts, data.warnings)

    def build(self, config: Any) -> Method:
        """A freshly initialised method."""
        encoder = encoder_for(config.encoder, self.dataset, config.seed)
        method: Method = self.method_class(
            config, encoder, self.inputs, self.training.given, self.dataset.num_classes
        )
        return method

    def batches(self, config: RunConfig, runtime: Runtime) -> BatchSource:
        """Training rows by step number."""
        source: BatchSource = self.method_class.batches(config, self.inputs, self.training.given, runtime)
        return source

    def head(self, method: Any) -> nn.Module:
        """Classifier of what the encoder makes of a row: ``(B, m) -> (B, K)``.

        Args:
            method: Trained or not.
        """
        head: nn.Module = method.head
        return head

    def evaluate(self, method: Any, split: Split) -> dict[str, float]:
        """Accuracy overall, by class, and by how frequent classes are."""
        head = self.head(method)
        if split == "test":
            return self.scores(predicted(method, head, self.tested), self.dataset.y_test)
        held = len(self.training.held) > 0
        given = self.training.held_given if held else self.training.given
        return self.scores(predicted(method, head, self.held), given)

    def scores(self, guess: Tensor, y: Tensor) -> dict[str, float]:
        """Metrics of predictions.

        Args:
            guess: Classes, shape ``(N,)``.
            y: Right ones, shape ``(N,)``.
        """
        return classification_scores(y, guess, self.training.counts(self.dataset.num_classes))

    @classmethod
    def read_cases(cls, path: Path, metrics: Sequence[str]) -> Cases:
        """Whether each test row was classified right."""
        found = TestPredictions.read(path)
        return Cases("rows", found.cases, {metric: found.right.astype(np.float64) for metric in metrics})

    @property
    def num_rows(self) -> int:
        """Training rows."""
        return len(self.training.rows)

    def embed(self, method: Any, rows: NDArray[np.int64]) -> Tensor:
        """Representations of training rows."""
        return representations(method.encoder, self.inputs, torch.from_numpy(rows))

    def export(self, method: Any, folder: Path) -> None:
        """Write encoder and head as :func:`~nearfar.classification.classifier.load_classifier` reads them."""
        data = self.dataset
        shape = data.x_train.shape[1:]
        classifier = TrainedClassifier(method.encoder, self.head(method), data.classes, shape)
        save_classifier(classifier, encoder_name(self.config.encoder, data), folder)


def predicted(method: Any, head: nn.Module, inputs: Inputs) -> Tensor:
    """Classes of rows, int64, shape ``(N,)``.

    Args:
        method: It has the encoder.
        head: ``(B, m) -> (B, K)``.
        inputs: The rows.
    """
    return class_logits(method.encoder, head, inputs).argmax(1)
