"""Operations one after the other, or one of several; both are operations again and have a ``p``."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from nearfar.augment.series.batch import Batch
from nearfar.augment.series.operation import SeriesOp, restricted
from nearfar.augment.series.view import ViewParams
from nearfar.runtime import to_device


def _check_ops(ops: tuple[SeriesOp, ...]) -> None:
    if not isinstance(ops, tuple) or not all(isinstance(op, SeriesOp) for op in ops):
        raise ValueError(f"ops: a tuple of operations expected, got {ops!r}")
    if not ops:
        raise ValueError("ops: at least one operation expected, got none")


@dataclass(frozen=True)
class Compose(SeriesOp):
    """All operations in order, as one view by the rule of :meth:`ViewParams.then`.

    Operations in the time domain cost one gather together. One that follows an operation on the spectrum
    starts a new stage (``ViewParams.previous``). One that reads values, such as :class:`Mixup`, is given
    the view so far, which is then computed once more at the end.

    Args:
        ops: At least one.

    Example:
        >>> from nearfar.augment.series import Flip, Reverse
        >>> x = torch.tensor([[[1.0], [2.0]]])
        >>> Compose((Flip(), Reverse()))(x, torch.Generator()).apply(x).flatten().tolist()
        [-2.0, -1.0]
    """

    ops: tuple[SeriesOp, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_ops(self.ops)

    @property
    def reads_values(self) -> bool:
        """Whether one of the operations does."""
        return any(op.reads_values for op in self.ops)

    def _draw(self, batch: Batch) -> ViewParams:
        view = ViewParams()
        for op in self.ops:
            seen = replace(batch, x=view.apply(batch.x)) if op.reads_values else batch
            view = view.then(op.sample(seen))
        return view


@dataclass(frozen=True)
class OneOf(SeriesOp):
    """One operation for every sample, drawn independently; costs as much as all of them.

    Args:
        ops: At least one.
        weights: Relative frequencies, not negative, one for each operation; ``None`` for equal ones.

    Example:
        >>> from nearfar.augment.series import Flip, Identity
        >>> x = torch.ones(1000, 1, 1)
        >>> view = OneOf((Flip(), Identity()))(x, torch.Generator().manual_seed(0)).apply(x)
        >>> abs(view.mean().item()) < 0.1
        True
    """

    ops: tuple[SeriesOp, ...]
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_ops(self.ops)
        if self.weights is None:
            return
        if len(self.weights) != len(self.ops):
            raise ValueError(f"weights: {len(self.ops)} expected, got {len(self.weights)}")
        if min(self.weights) < 0 or sum(self.weights) <= 0:
            raise ValueError(f"weights: numbers >= 0, one of them > 0, expected, got {self.weights}")

    @property
    def reads_values(self) -> bool:
        """Whether one of the operations does."""
        return any(op.reads_values for op in self.ops)

    def _draw(self, batch: Batch) -> ViewParams:
        shares = torch.tensor(self.weights or [1.0] * len(self.ops), dtype=batch.x.dtype)
        weights = to_device(shares, batch.x.device).cumsum(0)
        choice = torch.searchsorted(weights, batch.uniform(1) * weights[-1], right=True)
        choice = choice.clamp(max=len(self.ops) - 1)
        view = ViewParams()
        for place, op in enumerate(self.ops):
            # Rows that another operation has are left exactly alone, so the order does not matter.
            view = view.then(restricted(op.sample(batch), batch, choice == place))
        return view
