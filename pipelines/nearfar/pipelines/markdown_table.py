"""A table in Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines of it, joined.

    Args:
        headings: Of the columns.
        rows: Cells.
    """
    lines = [headings, ["--"] * len(headings), *rows]
    return "\n".join("".join(f"| {cell} " if cell else "| " for cell in line) + "|" for line in lines)
