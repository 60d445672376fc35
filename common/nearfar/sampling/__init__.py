"""Which rows make a batch, and which are compared: functions of seed and step, or of a generator."""

from nearfar.sampling.cluster_batches import ClusterBatchSampler
from nearfar.sampling.inflation import InflationSampler, coupled_strength, generated_share
from nearfar.sampling.propensity import (
    PairRule,
    draw_negatives,
    draw_pairs,
    draw_positive,
    propensity_weights,
    surface_similarity,
)

__all__ = [
    "ClusterBatchSampler",
    "InflationSampler",
    "PairRule",
    "coupled_strength",
    "draw_negatives",
    "draw_pairs",
    "draw_positive",
    "generated_share",
    "propensity_weights",
    "surface_similarity",
]
