"""Every example on a page of the documentation runs, in order, in an empty folder on the CPU.

A block of ``python`` is executed, one with ``>>>`` is a doctest; blocks of a page share their names. A block under
``<!-- slow -->`` takes more than some twenty seconds; then the whole page runs once more, with it, as a slow test.
"""

from __future__ import annotations

import doctest
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).parents[2]
FENCE = re.compile(
    r"^(?P<slow><!-- slow -->\n)?```python\n(?P<code>.*?)^```$", flags=re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """One example.

    Attributes:
        place: File and line, for tracebacks.
        line: Number of its first line, from 1.
        code: What is between the fences.
        slow: It takes long.
    """

    place: str
    line: int
    code: str
    slow: bool


def blocks(page: Path, text: str) -> list[Block]:
    """Examples of a page, in order."""
    found = []
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start("code")) + 1
        found.append(Block(f"{page.name}:{line}", line, match["code"], match["slow"] is not None))
    return found


def run(page: list[Block], names: dict[str, object], *, slow: bool) -> int:
    """Execute examples in a shared namespace; returns how many there were."""
    done = 0
    for block in page:
        if block.slow and not slow:
            continue
        if ">>> " in block.code:
            example = doctest.DocTestParser().get_doctest(
                block.code, names, block.place, block.place, block.line
            )
            report: list[str] = []
            result = doctest.DocTestRunner(verbose=False).run(example, out=report.append, clear_globs=False)
            names.update(example.globs)
            assert result.failed == 0, "".join(report)
        else:
            # Lines of tracebacks are those of the page.
            source = "\n" * (block.line - 1) + block.code
            exec(compile(source, block.place, "exec", dont_inherit=True), names)
        done += 1
    return done


def pages() -> Iterator[tuple[Path, list[Block]]]:
    """Pages with examples."""
    docs = (p for p in (REPOSITORY / "docs").rglob("*.md") if not {"reference", "_build"} & set(p.parts))
    for path in sorted([REPOSITORY / "README.md", *docs, *(REPOSITORY / "domains").rglob("README.md")]):
        if found := blocks(path, path.read_text(encoding="utf-8")):
            yield path, found


def cases() -> Iterator[object]:
    """A page without its slow examples, and once more with them."""
    for path, found in pages():
        name = path.relative_to(REPOSITORY).as_posix()
        if not all(block.slow for block in found):
            yield pytest.param(found, False, id=name)
        if any(block.slow for block in found):
            yield pytest.param(found, True, id=f"{name} (all)", marks=pytest.mark.slow)


@pytest.mark.parametrize(("page", "slow"), list(cases()))
def test_examples(page: list[Block], slow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))  # a page may add its folder
    module = ModuleType("page")
    assert run(page, vars(module), slow=slow) > 0


def test_a_wrong_example_is_found() -> None:
    text = "```python\nx = 1\n```\n\n```python\n>>> x + 1\n3\n```\n"
    found = blocks(Path("a.md"), text)
    assert [(block.place, block.code) for block in found] == [
        ("a.md:2", "x = 1\n"),
        ("a.md:6", ">>> x + 1\n3\n"),
    ]
    with pytest.raises(AssertionError, match="Got:"):
        run(found, {}, slow=False)


def test_slow_examples_are_left_out() -> None:
    found = blocks(Path("a.md"), "<!-- slow -->\n```python\n1 / 0\n```\n\n```python\ny = 2\n```\n")
    names: dict[str, object] = {}
    assert run(found, names, slow=False) == 1
    assert names["y"] == 2
    with pytest.raises(ZeroDivisionError):
        run(found, names, slow=True)
