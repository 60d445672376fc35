"""All methods by name, those of the domains and of other installed packages; importing this imports no torch."""

from __future__ import annotations

import importlib

from nearfar.config import suggest
from nearfar.errors import ConfigError
from nearfar.other_packages import with_others
from nearfar.registry import MethodEntry, by_name

DOMAINS = ("recsys", "graph", "timeseries", "calibration", "longtail")
# A package names its mapping of entries, such as `METHODS` of a domain, under this group in its pyproject.toml.
GROUP = "nearfar.methods"


def methods() -> dict[str, MethodEntry]:
    """Every registered method, in the order of the domains; then those of other packages.

    Raises:
        ConfigError: If another package takes a name that is taken.
    """
    own = by_name(
        entry
        for domain in DOMAINS
        for entry in importlib.import_module(f"nearfar.{domain}.registry").METHODS.values()
    )
    return with_others(own, GROUP, MethodEntry, "method")


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
