"""What the quality tests look at: the source files as syntax trees, and fresh interpreters."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
ROOTS = ("common", "domains", "pipelines")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def roots() -> list[Path]:
    """The three source folders, in the order in which they make up the namespace."""
    return [REPOSITORY / root / "nearfar" for root in ROOTS]


def parse_roots(repository: Path) -> dict[str, ast.Module]:
    """Every Python file below the three roots, by its path from the checkout, such as ``common/nearfar/a.py``."""
    paths = [path for root in ROOTS for path in sorted((repository / root).rglob("*.py"))]
    return {path.relative_to(repository).as_posix(): ast.parse(path.read_text("utf-8")) for path in paths}


@pytest.fixture(scope="session")
def parse() -> Callable[[Path], dict[str, ast.Module]]:
    """:func:`parse_roots`, for the planted trees that prove a scanner can fail."""
    return parse_roots


@pytest.fixture(scope="session")
def trees() -> Mapping[str, ast.Module]:
    """The sources."""
    found = parse_roots(REPOSITORY)
    assert len(found) > 40, "most sources were not found; the scanners would pass on nothing"
    return found


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., str]:
    """Function that runs a program in a new interpreter and returns its output; fails the test if it fails.

    The interpreter sees the three roots (or the given ``path``) and its own site-packages, stands in an
    empty folder and writes no bytecode, so that it leaves nothing behind in the checkout.
    """

    def run(program: str, *options: str, path: list[Path] | None = None) -> str:
        places = [REPOSITORY / root for root in ROOTS] if path is None else path
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("NEARFAR_", "PYTHON", "MLFLOW_"))}
        done = subprocess.run(
            [sys.executable, "-B", *options, "-c", textwrap.dedent(program)],
            check=False,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=kept | {"PYTHONPATH": os.pathsep.join(map(str, places)), "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
