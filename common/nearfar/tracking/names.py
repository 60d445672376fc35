"""Names in the tracking store: what MLflow allows, and what ours look like."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

# MLflow refuses @ and % in metric names: NDCG@10 is written ndcg_at_10.
LONGEST_NAME = 250
_ALLOWED = re.compile(r"[A-Za-z0-9_\-./ ]+")


def check_metric_names(names: Iterable[str]) -> None:
    """Refuse names MLflow would refuse later, in a thread nobody watches.

    Raises:
        ValueError: Names the offending metric.
    """
    for name in names:
        if len(name) > LONGEST_NAME or (name and posixpath.normpath(name) != name) or name[:1] in ("/", "."):
            raise ValueError(
                f"metric name {name[:60]!r}: at most {LONGEST_NAME} characters, and a tidy relative path such as "
                "test/ndcg_at_10"
            )
        if not _ALLOWED.fullmatch(name):
            raise ValueError(
                f"metric name {name!r}: only letters, digits, '_', '-', '.', ' ' and '/'; write ndcg_at_10"
            )


def experiment_name(domain: str, dataset: str) -> str:
    """One experiment per data set, so that methods, seeds and baselines are rows of one table.

    Example:
        >>> experiment_name("recsys", "ml-100k")
        'nearfar/recsys/ml-100k'
    """
    return f"nearfar/{domain}/{slug(dataset)}"


def slug(text: str) -> str:
    """``text`` reduced to what is safe in file and experiment names."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-")
    return name if name.strip(".") else "data"  # . and .. are folders that are there already
