"""Classification from noisy, long-tailed labels as a task for the runner.

The test part is clean, and balanced in the known data sets; what is reported is the last epoch, as there are no clean
labels to select by. Validation metrics are measured under labels as given: on rows held out, or on the training rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.adapters import Inputs, representations
from nearfar.atomic import write_atomically
from nearfar.calibration.config import CalibrationConfig
from nearfar.calibration.plots import draw_donors
from nearfar.classification.class_matrix import draw_confusion
from nearfar.classification.classifier import TrainedClassifier, class_logits, save_classifier
from nearfar.classification.datasets import load_dataset
from nearfar.classification.encoder import encoder_for, encoder_name, inputs_for
from nearfar.classification.training_rows import spoilt_name, training_rows
from nearfar.config import RunConfig
from nearfar.data.csv_text import csv_text
from nearfar.data.predictions import FILE, TestPredictions
from nearfar.labels import classification_scores, head_classes, purity
from nearfar.optional import installed
from nearfar.runtime import Runtime
from nearfar.training import BatchSource, Cases, DatasetCard, Method, Task

CLASSES, SUSPECTS = "classes.csv", "suspects.csv"
CONFUSION, DONORS = "confusion.png", "donors.png"
Split = Literal["val", "test"]


class CalibrationTask(Task):
    """A data set whose labels are spoilt, an encoder for it, and clean test rows.

    Args:
        config: Settings of the method.
        method_class: Takes ``(config, encoder, inputs, given, num_classes)``; its ``batches`` take a method.

    Raises:
        DataError: If the data cannot be found, read or used.
    """

    domain: ClassVar[str] = "calibration"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "balanced_accuracy", "many", "medium", "few")
    case_metrics: ClassVar[tuple[str, ...] | None] = ("accuracy",)
    protocol: ClassVar[Mapping[str, str]] = {
        "test": "clean rows, last epoch",
        "validation": "labels as given, held out or (validation=0) trained on",
        "frequency": "many: more than 100 training rows, few: fewer than 20, by given label",
    }
    cases_file: ClassVar[str | None] = FILE
    report_files: ClassVar[tuple[str, ...]] = (CLASSES, SUSPECTS, CONFUSION, DONORS)

    def __init__(self, config: CalibrationConfig, method_class: type[Any]) -> None:
        self.config, self.method_class = config, method_class
        self.dataset = load_dataset(config.data, config.data_dir)
        spoilt = (config.imbalance, config.noise) if config.spoil else (None, None)
        self.training = training_rows(self.dataset, *spoilt, seed=config.seed, validation=config.validation)
        x_train, training = self.dataset.x_train, self.training
        self.inputs = inputs_for(x_train[training.rows], self.dataset)
        self.tested = inputs_for(self.dataset.x_test, self.dataset)
        self.held = inputs_for(x_train[training.held], self.dataset) if len(training.held) else self.inputs
        data = self.dataset
        counts: dict[str, int | float] = {
            "train": len(self.training.rows),
            "held": len(self.training.held),
            "test": len(data.x_test),
            "classes": data.num_classes,
        }
        name, digest = spoilt_name(data, *spoilt)
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

    def evaluate(self, method: Any, split: Split) -> dict[str, float]:
        """Accuracy overall, by class, and by how frequent classes are."""
        if split == "test":
            return self._scores(_predicted(method, self.tested), self.dataset.y_test)
        if len(self.training.held):
            return self._scores(_predicted(method, self.held), self.training.held_given)
        return self._scores(_predicted(method, self.inputs), self.training.given)

    def test(self, method: Any, folder: Path) -> dict[str, float]:
        """The same on the test part, and which labels were right and which were trusted."""
        data, y = self.dataset, self.dataset.y_test
        predicted = _predicted(method, self.tested)
        TestPredictions.of(data.x_test, y, predicted).write(folder / FILE)
        metrics = self._scores(predicted, y)
        gaussians = getattr(method, "gaussians", None)
        kept = None if gaussians is None else method.kept.cpu()
        metrics |= self._purity(kept)
        write_atomically(folder / CLASSES, self._class_table(predicted, kept, gaussians))
        if kept is not None:
            learnt = _predicted(method, self.inputs)
            write_atomically(folder / SUSPECTS, self._suspect_table(kept, learnt))
        if installed("matplotlib"):
            draw_confusion(y, predicted, data.classes, folder / CONFUSION)
            if gaussians is not None:
                draw_donors(gaussians, data.classes, folder / DONORS)
        return metrics

    def _scores(self, predicted: Tensor, y: Tensor) -> dict[str, float]:
        return classification_scores(y, predicted, self.training.counts(self.dataset.num_classes))

    def _purity(self, kept: Tensor | None) -> dict[str, float]:
        """How many labels are right: all of them, of those kept, of those in the tail."""
        training, true = self.training, self.training.true
        if true is None:
            return {}
        heads = set(np.asarray(head_classes(training.counts(self.dataset.num_classes))).tolist())
        tail = [c for c in range(self.dataset.num_classes) if c not in heads]
        before = purity(true, training.given, subset=tail)
        found: dict[str, float | None] = {"purity": before.overall, "purity_tail": before.subset}
        if kept is not None:
            after = purity(true, training.given, kept, subset=tail)
            wrong, suspect = training.given != true, ~kept
            found |= {"purity_kept": after.overall, "purity_kept_tail": after.subset}
            found |= {
                "kept_share": float(kept.double().mean()),
                "suspect_precision": float((wrong & suspect).sum() / suspect.sum().clamp(min=1)),
                "suspect_recall": float((wrong & suspect).sum() / wrong.sum().clamp(min=1)),
            }
        return {name: value for name, value in found.items() if value is not None}

    def _class_table(self, predicted: Tensor, kept: Tensor | None, gaussians: Any) -> str:
        """One line a class: its size, what was kept and how pure that is, its donors, its recall on test."""
        training, data = self.training, self.dataset
        table = {} if gaussians is None else {row["class"]: row for row in gaussians.donor_table()}
        lines: list[dict[str, Any]] = []
        for number, name in enumerate(data.classes):
            mine = training.given == number
            told: dict[str, Any] = {"class": name, "rows": int(mine.sum())}
            right = None if training.true is None else training.true == number
            if right is not None and mine.any():
                told["purity"] = f"{float(right[mine].double().mean()):.4f}"
            if kept is not None:
                told["kept"] = int((mine & kept).sum())
                if right is not None and (mine & kept).any():
                    told["purity_kept"] = f"{float(right[mine & kept].double().mean()):.4f}"
                donors = table.get(number, {})
                told["donors"] = " ".join(str(data.classes[c]) for c in donors.get("donors", ()))
                told["weights"] = " ".join(f"{w:.3f}" for w in donors.get("weights", ()))
            of_class = data.y_test == number
            if of_class.any():
                told["recall"] = f"{float((predicted[of_class] == number).double().mean()):.4f}"
            lines.append(told)
        names = ("class", "rows", "purity", "kept", "purity_kept", "donors", "weights", "recall")
        return csv_text(names, lines)

    def _suspect_table(self, kept: Tensor, learnt: Tensor) -> str:
        """Rows whose label is not trusted, by their place in the training part."""
        training, classes = self.training, self.dataset.classes
        lines = []
        for place in (~kept).nonzero()[:, 0].tolist():
            told = {
                "row": int(training.rows[place]),
                "given": classes[int(training.given[place])],
                "predicted": classes[int(learnt[place])],
            }
            if training.true is not None:
                told["true"] = classes[int(training.true[place])]
            lines.append(told)
        return csv_text(("row", "given", "predicted", "true"), lines)

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
        """Write encoder and head as :func:`nearfar.calibration.load_classifier` reads them."""
        data = self.dataset
        classifier = TrainedClassifier(method.encoder, method.head, data.classes, data.x_train.shape[1:])
        save_classifier(classifier, encoder_name(self.config.encoder, data), folder)


def _predicted(method: Any, inputs: Inputs) -> Tensor:
    """Classes of rows, int64, shape ``(N,)``."""
    return class_logits(method.encoder, method.head, inputs).argmax(1)
