"""Noisy and long-tailed labels: classifiers calibrated by representations that no label has touched (RCAL)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfar.lazy import lazy_names

if TYPE_CHECKING:
    from nearfar.calibration.feature_classifier import RCALFeatureClassifier as RCALFeatureClassifier
    from nearfar.calibration.gaussians import ClassGaussians
    from nearfar.calibration.rcal.config import RCALConfig
    from nearfar.calibration.rcal.method import RCAL
    from nearfar.calibration.task import CalibrationTask
    from nearfar.calibration.trainer import RCALTrainer
    from nearfar.classification.classifier import TrainedClassifier, load_classifier
    from nearfar.classification.datasets import LabelledDataset, load_dataset
    from nearfar.labels import NoisyLabels, label_noise, long_tail

_HOME = {
    "TrainedClassifier": "nearfar.classification.classifier",
    "CalibrationTask": "nearfar.calibration.task",
    "ClassGaussians": "nearfar.calibration.gaussians",
    "LabelledDataset": "nearfar.classification.datasets",
    "NoisyLabels": "nearfar.labels",
    "RCAL": "nearfar.calibration.rcal.method",
    "RCALConfig": "nearfar.calibration.rcal.config",
    "RCALFeatureClassifier": "nearfar.calibration.feature_classifier",
    "RCALTrainer": "nearfar.calibration.trainer",
    "label_noise": "nearfar.labels",
    "load_classifier": "nearfar.classification.classifier",
    "load_dataset": "nearfar.classification.datasets",
    "long_tail": "nearfar.labels",
}

# RCALFeatureClassifier is found as well, but not listed: it is a scikit-learn class, and importing it imports that.
__all__ = [
    "RCAL",
    "CalibrationTask",
    "ClassGaussians",
    "LabelledDataset",
    "NoisyLabels",
    "RCALConfig",
    "RCALTrainer",
    "TrainedClassifier",
    "label_noise",
    "load_classifier",
    "load_dataset",
    "long_tail",
]

__getattr__ = lazy_names(__name__, _HOME)
