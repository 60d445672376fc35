"""Settings of an estimator as keyword arguments: flat, nested, dotted or with double underscores."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, reduce
from typing import Any

from nearfar.config import Layer, flatten, resolve
from nearfar.config.layers import merge
from nearfar.errors import ConfigError
from nearfar.recsys.mclrec.config import MCLRecConfig

# What is said in fit, save and load instead.
ELSEWHERE = {
    "data": "give the data to fit",
    "data_dir": "give the data to fit",
    "columns": "name the columns in fit",
    "output_dir": "name the folder in save",
    "tracking": "an estimator records nothing; log what evaluate returns",
}


def dotted(hyper: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments as dotted names.

    Args:
        hyper: As people write them.

    Raises:
        ConfigError: If one is said elsewhere.

    Example:
        >>> dotted({"epochs": 5, "optim__lr": 0.1, "contrast": {"rows": 8}})
        {'epochs': 5, 'optim.lr': 0.1, 'contrast.rows': 8}
    """
    given = flatten({name.replace("__", "."): value for name, value in hyper.items()})
    for name in given:
        advice = ELSEWHERE.get(name.partition(".")[0])
        if advice is not None:
            raise ConfigError(f"{name}: no setting of the estimator; {advice}")
    return given


def config_of(hyper: Mapping[str, Any]) -> MCLRecConfig:
    """Validated settings from dotted names.

    Raises:
        ConfigError: If one is unknown or out of bounds.

    Example:
        >>> config_of({"optim.lr": 0.01, "dim": 8}).optim.lr
        0.01
    """
    nested = [reduce(lambda value, part: {part: value}, reversed(n.split(".")), v) for n, v in hyper.items()]
    return resolve(MCLRecConfig, [Layer("MCLRecommender", reduce(merge, nested, {}))])


@lru_cache(maxsize=1)
def defaults() -> dict[str, Any]:
    """Dotted names of what can be set, and their defaults; the same objects every time, as scikit-learn wants it."""
    return {n: v for n, v in flatten(MCLRecConfig()).items() if n.partition(".")[0] not in ELSEWHERE}
