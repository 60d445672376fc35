"""All methods by name, those of the domains and of other installed packages; importing this imports no torch."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points

from nearfar.config import suggest
from nearfar.errors import ConfigError, first_line
from nearfar.messages import warn
from nearfar.registry import MethodEntry, by_name

DOMAINS = ("recsys", "graph", "timeseries", "calibration", "longtail")
# A package names its mapping of entries, such as `METHODS` of a domain, under this group in its pyproject.toml.
GROUP = "nearfar.methods"


def methods() -> dict[str, MethodEntry]:
    """Every registered method, in the order of the domains; then those of other packages.

    Raises:
        ConfigError: If another package takes a name that is taken.
    """
    known = by_name(
        entry
        for domain in DOMAINS
        for entry in importlib.import_module(f"nearfar.{domain}.registry").METHODS.values()
    )
    for point in _points():
        for entry in _entries(point):
            if entry.name in known:
                raise ConfigError(
                    f"the package {_package(point)} brings a method '{entry.name}', but there is one of that name; "
                    "rename it there, or uninstall the package"
                )
            known[entry.name] = entry
    return known


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


def _points() -> Iterable[EntryPoint]:
    """In an order that does not depend on that of the folders; a package that is installed twice counts once."""
    found = {(_package(point), point.name, point.value): point for point in entry_points(group=GROUP)}
    return [found[key] for key in sorted(found)]


def _entries(point: EntryPoint) -> Iterator[MethodEntry]:
    """What a package brings: nothing, with a word about it, where it is broken."""
    try:
        found = point.load()
        entries = list(found.values()) if isinstance(found, Mapping) else [found]
        wrong = [entry for entry in entries if not isinstance(entry, MethodEntry)]
        if wrong:
            raise TypeError(f"MethodEntry expected, got {type(wrong[0]).__name__}")
    # It is not ours: whatever is wrong with it must not keep anybody from the other methods.
    except Exception as error:
        warn(
            f"methods of the package {_package(point)} are left out: {point.value} cannot be used "
            f"({type(error).__name__}: {first_line(error)})"
        )
        return
    yield from entries


def _package(point: EntryPoint) -> str:
    return "?" if point.dist is None else point.dist.name
