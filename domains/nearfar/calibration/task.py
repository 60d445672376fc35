"""Classification from noisy, long-tailed labels as a task for the runner.

The test part is clean, and balanced in the known data sets; what is reported is the last epoch, as there are no clean
labels to select by. Validation metrics are measured under labels as given: on rows held out, or on the training rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from nearfar.atomic import write_atomically
from nearfar.calibration.config import CalibrationConfig
from nearfar.calibration.plots import draw_donors
from nearfar.classification.class_matrix import draw_confusion
from nearfar.classification.task import ClassificationTask, predicted
from nearfar.data.csv_text import csv_text
from nearfar.data.predictions import FILE, TestPredictions
from nearfar.labels import head_classes, purity

CLASSES, SUSPECTS = "classes.csv", "suspects.csv"
CONFUSION, DONORS = "confusion.png", "donors.png"


class CalibrationTask(ClassificationTask):
    """A data set whose labels are spoilt, an encoder for it, and clean test rows.

    Args:
        config: Settings of the method.
        method_class: Takes ``(config, encoder, inputs, given, num_classes)``; its ``batches`` take a method.

    Raises:
        DataError: If the data cannot be found, read or used.
    """

    domain: ClassVar[str] = "calibration"
    protocol: ClassVar[Mapping[str, str]] = {
        "test": "clean rows, last epoch",
        "validation": "labels as given, held out or (validation=0) trained on",
        "frequency": "many: more than 100 training rows, few: fewer than 20, by given label",
    }
    report_files: ClassVar[tuple[str, ...]] = (CLASSES, SUSPECTS, CONFUSION, DONORS)

    def __init__(self, config: CalibrationConfig, method_class: type[Any]) -> None:
        spoilt = (config.imbalance, config.noise) if config.spoil else (None, None)
        super().__init__(config, method_class, *spoilt)

    def test(self, method: Any, folder: Path) -> dict[str, float]:
        """The same on the test part, and which labels were right and which were trusted."""
        data, y = self.dataset, self.dataset.y_test
        guess = predicted(method, method.head, self.tested)
        TestPredictions.of(data.x_test, y, guess).write(folder / FILE)
        metrics = self.scores(guess, y)
        gaussians = getattr(method, "gaussians", None)
        kept = None if gaussians is None else method.kept.cpu()
        metrics |= self._purity(kept)
        write_atomically(folder / CLASSES, self._class_table(guess, kept, gaussians))
        if kept is not None:
            learnt = predicted(method, method.head, self.inputs)
            write_atomically(folder / SUSPECTS, self._suspect_table(kept, learnt))
        if self.config.tracking.draws:
            draw_confusion(y, guess, data.classes, folder / CONFUSION)
            if gaussians is not None:
                draw_donors(gaussians, data.classes, folder / DONORS)
        return metrics

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

    def _class_table(self, guess: Tensor, kept: Tensor | None, gaussians: Any) -> str:
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
                told["recall"] = f"{float((guess[of_class] == number).double().mean()):.4f}"
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
