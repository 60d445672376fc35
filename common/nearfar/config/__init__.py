"""Typed settings: pydantic models, YAML 1.2 recipes, ``a.b=c`` overrides, one line per mistake.

Nothing here imports torch, so a wrong key is reported before anything slow is loaded.
"""

from nearfar.config.layers import Layer, environment_layer, file_layer, merge, override_layer, resolve
from nearfar.config.run import (
    CheckpointConfig,
    OptimConfig,
    RunConfig,
    SelectionConfig,
    TrackingConfig,
)
from nearfar.config.settings import Settings, canonical_json, config_hash, decisive, flatten
from nearfar.config.suggest import suggest

__all__ = [
    "CheckpointConfig",
    "Layer",
    "OptimConfig",
    "RunConfig",
    "SelectionConfig",
    "Settings",
    "TrackingConfig",
    "canonical_json",
    "config_hash",
    "decisive",
    "environment_layer",
    "file_layer",
    "flatten",
    "merge",
    "override_layer",
    "resolve",
    "suggest",
]
