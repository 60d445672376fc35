"""Popularity: the baseline that anything trained has to beat."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nearfar.recsys.popularity.config import PopularityConfig

if TYPE_CHECKING:
    from nearfar.recsys.popularity.method import Popularity

__all__ = ["Popularity", "PopularityConfig"]


def __getattr__(name: str) -> Any:
    if name == "Popularity":
        return importlib.import_module(f"{__name__}.method").Popularity
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
