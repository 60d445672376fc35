"""The installed version of nearfar (a namespace package has no ``nearfar.__version__``)."""

from __future__ import annotations

from nearfar.optional import version


def get() -> str:
    """Version string from the package metadata, ``"0+unknown"`` in a tree that was never installed."""
    return version("nearfar") or "0+unknown"
