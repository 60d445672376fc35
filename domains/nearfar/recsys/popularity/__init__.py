"""Popularity: the baseline that anything trained has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfar.lazy import lazy_names
from nearfar.recsys.popularity.config import PopularityConfig

if TYPE_CHECKING:
    from nearfar.recsys.popularity.method import Popularity

__all__ = ["Popularity", "PopularityConfig"]

__getattr__ = lazy_names(__name__, {"Popularity": "method"})
