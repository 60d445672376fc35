"""A table as text that spreadsheets and data frames read."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any


def csv_text(names: Sequence[str], lines: Sequence[Mapping[str, Any]]) -> str:
    """Comma-separated, headings first.

    Args:
        names: Columns, in order.
        lines: One mapping a line; what a line lacks stays empty.

    Example:
        >>> csv_text(("class", "rows"), [{"class": "cat", "rows": 3}, {"class": "dog"}])
        'class,rows\\ncat,3\\ndog,\\n'
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
