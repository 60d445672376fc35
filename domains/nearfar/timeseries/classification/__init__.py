"""How well classes can be told from representations: probes, the nearest series as baseline, cross-validation."""

from nearfar.timeseries.classification.cross_validation import cross_validated_accuracy
from nearfar.timeseries.classification.folds import stratified_folds
from nearfar.timeseries.classification.knn_probe import knn_probe, nearest_neighbor_baseline
from nearfar.timeseries.classification.logistic_probe import logistic_probe
from nearfar.timeseries.classification.probe import classify
from nearfar.timeseries.classification.svm_probe import svm_probe

__all__ = [
    "classify",
    "cross_validated_accuracy",
    "knn_probe",
    "logistic_probe",
    "nearest_neighbor_baseline",
    "stratified_folds",
    "svm_probe",
]
