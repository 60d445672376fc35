"""Which validation was best, and whether to go on: pure functions of the validations so far."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from nearfar.config import SelectionConfig
from nearfar.errors import ConfigError


def best_step(history: Sequence[Mapping[str, float]], config: SelectionConfig) -> int | None:
    """Step of the best validation, the earliest of equals; ``None`` before the first.

    Args:
        history: Validations in order, each with its ``step``.
        config: Which metric, and whether more is better.

    Raises:
        ConfigError: If the chosen metric is not among those measured.

    Example:
        >>> config = SelectionConfig(metric="val/ndcg_at_10", mode="max")
        >>> best_step([{"step": 0, "val/ndcg_at_10": 0.1}, {"step": 9, "val/ndcg_at_10": 0.3}], config)
        9
    """
    best = _best_index(history, config)
    return None if best is None else int(history[best]["step"])


def exhausted(history: Sequence[Mapping[str, float]], config: SelectionConfig) -> bool:
    """Whether ``patience`` validations in a row brought no new best."""
    best = _best_index(history, config)
    return config.patience is not None and best is not None and len(history) - 1 - best >= config.patience


def _best_index(history: Sequence[Mapping[str, float]], config: SelectionConfig) -> int | None:
    if not history:
        return None
    if config.metric not in history[0]:
        known = ", ".join(sorted(name for name in history[0] if name.startswith("val/")))
        raise ConfigError(f"selection.metric: '{config.metric}' is not measured; choose from {known}")
    sign = 1 if config.mode == "max" else -1
    values = [sign * entry[config.metric] for entry in history]
    values = [-math.inf if math.isnan(value) else value for value in values]  # NaN is never the best
    return values.index(max(values))
