"""What the variants of AutoTCL differ in; fields not named here are at their defaults, those of ``paper``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

Variant: TypeAlias = Literal["released", "paper", "paper+"]
DEFAULT: Variant = "paper+"

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
    "paper+": {
        "calendar": "cycles",
        "encoder": {
            "dim": 128,
            "hidden": 32,
            "causal": True,
            "depth": 6,
            "head": "light",
            "normalize": "auto",
        },
        "contrast": {"temperature": 0.2, "symmetric": True},
        "sampling": "anywhere",
        # Faster learning makes representations worse than untrained ones on small sets.
        "optim": {"lr": 1e-4},
    },
}
