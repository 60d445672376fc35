"""Attributes replaced for the duration of a scope, and who is asking."""

from __future__ import annotations

import importlib
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def patched(owner: Any, name: str, value: object) -> Iterator[None]:
    """Scope in which ``owner`` has another attribute; afterwards it has the old one, or none."""
    # vars() rather than getattr: an inherited or computed attribute must be removed again, not copied
    # down, and numpy's module-level __getattr__ must not run.
    present = name in vars(owner)
    before = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if present:
            setattr(owner, name, before)
        else:
            delattr(owner, name)


def recbole_module(module: str) -> Any:
    """A module of RecBole by its name there."""
    return importlib.import_module(f"recbole.{module}")


def called_by_recbole() -> bool:
    """Whether the function that calls this one was called from RecBole's own code."""
    caller = sys._getframe(2).f_globals.get("__name__", "")
    return isinstance(caller, str) and caller.partition(".")[0] == "recbole"
