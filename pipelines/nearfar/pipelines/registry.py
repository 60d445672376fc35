"""All methods of all domains, by name; importing this imports no torch."""

from __future__ import annotations

import importlib

from nearfar.config import suggest
from nearfar.errors import ConfigError
from nearfar.registry import MethodEntry, by_name

DOMAINS = ("recsys", "graph", "timeseries", "calibration", "longtail")


def methods() -> dict[str, MethodEntry]:
    """Every registered method, in the order of the domains."""
    return by_name(
        entry
        for domain in DOMAINS
        for entry in importlib.import_module(f"nearfar.{domain}.registry").METHODS.values()
    )


def find(name: str) -> MethodEntry:
    """The method called ``name``.

    Raises:
        ConfigError: If there is none; names the nearest.
    """
    known = methods()
    if name in known:
        return known[name]
    hint = suggest(name, known, f"known methods: {', '.join(known)}")
    raise ConfigError(f"unknown method '{name}'; {hint}")
