"""What the properties share: oracles that other tests are built on."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import pytest

TESTS = Path(__file__).parents[2]

Load: TypeAlias = Callable[[str], Any]


@pytest.fixture(scope="session")
def other_tests() -> Load:
    """Function that loads another file of tests, for what it compares with: one oracle serves both."""
    loaded: dict[str, ModuleType] = {}

    def load(name: str) -> ModuleType:
        if name not in loaded:
            spec = importlib.util.spec_from_file_location(f"oracle_{Path(name).stem}", TESTS / name)
            assert spec is not None
            assert spec.loader is not None
            loaded[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(loaded[name])
        return loaded[name]

    return load
