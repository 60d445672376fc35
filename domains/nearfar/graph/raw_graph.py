"""A graph as a file has it, before edges are put right and a split is made."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class RawGraph:
    """What is found.

    Attributes:
        name: Of the data set.
        source: Where it was found.
        x: Features, float32, shape ``(n, d)``.
        edge_index: Source and target of every edge, shape ``(2, E)``.
        y: Classes, shape ``(n,)``.
        masks: Nodes of the training, validation and test part, bool, each ``(n,)``, if there is a split.
        warnings: What is worth saying.
    """

    name: str
    source: str
    x: Tensor
    edge_index: Tensor
    y: Tensor
    masks: tuple[Tensor, Tensor, Tensor] | None = None
    warnings: tuple[str, ...] = ()
