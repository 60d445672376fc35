"""The comparison as one Markdown table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from nearfar.pipelines.markdown_table import table
from nearfar.pipelines.objectives.arenas import OWN, UNTRAINED
from nearfar.pipelines.objectives.comparison import ArenaResult


def markdown(results: Sequence[ArenaResult]) -> str:
    """A row an objective, ordered by mean rank; the best of a domain in bold, a dash where it cannot be had.

    Args:
        results: Of every domain.
    """
    ordered = sorted(mean_ranks(results).items(), key=lambda pair: pair[1])
    best = {result.domain: max(map(result.mean, _ranked(result))) for result in results}
    headings = ["objective", *(result.domain for result in results), "mean rank"]
    named = [(row, row, f"{rank:.1f}") for row, rank in ordered]
    named += [(OWN, "*the method's own*", ""), (UNTRAINED, "*no contrast*", "")]
    rows = [
        [name, *(_cell(result, row, best[result.domain]) for result in results), rank]
        for row, name, rank in named
    ]
    notes = [f"{r.domain}: {r.title}; its own loss is {r.own}." for r in results]
    count = len(results[0].seeds) if results else 0
    return "\n".join(
        [
            table(headings, rows),
            "",
            f"Mean ± standard deviation over {count} seeds, in %. " + " ".join(notes),
            "",
        ]
    )


def mean_ranks(results: Sequence[ArenaResult]) -> Mapping[str, float]:
    """Mean place of every objective over the domains that can have it.

    Args:
        results: Of every domain.
    """
    found: dict[str, list[float]] = {}
    for result in results:
        for row in _ranked(result):
            if row != OWN:
                found.setdefault(row, []).append(result.rank(row))
    return {row: fmean(ranks) for row, ranks in found.items()}


def _ranked(result: ArenaResult) -> list[str]:
    return [row for row in result.values if row != UNTRAINED]


def _cell(result: ArenaResult, row: str, best: float) -> str:
    if row not in result.values:
        return "-"
    digits = 1 if best >= 0.1 else 2  # ranks among all items are small numbers
    text = result.over(row).percent(digits)
    return f"**{text}**" if result.mean(row) == best and row != UNTRAINED else text
