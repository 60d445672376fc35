"""Long tails as a task for the runner: representations first, then a classifier of frozen features.

The test part is balanced in the known data sets; what is reported is the last epoch. Where finer classes are known, in
the known data or in a file of yours, it is measured how much of them is left: never seen in training, they are what
the representation may have kept or lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nearfar.adapters import representations
from nearfar.atomic import write_atomically
from nearfar.classification.class_matrix import draw_confusion
from nearfar.classification.task import ClassificationTask, predicted
from nearfar.data.csv_text import csv_text
from nearfar.data.predictions import FILE, TestPredictions
from nearfar.labels import recall_by_class
from nearfar.longtail.config import LongTailConfig
from nearfar.longtail.embedding_plot import draw_embeddings
from nearfar.longtail.hidden_classes import fine_probe, hidden_nmi, subclass_purity
from nearfar.longtail.second_stage import second_stage

CLASSES, SUBCLASSES = "classes.csv", "subclasses.csv"
CONFUSION, EMBEDDINGS = "confusion.png", "embeddings.png"


class LongTailTask(ClassificationTask):
    """A data set with a long tail, an encoder for it, and test rows.

    Args:
        config: Settings of the method.
        method_class: Takes ``(config, encoder, inputs, given, num_classes)``; its ``batches`` take a method.

    Raises:
        DataError: If the data cannot be found, read or used.
    """

    domain: ClassVar[str] = "longtail"
    protocol: ClassVar[Mapping[str, str]] = {
        "test": "rows of the test part, last epoch",
        "validation": "rows held out, or (validation=0) trained on",
        "frequency": "many: more than 100 training rows, few: fewer than 20",
        "hidden_nmi": "k-means in each class that has finer ones, as many clusters as those, training rows",
        "fine_probe": "balanced logistic regression told the finer classes, balanced accuracy on test",
    }
    report_files: ClassVar[tuple[str, ...]] = (CLASSES, SUBCLASSES, CONFUSION, EMBEDDINGS)

    def __init__(self, config: LongTailConfig, method_class: type[Any]) -> None:
        super().__init__(config, method_class, config.imbalance, config.noise if config.noise.rate else None)

    def head(self, method: Any) -> nn.Module:
        """The method's own classifier, or one fitted to its frozen features: the second stage."""
        own = getattr(method, "head", None)
        if isinstance(own, nn.Module):
            return own
        return second_stage(method, self.inputs, self.training.given, self.dataset.num_classes, self.config)

    def test(self, method: Any, folder: Path) -> dict[str, float]:
        """The same on the test part, and what is left of finer classes."""
        data, y = self.dataset, self.dataset.y_test
        head = self.head(method)
        guess = predicted(method, head, self.tested)
        TestPredictions.of(data.x_test, y, guess).write(folder / FILE)
        metrics = self.scores(guess, y)
        features = representations(method.encoder, self.inputs)
        metrics |= self._hidden(method, features)
        recall = recall_by_class(y, guess)
        write_atomically(folder / CLASSES, self._class_table(method, recall))
        if _has_subclasses(method):
            write_atomically(folder / SUBCLASSES, self._subclass_table(method))
        if self.config.tracking.draws:
            draw_confusion(y, guess, data.classes, folder / CONFUSION)
            untrained: Any = self.build(self.config)
            before = representations(untrained.encoder, self.inputs)
            shown = self.training.given if self.training.fine is None else self.training.fine
            draw_embeddings(
                {"before training": before, "after": features},
                shown,
                self.training.given,
                folder / EMBEDDINGS,
            )
        return metrics

    def _hidden(self, method: Any, features: Tensor) -> dict[str, float]:
        """How much of the finer classes a representation has kept."""
        data, training = self.dataset, self.training
        if training.fine is None or data.fine_test is None:
            return {}
        tested = representations(method.encoder, self.tested)
        # Coarse classes as they really are: which of the given ones are wrong is another matter.
        coarse = data.y_train[training.rows] if training.true is None else training.true
        inside = hidden_nmi(features, coarse, training.fine, seed=self.config.seed)
        on_test = hidden_nmi(tested, data.y_test, data.fine_test, seed=self.config.seed)
        probe = fine_probe(features, training.fine, tested, data.fine_test)
        largest = max(inside["by_class"], key=lambda k: int((coarse == k).sum()), default=None)
        found: dict[str, float | None] = {
            "hidden_nmi": inside["mean"],
            "hidden_nmi_test": on_test["mean"],
            "hidden_nmi_largest": None if largest is None else inside["by_class"][largest],
            "fine_probe": probe["balanced_accuracy"],
        }
        if _has_subclasses(method):
            found["subclass_purity"] = subclass_purity(method.subclasses.cpu(), training.fine)
        return {name: value for name, value in found.items() if value is not None}

    def _class_table(self, method: Any, recall: Mapping[int, float]) -> str:
        """One line a class: its size, its subclasses and their sizes, its temperature, its recall on test."""
        data, counts = self.dataset, self.training.counts(self.dataset.num_classes)
        lines = []
        for number, name in enumerate(data.classes):
            told: dict[str, Any] = {"class": name, "rows": int(counts[number])}
            if _has_subclasses(method):
                mine = method.subclasses.cpu()[self.training.given == number]
                sizes = torch.unique(mine, return_counts=True)[1].tolist()
                told |= {
                    "subclasses": len(sizes),
                    "smallest": min(sizes, default=0),
                    "largest": max(sizes, default=0),
                    "temperature": f"{float(method.temperatures[number]):.4f}",
                }
            if number in recall:
                told["recall"] = f"{recall[number]:.4f}"
            lines.append(told)
        return csv_text(
            ("class", "rows", "subclasses", "smallest", "largest", "temperature", "recall"), lines
        )

    def _subclass_table(self, method: Any) -> str:
        """One line a training row: its place in the training part, class and subclass, and its finer class."""
        training, classes = self.training, self.dataset.classes
        lines = []
        for place, subclass in enumerate(method.subclasses.tolist()):
            told = {
                "row": int(training.rows[place]),
                "class": classes[int(training.given[place])],
                "subclass": subclass,
                "kept": int(method.kept[place]),
            }
            if training.fine is not None:
                told["fine"] = int(training.fine[place])
            lines.append(told)
        return csv_text(("row", "class", "subclass", "kept", "fine"), lines)


def _has_subclasses(method: Any) -> bool:
    found = getattr(method, "subclasses", None)
    return found is not None and len(found) > 0
