"""POT's own published settings: kappa is named in a few README examples, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nearfar.graph.contrast.published import name_of
from nearfar.graph.contrast.published import published as published_for_the_base

POT: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("grace", "cora"): {"kappa": 0.4},
    ("gca", "cora"): {"kappa": 0.3},
    ("gca", "blogcatalog"): {"kappa": 0.3, "compactness": {"batch_nodes": 1024}},
    ("costa", "cora"): {"kappa": 0.2},
}


def published(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of POT on ``base`` and ``data``, nested; empty where none were published.

    Args:
        given: Settings of the user.

    Example:
        >>> published({"data": "cora", "base": "gca"})["kappa"]
        0.3
    """
    key = str(given.get("base", "grace")), name_of(str(given.get("data", "")))
    return {**published_for_the_base(given), **POT.get(key, {})}
