"""Public names of a package that are imported when they are first asked for (PEP 562).

The command line reads settings before it loads torch; a package whose ``__init__`` imported its methods would load it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(package: str, home: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package: ``__getattr__ = lazy_names(__name__, {"POT": "pot.method"})``.

    Args:
        package: Its ``__name__``.
        home: Module of each name, below the package, or in full from ``nearfar.`` on.

    Example:
        >>> lazy_names("nearfar", {"DataError": "errors"})("DataError")
        <class 'nearfar.errors.DataError'>
    """

    def find(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        place = home[name]
        module = importlib.import_module(place if place.startswith("nearfar.") else f"{package}.{place}")
        value = getattr(module, name)
        # Not asked again; and a submodule of the same name would take its place otherwise.
        setattr(sys.modules[package], name, value)
        return value

    return find
