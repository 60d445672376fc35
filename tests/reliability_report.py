"""Plugin behind ``make reliability``: one table of the promises that were tested, and what it took."""

from __future__ import annotations

import json
import platform
import subprocess
import time
from collections import defaultdict
from collections.abc import Generator
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
            for mark in item.iter_markers("row"):
                evidence = dict(item.user_properties)
                self.rows[mark.args[0]].append(
                    {"test": item.name, "outcome": report.outcome, "seconds": report.duration, **evidence}
                )
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
        """A line per row, and the totals of what was counted."""
        lines = ["| row | passed | seconds | evidence |", "|--|--|--:|--|"]
        totals: dict[str, int] = defaultdict(int)
        for row, tests in sorted(self.rows.items()):
            passed = sum(test["outcome"] == "passed" for test in tests)
            words = []
            for test in tests:
                for key, value in test.items():
                    if key not in ("test", "outcome", "seconds"):
                        totals[key] += int(value)
                        words.append(f"{key} {value}")
            seconds = sum(test["seconds"] for test in tests)
            lines.append(f"| {row} | {passed}/{len(tests)} | {seconds:.0f} | {', '.join(words)} |")
        summary = ", ".join(f"{key} {value}" for key, value in sorted(totals.items()))
        return "\n".join(lines) + f"\n\nin all: {summary}\n"

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Show the table."""
        terminalreporter.section("reliability")
        terminalreporter.write_line(self.table())
