"""A fresh interpreter for what would change this one: imports of tsai, RecBole's logging set-up."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="session")
def python() -> Callable[[str, Path], str]:
    """Function that runs a program in a folder and returns its output; the test fails if it fails."""

    def run(program: str, folder: Path) -> str:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)],
            check=False,
            capture_output=True,
            text=True,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
