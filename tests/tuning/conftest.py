"""Studies in processes of their own."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from nearfar.optional import installed

SCRIPT = Path(__file__).with_name("fake_study.py")

if not installed("optuna"):
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def fake() -> ModuleType:
    """``fake_study.py`` as a module."""
    spec = importlib.util.spec_from_file_location("fake_study", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fake_study"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def launch(fake: ModuleType) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """``fake_study.launch``; nothing it starts outlives the test."""
    started = []

    def start(**job: Any) -> subprocess.Popen[str]:
        started.append(fake.launch(**job))
        process: subprocess.Popen[str] = started[-1]
        return process

    yield start
    for process in started:
        for child in fake.workers_of(process.pid):
            child.kill()
        process.kill()
        process.communicate()
