"""What all operations on series share: they are drawn per sample, with a probability, inside valid steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from nearfar.augment.series.batch import Batch
from nearfar.augment.series.view import ViewParams
from nearfar.augment.strength import Strength, check_strength


@dataclass(frozen=True)
class SeriesOp(ABC):
    """A random operation: called with a batch, it returns the parameters of its view.

    Every subclass has the keyword ``p``. Rows are drawn independently of each other; a row the
    operation is not applied to, and every step outside ``valid``, comes out exactly as it went in.

    Args:
        p: Probability of being applied to a sample, in [0, 1]; a number or shape ``(B,)``.
    """

    p: Strength = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        check_strength("p", self.p)

    def __call__(self, x: Tensor, generator: torch.Generator, *, valid: Tensor | None = None) -> ViewParams:
        """Draw the parameters of a view.

        Args:
            x: Series, shape ``(B, T, F)``, float32 or float64; only operations that mix rows read values.
            generator: Source of every draw.
            valid: Steps that are data, shape ``(B, T)``, bool, one contiguous run a row (left or right
                padding, or both); nothing from outside is moved or mixed into it.
        """
        return self.sample(Batch.of(x, generator, valid))

    def sample(self, batch: Batch) -> ViewParams:
        """As a call, for a batch that was looked through already.

        Args:
            batch: The series.
        """
        view = self._draw(batch)
        if not isinstance(self.p, Tensor) and self.p == 1:
            return restricted(view, batch, None)
        return restricted(view, batch, batch.uniform(1) < batch.strength("p", self.p, 2))

    @property
    def reads_values(self) -> bool:
        """Whether the draw depends on the values of the series, not only on their shape."""
        return False

    @abstractmethod
    def _draw(self, batch: Batch) -> ViewParams:
        """The view of every row, whatever ``p`` is and wherever there is padding."""


def restricted(view: ViewParams, batch: Batch, applied: Tensor | None) -> ViewParams:
    """A view that changes nothing outside the valid steps and in rows it is not applied to.

    Args:
        view: View of all rows.
        batch: The series with their valid steps.
        applied: Rows to change, shape ``(B, 1)``, bool; ``None`` for all.
    """
    if view.previous is not None:
        view = replace(view, previous=restricted(view.previous, batch, applied))
    cells = applied if batch.valid is None else batch.valid if applied is None else batch.valid & applied
    if cells is None:
        return view
    index, gain, offset, frequency_gain = view.index, view.gain, view.offset, view.frequency_gain
    if index is not None:
        index = torch.where(cells, index, (batch.step + batch.first).to(index.dtype))
    if gain is not None:
        gain = torch.where(cells[..., None], gain, 1.0)
    if offset is not None:
        offset = torch.where(cells[..., None], offset, 0.0)
    if frequency_gain is not None and applied is not None:
        frequency_gain = torch.where(applied[..., None], frequency_gain, 1.0)
    return replace(
        view,
        index=index,
        gain=gain,
        offset=offset,
        frequency_gain=frequency_gain,
        hidden_mask=None if view.hidden_mask is None else view.hidden_mask | ~cells[..., None],
        valid=None if frequency_gain is None else batch.valid,
    )
