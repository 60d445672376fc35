"""Labels that are wrong or unevenly spread: making them so, finding them, learning in spite of them.

What is made of labels alone is an array of numpy; what is made of features or logits is a tensor on their device.
"""

from nearfar.labels.accuracy import (
    accuracy_by_frequency,
    balanced_accuracy,
    classification_scores,
    recall_by_class,
)
from nearfar.labels.agreement import default_neighbors, keep_most, label_agreement
from nearfar.labels.by_frequency import by_frequency
from nearfar.labels.codes import class_codes, class_counts
from nearfar.labels.encoded import encode_labels
from nearfar.labels.head import head_classes
from nearfar.labels.label_noise import NOISE_KINDS, NoisyLabels, empirical_transition, label_noise
from nearfar.labels.long_tail import PROFILES, long_tail, long_tail_counts
from nearfar.labels.per_class import rows_per_class
from nearfar.labels.purity import Purity, purity
from nearfar.objectives.balanced_softmax import balanced_softmax, logit_adjustment

__all__ = [
    "NOISE_KINDS",
    "PROFILES",
    "NoisyLabels",
    "Purity",
    "accuracy_by_frequency",
    "balanced_accuracy",
    "balanced_softmax",
    "by_frequency",
    "class_codes",
    "class_counts",
    "classification_scores",
    "default_neighbors",
    "empirical_transition",
    "encode_labels",
    "head_classes",
    "keep_most",
    "label_agreement",
    "label_noise",
    "logit_adjustment",
    "long_tail",
    "long_tail_counts",
    "purity",
    "recall_by_class",
    "rows_per_class",
]
