r"""A view of a batch of time series as data: what is read where, scaled, added, filtered and hidden.

.. math:: v = \mathrm{irfft}\bigl(\Phi \odot \mathrm{rfft}(G \odot \mathrm{Interp}(x, U) + O)\bigr)

The masks and gains of AutoTCL (Zheng et al., ICLR 2024, section 3) are the case ``gain``; the other fields
carry the classical augmentations, so that any sequence of them costs one gather and one multiply-add.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nearfar.augment.interpolation import interpolate


@dataclass(frozen=True, eq=False)
class ViewParams:
    """A batch of views; a field that is ``None`` changes nothing.

    Every size except that of ``index`` may be 1 where the field does not vary.

    Args:
        index: Source step U of every step, shape ``(B, T)``, in [0, T - 1]; int64, or floating point
            for linear interpolation.
        gain: Factor G, shape ``(B, T, F)``.
        offset: Summand O, shape ``(B, T, F)``.
        frequency_gain: Factor of every bin of the real FFT over T, shape ``(B, T // 2 + 1, F)``, real or
            complex. Imaginary parts at frequency 0 and at the Nyquist frequency have no effect.
        hidden_mask: Steps an encoder keeps after its first layer, shape ``(B, T, 1)``, bool.
        valid: Steps the frequency gain sees, shape ``(B, T)``, bool: the others count as zeros in the
            transform and come out unchanged. ``None`` means all.
        previous: View to apply first; set by :meth:`then` where two views do not fuse.

    Example:
        >>> x = torch.tensor([[[1.0], [2.0], [3.0]]])
        >>> backwards = ViewParams(index=torch.tensor([[2, 1, 0]]))
        >>> louder = ViewParams(gain=torch.tensor([[[10.0], [1.0], [1.0]]]))
        >>> backwards.then(louder).apply(x).flatten().tolist()
        [30.0, 2.0, 1.0]
        >>> louder.then(backwards).apply(x).flatten().tolist()
        [3.0, 2.0, 10.0]
    """

    index: Tensor | None = None
    gain: Tensor | None = None
    offset: Tensor | None = None
    frequency_gain: Tensor | None = None
    hidden_mask: Tensor | None = None
    valid: Tensor | None = None
    previous: ViewParams | None = None

    def apply(self, x: Tensor) -> Tensor:
        r"""The view of a batch.

        The filter is computed as :math:`y + \mathrm{irfft}((\Phi - 1) \odot \mathrm{rfft}(y))`: rows
        whose gain is 1 stay exact.

        Args:
            x: Series, shape ``(B, T, F)``, float32 or float64.

        Returns:
            Shape ``(B, T, F)``, ``x`` itself where nothing is to be done. Differentiable in ``x``, the
            gains and the offset, and almost everywhere in a floating ``index``.

        Raises:
            ValueError: If the fields do not fit ``x``.
        """
        if self.previous is not None:
            x = self.previous.apply(x)
        self._check(x)
        view = x if self.index is None else interpolate(x, self.index)
        if self.gain is not None and self.offset is not None:
            view = torch.addcmul(self.offset, self.gain, view)
        elif self.gain is not None:
            view = self.gain * view
        elif self.offset is not None:
            view = view + self.offset
        return view if self.frequency_gain is None else self._filtered(view, self.frequency_gain)

    def hide(self, states: Tensor) -> Tensor:
        """Hidden states with zeros where ``hidden_mask`` is false, also in place of NaN.

        Args:
            states: Output of an encoder's first layer, shape ``(B, T, C)``.

        Example:
            >>> view = ViewParams(hidden_mask=torch.tensor([[[True], [False]]]))
            >>> view.hide(torch.tensor([[[5.0], [torch.nan]]])).flatten().tolist()
            [5.0, 0.0]
        """
        return states if self.hidden_mask is None else states.masked_fill(~self.hidden_mask, 0)

    def then(self, second: ViewParams) -> ViewParams:
        r"""The view that applies this one first and ``second`` to the outcome.

        .. math:: U = \mathrm{Interp}(U_1, U_2), \quad G = \mathrm{Interp}(G_1, U_2) \odot G_2, \quad
                  O = \mathrm{Interp}(O_1, U_2) \odot G_2 + O_2

        This equals applying one after the other exactly where :math:`U_2` is whole-numbered (or absent).
        At fractional places it is a definition of its own: one interpolation instead of two, and the
        factors are interpolated apart from the values, :math:`\mathrm{Interp}(G_1, U_2) \odot
        \mathrm{Interp}(x, U)` for :math:`\mathrm{Interp}(G_1 \odot \mathrm{Interp}(x, U_1), U_2)`. Where
        :math:`U_1` jumps (a permutation), a fractional :math:`U_2` reads steps in between: warp first.

        A frequency gain acts last. One followed by nothing but another is their product (exact where both
        are real at frequency 0 and at the Nyquist frequency). One followed by anything in the time domain,
        or by another one beside padding, where each is cut off at the padding, is kept as ``previous`` and
        costs its own transform. Hidden masks act inside the encoder, on the finished view: they are not
        moved, and combine by *and*.

        Args:
            second: View to apply afterwards, fields of the same shapes ``(B, T, ...)``.
        """
        if second.previous is not None:
            return self.then(second.previous).then(replace(second, previous=None))
        hidden = _combined(self.hidden_mask, second.hidden_mask)
        in_time = not (second.index is None and second.gain is None and second.offset is None)
        padded = second.frequency_gain is not None and not (self.valid is None and second.valid is None)
        if self.frequency_gain is not None and (in_time or padded):
            return replace(second, previous=replace(self, hidden_mask=None), hidden_mask=hidden)
        offset = _moved(self.offset, second.index)
        if offset is not None and second.gain is not None:
            offset = offset * second.gain
        if offset is not None and second.offset is not None:
            offset = offset + second.offset
        return ViewParams(
            index=_chained(self.index, second.index),
            gain=_combined(_moved(self.gain, second.index), second.gain),
            offset=second.offset if offset is None else offset,
            frequency_gain=_combined(self.frequency_gain, second.frequency_gain),
            hidden_mask=hidden,
            valid=second.valid if self.frequency_gain is None else self.valid,
            previous=self.previous,
        )

    def _filtered(self, view: Tensor, frequency_gain: Tensor) -> Tensor:
        heard = view if self.valid is None else view.masked_fill(~self.valid[..., None], 0)
        # In place from here on: new memory costs more than the arithmetic.
        spectrum = torch.fft.rfft(heard, dim=1).mul_(frequency_gain - 1)
        filtered: Tensor = torch.fft.irfft(spectrum, n=view.shape[1], dim=1)
        if self.valid is not None:
            filtered = filtered.masked_fill_(~self.valid[..., None], 0)
        return filtered.add_(view)

    def _check(self, x: Tensor) -> None:
        check_series(x)
        rows, steps, width = x.shape
        if self.index is not None and self.index.shape != (rows, steps):
            raise ValueError(f"index: shape {(rows, steps)} expected, got {tuple(self.index.shape)}")
        for name, field, full in (
            ("gain", self.gain, (rows, steps, width)),
            ("offset", self.offset, (rows, steps, width)),
            ("frequency_gain", self.frequency_gain, (rows, steps // 2 + 1, width)),
            ("valid", self.valid, (rows, steps)),
        ):
            if field is not None and not _broadcasts(tuple(field.shape), full):
                raise ValueError(f"{name}: shape {full} or 1 in place expected, got {tuple(field.shape)}")


def check_series(x: Tensor) -> None:
    """Refuse what is not a batch of series.

    Args:
        x: Anything; shape ``(B, T, F)`` with at least one step, float32 or float64, passes.

    Raises:
        ValueError: If it is something else.

    Example:
        >>> check_series(torch.zeros(2, 3))
        Traceback (most recent call last):
        ValueError: x: float32 or float64 of shape (B, T, F) with T > 0 expected, got torch.float32 of (2, 3)
    """
    if x.dim() != 3 or x.shape[1] == 0 or x.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"x: float32 or float64 of shape (B, T, F) with T > 0 expected, got {x.dtype} of {tuple(x.shape)}"
        )


def _broadcasts(shape: tuple[int, ...], full: tuple[int, ...]) -> bool:
    return len(shape) == len(full) and all(a in (b, 1) for a, b in zip(shape, full, strict=True))


def _combined(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    """Product of factors; of masks, their conjunction."""
    return second if first is None else first if second is None else first * second


def _moved(field: Tensor | None, index: Tensor | None) -> Tensor | None:
    if field is None or index is None or field.shape[1] == 1:
        return field
    return interpolate(field.expand(len(index), -1, -1), index)


def _chained(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    if first is None or second is None:
        return second if first is None else first
    places = first.to(second.dtype) if second.is_floating_point() else first
    return interpolate(places[..., None], second)[..., 0]
