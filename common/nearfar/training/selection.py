"""Which validation was best, and whether to go on: pure functions of the validations so far."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from nearfar.config import SelectionConfig
from nearfar.errors import ConfigError

ROUNDING = 1e-12


def best_step(history: Sequence[Mapping[str, float]], config: SelectionConfig) -> int | None:
    """Step of the best validation, the earliest of equals; ``None`` before the first.

    With a tolerance, validations that close count as equal: one is chosen only if it beats the one chosen before it by
    more. The first is that of the start, so a method whose training gains no more than noise stays as it was built
    (compare the one-standard-error rule of Breiman et al., Classification and Regression Trees, 1984). What is chosen
    is chosen when it is measured, or never: whoever saves what is best at the time always has it. With
    ``take=last`` the newest is chosen: the protocol of methods that have no clean labels to select by.

    Args:
        history: Validations in order, each with its ``step``.
        config: Which metric, whether more is better, and the tolerance.

    Raises:
        ConfigError: If the chosen metric is not among those measured.

    Example:
        >>> config = SelectionConfig(metric="val/ndcg_at_10", mode="max")
        >>> best_step([{"step": 0, "val/ndcg_at_10": 0.1}, {"step": 9, "val/ndcg_at_10": 0.3}], config)
        9
    """
    values = _values(history, config)
    if not values:
        return None
    if config.take == "last":
        return int(history[-1]["step"])
    margin = config.tolerance + ROUNDING if config.tolerance > 0 else 0.0
    chosen = 0
    for index, value in enumerate(values):
        if value > values[chosen] + margin:
            chosen = index
    return int(history[chosen]["step"])


def exhausted(history: Sequence[Mapping[str, float]], config: SelectionConfig) -> bool:
    """Whether ``patience`` validations in a row brought no new best."""
    values = _values(history, config)
    if config.patience is None or not values:
        return False
    return len(values) - 1 - values.index(max(values)) >= config.patience


def _values(history: Sequence[Mapping[str, float]], config: SelectionConfig) -> list[float]:
    """More is better; NaN is never the best."""
    if not history:
        return []
    if config.metric not in history[0]:
        known = ", ".join(sorted(name for name in history[0] if name.startswith("val/")))
        raise ConfigError(f"selection.metric: '{config.metric}' is not measured; choose from {known}")
    sign = 1 if config.mode == "max" else -1
    values = [sign * entry[config.metric] for entry in history]
    return [-math.inf if math.isnan(value) else value for value in values]
