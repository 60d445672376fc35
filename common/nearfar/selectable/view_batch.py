"""What a domain shows to an objective at a step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nearfar.objectives.ranks import Ranks

# Gradients flow through these alone.
_TRAINED = ("first", "second", "wrong")
_CONSTANT = ("target_first", "target_second", "labels", "side", "surface", "rows")


@dataclass(frozen=True, eq=False)
class ViewBatch:
    """Two views of N rows, behind a projector and not normalised, and whatever else a domain has.

    Attributes:
        first: Shape ``(N, d)``.
        second: Shape ``(N, d)``; row i shows the row of row i of ``first``.
        rng: Draws of this step, the same on every process; on the CPU.
        more: Further views, shape ``(K, N, d)``.
        wrong: Spoilt versions of each row, which are none of its views, shape ``(N, R, d)``.
        target_first: The first view through a slow copy of encoder and projector, shape ``(N, d)``.
        target_second: The second view likewise, shape ``(N, d)``.
        labels: Classes, int64, shape ``(N,)``; negative is none.
        side: Frozen features, shape ``(N, p)``.
        surface: A score, shape ``(N,)``.
        rows: Numbers in the data, int64, shape ``(N,)``.
    """

    first: Tensor
    second: Tensor
    rng: torch.Generator
    more: Tensor | None = None
    wrong: Tensor | None = None
    target_first: Tensor | None = None
    target_second: Tensor | None = None
    labels: Tensor | None = None
    side: Tensor | None = None
    surface: Tensor | None = None
    rows: Tensor | None = None

    @property
    def stacked(self) -> Tensor:
        """First views, then second ones, shape ``(2 N, d)``."""
        return torch.cat([self.first, self.second])

    @property
    def stacked_labels(self) -> Tensor | None:
        """Their labels, shape ``(2 N,)``."""
        return None if self.labels is None else self.labels.repeat(2)

    @property
    def others(self) -> Tensor | None:
        """All views but the first, shape ``(1 + K, N, d)``."""
        return None if self.more is None else torch.cat([self.second[None], self.more])

    def gathered(self, ranks: Ranks) -> ViewBatch:
        """The rows of all processes; the gradient of a row goes to the process that has it.

        Args:
            ranks: Who has which rows.
        """
        if ranks.group is None:
            return self
        found: dict[str, Any] = {}
        for name in _TRAINED:
            z = getattr(self, name)
            found[name] = z if z is None else ranks.gather(z.flatten(1)[None])[0].unflatten(1, z.shape[1:])
        for name in _CONSTANT:
            values = getattr(self, name)
            found[name] = values if values is None else ranks.gather_rows(values)
        if self.more is not None:
            found["more"] = torch.stack([ranks.gather(z[None])[0] for z in self.more])
        return replace(self, **found)
