"""What the variants of AutoTCL differ in; fields not named here are at their defaults, those of ``paper``.

For forecasts ``paper+`` has an encoder of its own: causal, so that one pass serves all steps of a long series, small,
with a light head and trailing normalisation. For classes it keeps the paper's encoder and contrasts every step of two
crops at all scales: maxima over time, contrasted as printed, make representations worse than untrained ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

from nearfar.config import merge

Variant: TypeAlias = Literal["released", "paper", "paper+"]
DEFAULT: Variant = "paper+"
# Data that are forecast, besides .csv files.
FORECAST = frozenset({"etth1", "etth2", "ettm1", "ettm2"})

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    # Its options for hidden masks, depth and dropout reach nothing: the encoder is always the same.
    "released": {
        "independent": False,
        "probe": "ts2vec",
        "crop": 257,
        "encoder": {"dropout": 0.0},
        "augmenter": {
            "head": "trend",
            "gain": "sigmoid",
            "per_channel": True,
            "covariates": True,
            "gate": "released",
            "stretch": 0.05,
            "bias": 0.05,
            "target_keep": None,
            "entropy": "hinge",
            "space": "trunk",
            "smoothness": 0.0,
            "triplet": "released",
        },
        "contrast": {"local_on": "anchor", "local_batch": "first", "hidden_mask": "all_true"},
    },
    "paper": {"independent": False},
    "paper+": {"contrast": {"symmetric": True}, "sampling": "anywhere"},
}
CLASSIFICATION: Mapping[str, Mapping[str, Any]] = {
    "paper+": {
        "batch_size": 8,
        # With all weights alike, the mean stays near the start: a run has to be three times as long for the same gain.
        "average_power": 8.0,
        "contrast": {"form": "hierarchical"},
        "augmenter": {"crops": True, "every": 4},
        # More than one series in forty: on a few dozen, cross-validation cannot tell encoders apart that are closer.
        "selection": {"tolerance": 0.03},
    },
}
FORECASTING: Mapping[str, Mapping[str, Any]] = {
    "released": {"encoder": {"head": "trend"}},
    "paper": {"encoder": {"head": "trend"}},
    "paper+": {
        "contrast": {"temperature": 0.2},
        # Ten times the rate makes representations worse than untrained ones.
        "optim": {"lr": 1e-4},
        "calendar": "cycles",
        "encoder": {
            "dim": 128,
            "hidden": 32,
            "depth": 6,
            "causal": True,
            "head": "light",
            "normalize": "trailing",
        },
    },
}


def variant_settings(variant: str, data: str) -> dict[str, Any]:
    """Settings of a variant, nested; empty for one there is not.

    Args:
        variant: Its name.
        data: A known set or a file.

    Example:
        >>> variant_settings("paper", "ETTh1"), variant_settings("paper", "gunpoint")
        ({'independent': False, 'encoder': {'head': 'trend'}}, {'independent': False})
    """
    task = FORECASTING if is_forecast(data) else CLASSIFICATION
    return merge(VARIANTS.get(variant, {}), task.get(variant, {}))


def is_forecast(data: str) -> bool:
    """Whether a data set is one to forecast, by its name.

    Example:
        >>> [is_forecast(data) for data in ("ETTm2", "mine.csv", "mine.npz", "Coffee")]
        [True, True, False, False]
    """
    return data.lower() in FORECAST or Path(data).suffix.lower() == ".csv"
