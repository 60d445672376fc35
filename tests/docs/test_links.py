"""Links between files of the repository lead somewhere; those of the site are checked by its build as well."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")


def dead_links(root: Path) -> Iterator[str]:
    """Links to files that are not there."""
    for path in sorted(
        [*root.glob("*.md"), *(root / "docs").rglob("*.md"), *(root / "domains").rglob("*.md")]
    ):
        if {"reference", "_build"} & set(path.parts):
            continue
        for target in LINK.findall(path.read_text(encoding="utf-8")):
            # Pages of the reference are written by the build.
            if "reference/" not in target and not (path.parent / target).exists():
                yield f"{path.relative_to(root)}: {target}"


def test_no_link_is_dead() -> None:
    assert list(dead_links(REPOSITORY)) == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("[a](b.md) [c](https://d.e) [f](README.md)")
    assert list(dead_links(tmp_path)) == ["README.md: b.md"]
