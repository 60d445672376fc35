"""What a domain can show to an objective beside two views, and why it cannot show the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

Need: TypeAlias = Literal["labels", "more", "rows", "side", "surface", "target", "wrong"]
NEEDS: tuple[Need, ...] = get_args(Need)

# What objectives take, by field of a ViewBatch, and what that needs; two views and random numbers are always there.
NEEDED: Mapping[str, Need] = {
    "labels": "labels",
    "stacked_labels": "labels",
    "more": "more",
    "others": "more",
    "rows": "rows",
    "side": "side",
    "surface": "surface",
    "target_first": "target",
    "target_second": "target",
    "wrong": "wrong",
}
SHOWN = ("first", "second", "stacked", "rng", *NEEDED)
"""All fields that an objective can take."""
MEANING: Mapping[Need, str] = {
    "labels": "a label of every row",
    "more": "more than two views of a row",
    "rows": "which row of the data a row is",
    "side": "frozen features of every row",
    "surface": "a score of every row, such as its degree or length",
    "target": "a slow copy of the encoder",
    "wrong": "spoilt versions of a row",
}


@dataclass(frozen=True)
class Offers:
    """What the methods of a domain can give.

    Attributes:
        domain: Its name.
        gives: What it does give.
        lacks: Why not the rest, by what is missing.
    """

    domain: str
    gives: frozenset[Need]
    lacks: Mapping[Need, str]

    def __post_init__(self) -> None:
        unsaid = set(NEEDS) - self.gives - set(self.lacks)
        if unsaid or self.gives & set(self.lacks):
            raise ValueError(f"lacks: a reason for all that {self.domain} does not give, {sorted(unsaid)}")

    def refusal(self, needs: frozenset[Need]) -> str | None:
        """Why an objective with such needs cannot be had, in words; ``None`` where it can.

        Args:
            needs: Of the objective.

        Example:
            >>> others = {need: "" for need in NEEDS if need != "labels"}
            >>> bare = Offers("graph", frozenset(), {**others, "labels": "training sees no labels of nodes"})
            >>> bare.refusal(frozenset(["labels"]))
            'it needs a label of every row, but training sees no labels of nodes'
            >>> bare.refusal(frozenset())
        """
        missing = sorted(needs - self.gives)
        if not missing:
            return None
        return "; ".join(f"it needs {MEANING[need]}, but {self.lacks[need]}" for need in missing)
