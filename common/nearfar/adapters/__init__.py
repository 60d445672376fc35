"""Anybody's data and encoders in one form: rows with views, and modules from a batch to ``(B, m)``."""

from nearfar.adapters.as_inputs import as_inputs
from nearfar.adapters.convex import convex
from nearfar.adapters.datasets import DatasetInputs
from nearfar.adapters.features import FeatureInputs
from nearfar.adapters.images import ImageInputs
from nearfar.adapters.inputs import Batch, Inputs
from nearfar.adapters.nodes import NodeInputs, NodeRepresentation, Nodes
from nearfar.adapters.representations import device_of, in_precision_of, representations, width_of
from nearfar.adapters.sequences import SequenceInputs, SequenceRepresentation, Sequences
from nearfar.adapters.series import SeriesInputs, SeriesRepresentation

__all__ = [
    "Batch",
    "DatasetInputs",
    "FeatureInputs",
    "ImageInputs",
    "Inputs",
    "NodeInputs",
    "NodeRepresentation",
    "Nodes",
    "SequenceInputs",
    "SequenceRepresentation",
    "Sequences",
    "SeriesInputs",
    "SeriesRepresentation",
    "as_inputs",
    "convex",
    "device_of",
    "in_precision_of",
    "representations",
    "width_of",
]
