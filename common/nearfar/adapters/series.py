"""Time series and their encoders: nearfar's, tsai's, or any module that takes a batch of series.

Batches have the shape ``(B, T, F)``, NaN where nothing was measured; tsai's models take ``(B, F, T)`` without NaN,
which :class:`SeriesRepresentation` sees to.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from nearfar.adapters.arrays import LARGEST, as_tensor
from nearfar.adapters.convex import convex
from nearfar.adapters.inputs import Inputs
from nearfar.augment.series import Compose, Jitter, Scaling, SeriesOp, WindowSlice
from nearfar.errors import ConfigError, DataError

Layout: TypeAlias = Literal["NTC", "NCT"]
Pooling: TypeAlias = Literal["max", "mean"]

# For series of unit variance: a window of most of the series, at another level of loudness, with noise.
VIEWS = Compose((WindowSlice(ratio=0.8), Scaling(std=0.2), Jitter(std=0.1)))


class SeriesInputs(Inputs):
    """Series of equal length; shorter ones are padded with NaN.

    Args:
        x: Tensor or array, shape ``(N, T, F)``, or ``(N, T)`` for one channel; NaN is missing, and every series has a
            value somewhere.
        views: Operation of :mod:`nearfar.augment.series` that both strong views are drawn from, or one for each. The
            default slices, scales and adds noise, with strengths for series of unit variance.
        weak: Operation for supervised training; ``None`` changes nothing.

    Attributes:
        x: Shape ``(N, T, F)``, floating point, on the CPU.

    Raises:
        DataError: If these are no such series.
        ConfigError: If ``views`` or ``weak`` are no operations.

    Example:
        >>> inputs = SeriesInputs(torch.randn(4, 20, 3, generator=torch.Generator().manual_seed(0)))
        >>> first, second = inputs.two_views(inputs.rows(torch.tensor([0, 2])), torch.Generator().manual_seed(0))
        >>> first.shape, torch.equal(first, second)
        (torch.Size([2, 20, 3]), False)
    """

    def __init__(
        self,
        x: Any,
        *,
        views: SeriesOp | tuple[SeriesOp, SeriesOp] = VIEWS,
        weak: SeriesOp | None = None,
    ) -> None:
        self.x = _series(x)
        self._views = views if isinstance(views, tuple) else (views, views)
        self._weak = weak
        given = [*self._views, *([] if weak is None else [weak])]
        if len(self._views) != 2 or not all(isinstance(op, SeriesOp) for op in given):
            raise ConfigError(
                "views, weak: operations of nearfar.augment.series expected, one for both views or a pair, got "
                f"{views!r} and {weak!r}"
            )

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, index: Tensor) -> Tensor:
        """Some series.

        Args:
            index: Numbers of series, int64, shape ``(B,)``.

        Returns:
            Shape ``(B, T, F)``.
        """
        return self.x.index_select(0, index)

    def weak(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Series after the operation for supervised training.

        Args:
            batch: Shape ``(B, T, F)``.
            generator: Source of every draw.

        Returns:
            Same shape.
        """
        return batch if self._weak is None else _changed(self._weak, batch, generator)

    def two_views(self, batch: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Two independent views of every series; what is missing before its first and behind its last value stays so.

        Args:
            batch: Shape ``(B, T, F)``.
            generator: Source of every draw.

        Returns:
            Two tensors of the same shape.
        """
        first, second = (_changed(op, batch, generator) for op in self._views)
        return first, second

    def mix(self, batch: Tensor, order: Tensor, share: Tensor) -> Tensor:
        """The convex combination of every series with its partner, missing where either is.

        A value that only one of the two has would make a jump; a series that is missing throughout cannot come of it
        unless the two have no step in common, and then the series stays as it is.

        Args:
            batch: Shape ``(B, T, F)``.
            order: Partners, int64, shape ``(B,)``.
            share: Of the series itself, a scalar or shape ``(B,)``.
        """
        mixed = convex(batch, order, share)
        empty = mixed.isnan().flatten(1).all(1)
        return torch.where(empty[:, None, None], batch, mixed)


class SeriesRepresentation(nn.Module):
    """One vector for every series, by any model of series.

    A model with a method ``represent``, as nearfar's encoders have it, is asked for every step and pooled. One with
    ``backbone`` and ``head_nf``, as tsai's models of the Plus family have them, is asked for the output of its
    backbone, pooled over time where there is time left in it. Any other is called; what it gives is pooled if it has
    a time axis. Only tsai's models without a backbone are not told from encoders: their class scores would be taken
    for representations.

    Args:
        model: The model; it is kept, not copied.
        layout: What a model is given that is neither of the first two kinds, and gives back: ``NTC`` for
            ``(B, T, F)``, ``NCT`` for ``(B, F, T)``.
        pooling: Over the steps that were measured: ``max`` or ``mean``. Over all where the model changed their number.

    Attributes:
        dim: Length of a representation, ``None`` where the model does not say.

    Raises:
        ConfigError: If a setting makes no sense.

    Example:
        >>> conv = nn.Conv1d(3, 8, 3, padding=1)
        >>> SeriesRepresentation(conv, layout="NCT")(torch.zeros(2, 20, 3)).shape
        torch.Size([2, 8])
    """

    def __init__(self, model: nn.Module, *, layout: Layout = "NTC", pooling: Pooling = "max") -> None:
        super().__init__()
        for name, value, known in (("layout", layout, ("NTC", "NCT")), ("pooling", pooling, ("max", "mean"))):
            if value not in known:
                raise ConfigError(f"{name}: {' or '.join(map(repr, known))} expected, got {value!r}")
        self.model, self.layout, self.pooling = model, layout, pooling
        backbone = getattr(model, "backbone", None)
        self._represents = callable(getattr(model, "represent", None))
        self._has_backbone = isinstance(backbone, nn.Module) and isinstance(
            getattr(model, "head_nf", None), int
        )
        names = ("width", "dim") if self._represents else ("head_nf",) if self._has_backbone else ("dim",)
        widths = (getattr(model, name, None) for name in names)
        self.dim: int | None = next((width for width in widths if isinstance(width, int)), None)

    def forward(self, x: Tensor) -> Tensor:
        """Representations of series.

        Args:
            x: Shape ``(B, T, F)``, NaN where nothing was measured; taken to the precision of the model.

        Returns:
            Shape ``(B, m)``.

        Raises:
            ValueError: If the model gives something else than vectors, with or without a time axis.
        """
        parameter = next((p for p in self.model.parameters() if p.is_floating_point()), x)
        x = x.to(parameter.dtype)
        missing = x.isnan()
        measured = ~missing.all(2)
        # NaN in a single channel of a step: nearfar's encoders hide the step.
        whole = ~missing.any(2)
        model: Any = self.model
        if self._represents:
            z, measured = model.represent(x), torch.where(whole.any(1, keepdim=True), whole, measured)
        else:
            channels_first = self._has_backbone or self.layout == "NCT"
            filled = torch.where(missing, 0, x)
            z = (model.backbone if self._has_backbone else model)(filled.mT if channels_first else filled)
            if z.dim() == 3 and channels_first:
                z = z.mT
        if z.dim() == 2:
            return z  # type: ignore[no-any-return]
        if z.dim() != 3 or len(z) != len(x):
            raise ValueError(
                f"model: {type(self.model).__name__} has to give (B, m) or a vector for every step, got "
                f"{tuple(z.shape)} of {tuple(x.shape)}"
            )
        return self._pooled(z, measured if z.shape[1] == x.shape[1] else None)

    def _pooled(self, z: Tensor, measured: Tensor | None) -> Tensor:
        """Over time, from ``(B, T', m)``; a series without any value keeps all its steps."""
        if measured is None:
            return z.amax(1) if self.pooling == "max" else z.mean(1)
        counted = (measured | ~measured.any(1, keepdim=True))[..., None]
        if self.pooling == "max":
            return torch.where(counted, z, -torch.inf).amax(1)
        return torch.where(counted, z, 0).sum(1) / counted.sum(1)

    def extra_repr(self) -> str:
        """Shown by ``print(module)``."""
        return f"layout={self.layout!r}, pooling={self.pooling!r}"


def _series(x: Any) -> Tensor:
    found = as_tensor("x", x)
    if found.dim() == 2:
        found = found[..., None]
    if found.dim() != 3 or 0 in found.shape:
        raise DataError(
            f"x: shape (N, T, F) with at least one series, step and channel expected, got {tuple(found.shape)}; "
            "reshape it"
        )
    if not found.is_floating_point():
        found = found.to(torch.float32)
    if found.dtype not in (torch.float32, torch.float64):
        found = found.to(torch.float32)
    infinite = found.isinf().flatten(1).any(1)
    large = (found.abs() > LARGEST).flatten(1).any(1)
    empty = found.isnan().flatten(1).all(1)
    for wrong, what in (
        (infinite, "holds an infinite value"),
        (large, f"holds a value beyond {LARGEST:g}"),
        (empty, "has no value at all"),
    ):
        if bool(wrong.any()):
            raise DataError(
                f"x: series {int(wrong.int().argmax())} {what} ({int(wrong.sum())} such series); leave it out, or "
                "put NaN where a value is missing or cannot be"
            )
    return found


def _changed(op: SeriesOp, batch: Tensor, generator: torch.Generator) -> Tensor:
    """The view of every series, from its first to its last value."""
    seen = (~batch.isnan().all(2)).int()
    valid = (seen.cummax(1).values & seen.flip(1).cummax(1).values.flip(1)).bool()
    view = op(batch, generator, valid=valid)
    if view.hidden_mask is not None:
        raise ConfigError(
            f"views: {type(op).__name__} hides steps inside an encoder, which only nearfar's time series methods can "
            "do; take operations on the series itself, such as Cutout or TimeMask"
        )
    return view.apply(batch)
