"""Of the published settings, those an untrained encoder has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nearfar.graph.contrast.published import published as published_for_training

SIZES = ("dim", "activation", "normalize")


def published(given: Mapping[str, Any]) -> dict[str, Any]:
    """Width and activation of GRACE's encoder on ``data``; empty where none were published.

    Args:
        given: Settings of the user.

    Example:
        >>> published({"data": "citeseer"})
        {'dim': 256, 'activation': 'prelu'}
    """
    return {key: value for key, value in published_for_training(given).items() if key in SIZES}
