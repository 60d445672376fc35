"""Long tails: representations that keep what is inside large classes (SBCL), and classifiers of frozen features."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfar.lazy import lazy_names

if TYPE_CHECKING:
    from nearfar.classification.classifier import TrainedClassifier, load_classifier
    from nearfar.classification.datasets import LabelledDataset, load_dataset
    from nearfar.longtail.heads import HeadConfig, fit_head
    from nearfar.longtail.hidden_classes import fine_probe, hidden_nmi, subclass_purity
    from nearfar.longtail.sbcl.assigner import SubclassAssigner
    from nearfar.longtail.sbcl.config import SBCLConfig
    from nearfar.longtail.sbcl.loss import SBCLKeys, SBCLLoss, sbcl_loss
    from nearfar.longtail.sbcl.method import SBCL
    from nearfar.longtail.sbcl.subclass_batches import SubclassBatchSampler
    from nearfar.longtail.sbcl.subclasses import Subclasses, find_subclasses
    from nearfar.longtail.task import LongTailTask
    from nearfar.longtail.trainer import SBCLTrainer

_HOME = {
    "HeadConfig": "nearfar.longtail.heads",
    "LabelledDataset": "nearfar.classification.datasets",
    "LongTailTask": "nearfar.longtail.task",
    "SBCL": "nearfar.longtail.sbcl.method",
    "SBCLConfig": "nearfar.longtail.sbcl.config",
    "SBCLKeys": "nearfar.longtail.sbcl.loss",
    "SBCLLoss": "nearfar.longtail.sbcl.loss",
    "SBCLTrainer": "nearfar.longtail.trainer",
    "SubclassAssigner": "nearfar.longtail.sbcl.assigner",
    "SubclassBatchSampler": "nearfar.longtail.sbcl.subclass_batches",
    "Subclasses": "nearfar.longtail.sbcl.subclasses",
    "TrainedClassifier": "nearfar.classification.classifier",
    "find_subclasses": "nearfar.longtail.sbcl.subclasses",
    "fine_probe": "nearfar.longtail.hidden_classes",
    "fit_head": "nearfar.longtail.heads",
    "hidden_nmi": "nearfar.longtail.hidden_classes",
    "load_classifier": "nearfar.classification.classifier",
    "load_dataset": "nearfar.classification.datasets",
    "sbcl_loss": "nearfar.longtail.sbcl.loss",
    "subclass_purity": "nearfar.longtail.hidden_classes",
}

__all__ = [
    "SBCL",
    "HeadConfig",
    "LabelledDataset",
    "LongTailTask",
    "SBCLConfig",
    "SBCLKeys",
    "SBCLLoss",
    "SBCLTrainer",
    "SubclassAssigner",
    "SubclassBatchSampler",
    "Subclasses",
    "TrainedClassifier",
    "find_subclasses",
    "fine_probe",
    "fit_head",
    "hidden_nmi",
    "load_classifier",
    "load_dataset",
    "sbcl_loss",
    "subclass_purity",
]

__getattr__ = lazy_names(__name__, _HOME)
