"""Plugin behind ``make reliability``: one table of the promises that were tested, and what it took.

A test says what it does to a run, as ``row("C05", outages=1)`` or, when it finds out on the way, as
``record_property("kills", 12)``; it is survived if the test passes. Of a Hypothesis test the examples are counted.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import time
from collections import defaultdict
from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest


class Report:
    """Collects the tests that carry a ``row`` mark."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, list[dict[str, Any]]] = defaultdict(list)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Note how a test of a row ended."""
        report = yield
        over = report.when == "call" or (report.when == "setup" and not report.passed)
        if over:
            marks = list(item.iter_markers("row"))
            counts: dict[str, Any] = dict(item.user_properties)
            for mark in marks:
                counts |= mark.kwargs
            counts |= _examples(item)
            test = {
                "test": item.nodeid,
                "outcome": report.outcome,
                "seconds": report.duration,
                "counts": {name: [int(count) * report.passed, int(count)] for name, count in counts.items()},
            }
            for mark in marks:
                self.rows[mark.args[0]].append(test)
        return report

    def pytest_sessionfinish(self) -> None:
        """Write JSON and, beside it, Markdown."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        about = {
            "date": time.strftime("%Y-%m-%d"),
            "machine": platform.processor() or platform.machine(),
            "commit": commit.stdout.strip(),
        }
        self.path.write_text(json.dumps({**about, "rows": self.rows}, indent=2), encoding="utf-8")
        self.path.with_suffix(".md").write_text(self.table(), encoding="utf-8")

    def table(self) -> str:
        """A line per row, and the totals: a test that proves two rows is counted once."""
        lines = ["| row | passed | seconds | survived |", "|--|--|--:|--|"]
        for row, tests in sorted(self.rows.items()):
            ran = _ran(tests)
            seconds = sum(test["seconds"] for test in ran)
            lines.append(f"| {row} | {_passed(tests)} | {seconds:.0f} | {_survived(ran)} |")
        once = list({test["test"]: test for tests in self.rows.values() for test in tests}.values())
        lines += ["", f"in all: {_passed(once)} tests passed; survived: {_survived(_ran(once))}", ""]
        return "\n".join(lines)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Show the table."""
        terminalreporter.section("reliability")
        terminalreporter.write_line(self.table())


def _ran(tests: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Without those that need a device, a server or a package that is not here."""
    return [test for test in tests if test["outcome"] != "skipped"]


def _passed(tests: Sequence[Mapping[str, Any]]) -> str:
    """``3/3``, and how many were not run."""
    ran = _ran(tests)
    passed = sum(test["outcome"] == "passed" for test in ran)
    skipped = f" ({len(tests) - len(ran)} skipped)" if len(ran) < len(tests) else ""
    return f"{passed}/{len(ran)}{skipped}"


def _examples(item: pytest.Item) -> dict[str, int]:
    """How many examples Hypothesis has tried, in all its phases; nothing for other tests.

    Its pytest plugin leaves them with the test as the text that ``--hypothesis-show-statistics`` prints.
    """
    statistics = getattr(item, "hypothesis_statistics", None)
    if statistics is None:
        return {}
    return {"examples": sum(map(int, re.findall(r"\b(\d+) (?:passing|failing)\b", statistics)))}


def _survived(tests: Iterable[Mapping[str, Any]]) -> str:
    """``kills 12/12, stops 4/4``."""
    totals: dict[str, list[int]] = {}
    for test in tests:
        for name, (survived, tried) in test["counts"].items():
            total = totals.setdefault(name, [0, 0])
            total[0] += survived
            total[1] += tried
    return ", ".join(f"{name.replace('_', ' ')} {a}/{b}" for name, (a, b) in sorted(totals.items()))
