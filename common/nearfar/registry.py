"""How a method is found by name without importing it.

Each domain lists its methods in ``nearfar.<domain>.registry.METHODS``; nothing there imports torch, so
the command line can validate a config and complete names at no cost.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nearfar.errors import ConfigError


@dataclass(frozen=True)
class MethodEntry:
    """Name of a method and where its parts are, as ``module:attribute``.

    Attributes:
        name: ``<domain>.<method>``.
        summary: One line for ``nearfar methods``.
        source: Paper.
        config: The settings class (a ``RunConfig``); its module must not import torch.
        method: The module class (a ``Method``).
        task: The task class (a ``Task``) that pairs it with data.
        requires: Optional packages a run needs, by import name.
        space: Settings that ``nearfar tune`` searches (a ``SearchSpace``); its module must not import torch.
        example: Function ``folder -> settings`` that writes a data set of a second or two into a folder and
            returns the ``key=value`` words for a small model on it; what the conformance tests train on.
        published: Function from the user's settings, nested, to those published for their data; below a recipe. Its
            module must not import torch.
        offers: What it gives to an objective chosen by name (an ``Offers``); without it nothing can be chosen. Its
            module must not import torch.
    """

    name: str
    summary: str
    source: str
    config: str
    method: str
    task: str
    requires: tuple[str, ...] = ()
    space: str | None = None
    example: str | None = None
    published: str | None = None
    offers: str | None = None

    @property
    def domain(self) -> str:
        """First half of the name."""
        return self.name.partition(".")[0]

    def load(self, part: str) -> Any:
        """Import ``config``, ``method``, ``task``, ``space``, ``example``, ``published`` or ``offers``.

        Raises:
            ConfigError: If the method names no such part.
        """
        place: str | None = getattr(self, part)
        if place is None:
            raise ConfigError(f"{self.name} has no {part}")
        module, _, attribute = place.partition(":")
        return getattr(importlib.import_module(module), attribute)


def by_name(entries: Iterable[MethodEntry]) -> dict[str, MethodEntry]:
    """Entries keyed by their names, in order.

    Raises:
        ValueError: If a name appears twice.
    """
    named: dict[str, MethodEntry] = {}
    for entry in entries:
        if entry.name in named:
            raise ValueError(f"method {entry.name!r} is registered twice")
        named[entry.name] = entry
    return named
