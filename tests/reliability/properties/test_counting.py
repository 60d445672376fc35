"""``make reliability`` counts the examples that Hypothesis says it has tried, and profiles say how many those are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed")

TESTS = Path(__file__).parents[2]
PROGRAM = """
import pytest
from hypothesis import given, strategies as st

@pytest.mark.row("P99", kills=1)
@given(st.integers(0, 10**9))
def test_all(x):
    pass

@pytest.mark.row("P99")
def test_plain():
    pass

@pytest.mark.row("P98")
@given(st.integers(0, 10**9))
def test_wrong(x):
    assert x < 0
"""


@pytest.mark.parametrize(
    ("profile", "count"), [("dev", 25), pytest.param("nightly", 2000, marks=pytest.mark.slow)]
)
def test_examples_are_counted(tmp_path: Path, profile: str, count: int) -> None:
    (tmp_path / "test_toy.py").write_text(PROGRAM, encoding="utf-8")
    options = [
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        str(TESTS.parent / "pyproject.toml"),
        f"--rootdir={tmp_path}",
    ]
    words = [
        sys.executable,
        "-m",
        "pytest",
        *options,
        "--reliability-report",
        "report.json",
        f"--confcutdir={TESTS}",
    ]
    subprocess.run(
        [*words, "-p", "conftest", str(tmp_path / "test_toy.py")],
        cwd=tmp_path,
        env=os.environ | {"HYPOTHESIS_PROFILE": profile, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=False,
    )
    rows = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["rows"]
    found = {test["test"].rpartition("::")[2]: test for tests in rows.values() for test in tests}
    assert found["test_all"]["counts"] == {"kills": [1, 1], "examples": [count, count]}
    assert found["test_plain"]["counts"] == {}
    survived, tried = found["test_wrong"]["counts"]["examples"]
    assert (found["test_wrong"]["outcome"], survived) == ("failed", 0)
    assert tried > 0
    kept = (tmp_path / ".hypothesis" / "examples").exists()
    assert kept == (profile == "nightly"), "a failure found at night is kept, and nothing else is"


SAY_PROFILES = """
import json
import conftest
from hypothesis import settings
said = {}
for name in ("dev", "ci", "nightly"):
    profile = settings.get_profile(name)
    said[name] = [profile.max_examples, profile.deadline, profile.derandomize, profile.database is not None]
print(json.dumps(said))
"""


@pytest.mark.parametrize("machine", [{}, {"CI": "true"}], ids=["desk", "CI"])
def test_profiles(tmp_path: Path, machine: dict[str, str]) -> None:
    """The same everywhere, though Hypothesis itself has other defaults where the environment has ``CI``."""
    unmarked = {name: value for name, value in os.environ.items() if name != "CI"}
    finished = subprocess.run(
        [sys.executable, "-c", SAY_PROFILES],
        cwd=tmp_path,
        env=unmarked | machine | {"PYTHONPATH": str(TESTS)},
        capture_output=True,
        check=True,
    )
    assert json.loads(finished.stdout) == {
        "dev": [25, None, True, False],
        "ci": [100, None, True, False],
        "nightly": [2000, None, False, True],
    }
