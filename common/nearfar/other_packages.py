"""What other installed packages bring: entries that their ``pyproject.toml`` names under a group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol, TypeVar

from nearfar.errors import ConfigError, first_line
from nearfar.messages import warn


class Named(Protocol):
    """An entry of a registry."""

    @property
    def name(self) -> str:
        """What it is found by."""


Entry = TypeVar("Entry", bound=Named)


def with_others(own: Mapping[str, Entry], group: str, kind: type[Entry], what: str) -> dict[str, Entry]:
    """Entries of nearfar's, then those of other packages.

    An entry point is one entry, or a mapping of entries by name. A package that cannot be used is left out, with a
    line that says why; one that is installed twice counts once.

    Args:
        own: Entries by name.
        group: Of the entry points.
        kind: Of the entries.
        what: An entry is, in one word, for messages.

    Returns:
        By name: ``own`` in its order, then others by package.

    Raises:
        ConfigError: If another package takes a name that is taken.
    """
    known = dict(own)
    for point in _points(group):
        for entry in _entries(point, kind, what):
            if entry.name in known:
                raise ConfigError(
                    f"the package {_package(point)} brings the {what} '{entry.name}', but there is one of that name; "
                    "rename it there, or uninstall the package"
                )
            known[entry.name] = entry
    return known


def _points(group: str) -> Iterable[EntryPoint]:
    """In an order that does not depend on that of the folders."""
    found = {(_package(point), point.name, point.value): point for point in entry_points(group=group)}
    return [found[key] for key in sorted(found)]


def _entries(point: EntryPoint, kind: type[Entry], what: str) -> Iterator[Entry]:
    try:
        found = point.load()
        entries = list(found.values()) if isinstance(found, Mapping) else [found]
        wrong = [entry for entry in entries if not isinstance(entry, kind)]
        if wrong:
            raise TypeError(f"{kind.__name__} expected, got {type(wrong[0]).__name__}")
    # It is not ours: whatever is wrong with it must not keep anybody from the others.
    except Exception as error:
        _warn_once(
            f"the {what}s of the package {_package(point)} are left out: {point.value} cannot be used "
            f"({type(error).__name__}: {first_line(error)})"
        )
        return
    yield from entries


@cache
def _warn_once(message: str) -> None:
    """A run looks entries up again and again."""
    warn(message)


def _package(point: EntryPoint) -> str:
    return "?" if point.dist is None else point.dist.name
