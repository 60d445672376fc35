r"""What an encoder that hears the future says at the last step of every window, without the rest of it.

The published evaluation encodes windows of W steps whole and keeps one step of each. The same result, up to rounding:

* A trend head reads the last 128 steps of the trunk, and one output of it is one product with the collapsed kernel.
* A convolution of dilation d >= W hears nothing around a step, so from the first of them on only those 128 steps
  matter, or the last one without a head. Shorter ones skip the taps that lie outside the window.
* The last block is then a matrix at every step, and both its summands go into the head's kernel:
  :math:`A_j = K_j W_2`, :math:`B_j = K_j P`.
* Steps far enough from both ends of a window do not hear that it ends: for the first blocks they are computed once for
  the series, and only the ends for every window.
* Without a head, the last output hears only every d-th step of the block with dilation d, counted from the end.

States are ``(T, B, C)``: a shift in time is a contiguous piece, and a tap is one product without a copy.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.timeseries.encoder.series_encoder import SeriesEncoder
from nearfar.timeseries.encoder.trend import TrendHead
from nearfar.timeseries.encoder.trunk import KERNEL, ConvBlock, DilatedConv


class WindowPass:
    """Representations of the last steps of windows; weights are read when it is made.

    Args:
        encoder: Not causal.
        x: The series, shape ``(N, F)``.
        window: Steps of a window, N at most.
    """

    @torch.inference_mode()
    def __init__(self, encoder: SeriesEncoder, x: Tensor, window: int) -> None:
        self._encoder, self._x, self._window = encoder, x, window
        head = encoder.head
        self._kept = 1 if head is None else min(window, head.past + 1)
        blocks = [_Block(block) for block in encoder.trunk.blocks if isinstance(block, ConvBlock)]
        self._fold: _Fold | None = None
        if isinstance(head, TrendHead):
            final = blocks.pop() if blocks[-1].step >= window else None
            self._fold = _Fold(head, final, self._kept)
        # Normalised windows have nothing in common, and without a head there is little left to share.
        shared = _num_shared(window, blocks) if encoder.normalize == "none" and self._kept > 1 else 0
        self._shared, self._blocks = blocks[:shared], blocks[shared:]
        self._series = [_enter(encoder, x[:, None])] if shared else []
        for block in self._shared:
            self._series.append(block.whole(self._series[-1], block.step))

    @torch.inference_mode()
    def last(self, begin: int, count: int) -> Tensor:
        """Encode some windows.

        Args:
            begin: First step of the first window.
            count: Windows, each a step after the one before.

        Returns:
            Shape ``(count, width)``.
        """
        window, kept = self._window, self._kept
        sides = None
        if self._series:
            h = self._from_series(begin, count)
        else:
            windows = self._x[begin : begin + count + window - 1].unfold(0, window, 1).mT
            normal, sides = self._encoder.normalized(windows)
            h = _enter(self._encoder, normal.transpose(0, 1))
        for block in self._blocks:
            if block.step >= window:
                h = block.whole(h[-kept:], block.step)
            elif kept > 1:
                h = block.whole(h, block.step, kept if 2 * block.step >= window else None)
            else:
                h = block.whole(h[(len(h) - 1) % 2 :: 2].contiguous() if block.step > 1 else h, 1)
        h = h[-kept:]
        if self._fold is not None:
            z = self._fold(h)
        elif self._encoder.head is None:
            z = h[-1]
        else:
            z = self._encoder.head(h.transpose(0, 1))[:, -1]
        return z if sides is None else torch.cat([z, sides[:, -1]], dim=1)

    def _from_series(self, begin: int, count: int) -> Tensor:
        """States behind the shared blocks: both ends of every window, and what it has of the series between them."""
        window = self._window

        def of_series(place: int, first: int, stop: int) -> Tensor:
            states = self._series[place][:, 0]
            width = states.shape[1]
            origin = states[begin + first :]
            return origin.as_strided((stop - first, count, width), (width, width, 1), origin.storage_offset())

        left = right = of_series(0, 0, 0)
        known = 0  # steps at either end that differ from the series
        for place, block in enumerate(self._shared):
            ends, heard = known + 2 * block.step, known + 4 * block.step
            left = torch.cat([left, of_series(place, known, heard)])
            right = torch.cat([of_series(place, window - heard, window - known), right])
            left, right = block.left_end(left, ends), block.right_end(right, ends)
            known = ends
        return torch.cat([left, of_series(len(self._shared), known, window - known), right])


def _num_shared(window: int, blocks: Sequence[_Block]) -> int:
    """How many blocks leave steps in the middle of a window that do not hear its ends."""
    known = 0
    for place, block in enumerate(blocks):
        # The part of the series that an end hears must not reach the other end.
        if known + 4 * block.step > window - known or 2 * (known + 2 * block.step) >= window:
            return place
        known += 2 * block.step
    return len(blocks)


def _enter(encoder: SeriesEncoder, normal: Tensor) -> Tensor:
    """First layer, ``(T, B, F)`` to ``(T, B, C)``."""
    return encoder.trunk.enter(normal).mT.contiguous()


class _Block:
    def __init__(self, block: ConvBlock) -> None:
        self.step = block.dilation
        self.conv1, self.conv2 = _Taps(block.conv1), _Taps(block.conv2)
        self.skip = block.skip

    def whole(self, h: Tensor, step: int, kept: int | None = None) -> Tensor:
        """All of a window, or its last steps."""
        steps = len(h)
        first = 0 if kept is None else max(steps - kept, 0)
        inner = self.conv1(F.gelu(h), step, (0, steps), (0, steps))
        return self._out(inner, step, (0, steps), (first, steps), h[first:])

    def left_end(self, h: Tensor, ends: int) -> Tensor:
        """The first ``ends`` steps of a window that goes on behind what is given."""
        steps = len(h)
        inner = self.conv1(F.gelu(h), self.step, (0, steps), (0, ends + self.step))
        return self._out(inner, self.step, (0, ends + self.step), (0, ends), h[:ends])

    def right_end(self, h: Tensor, ends: int) -> Tensor:
        """The last ``ends`` steps of a window that began before what is given."""
        steps = len(h)
        first = steps - ends - self.step
        inner = self.conv1(F.gelu(h), self.step, (0, steps), (first, steps))
        return self._out(inner, self.step, (first, steps), (steps - ends, steps), h[steps - ends :])

    def _out(
        self, inner: Tensor, step: int, given: tuple[int, int], wanted: tuple[int, int], h: Tensor
    ) -> Tensor:
        found = self.conv2(F.gelu(inner), step, given, wanted)
        if self.skip is None:
            return found.add_(h)
        assert self.skip.bias is not None
        return found.add_(h @ self.skip.weight[..., 0].mT).add_(self.skip.bias)


class _Taps:
    """A convolution as one product a tap."""

    def __init__(self, conv: DilatedConv) -> None:
        assert conv.bias is not None
        self.bias = conv.bias.detach()
        self.taps = conv.weight.detach().permute(2, 1, 0).contiguous()  # (3, C_in, C_out)

    def __call__(self, x: Tensor, step: int, given: tuple[int, int], wanted: tuple[int, int]) -> Tensor:
        """Outputs of the ``wanted`` steps, from inputs of the ``given`` ones; others are zero or not heard."""
        first, stop = wanted
        rows, inputs = x.shape[1:]
        out = x.new_empty((stop - first) * rows, self.taps.shape[2])
        flat = x.view(-1, inputs)

        def part(begin: int, end: int) -> Tensor:
            return flat[(begin - given[0]) * rows : (end - given[0]) * rows]

        torch.addmm(self.bias, part(first, stop), self.taps[KERNEL // 2], out=out)
        for tap, shift in ((0, -step), (2, step)):
            begin, end = max(first, given[0] - shift), min(stop, given[1] - shift)
            if begin < end:
                out[(begin - first) * rows : (end - first) * rows].addmm_(
                    part(begin + shift, end + shift), self.taps[tap]
                )
        return out.view(stop - first, rows, -1)


class _Fold:
    """A trend head at the last step, with the last block in its kernel where that is pointwise."""

    def __init__(self, head: TrendHead, final: _Block | None, kept: int) -> None:
        self._final = final
        kernel = head.kernel()[..., -kept:].permute(2, 1, 0)  # (kept, D_in, D_out)
        self._constant = head.bias()
        if final is None:
            self._inner = kernel.contiguous()
            return
        assert final.skip is not None
        assert final.skip.bias is not None
        self._constant = self._constant + (final.conv2.bias + final.skip.bias) @ kernel.sum(0)
        self._inner = final.conv2.taps[KERNEL // 2] @ kernel
        self._around = final.skip.weight[..., 0].mT @ kernel

    def __call__(self, h: Tensor) -> Tensor:
        """Output of the head, ``(B, D)``, for the trunk's last steps, ``(kept, B, C)``."""
        z = self._constant.repeat(h.shape[1], 1)
        inner = h
        if self._final is not None:
            steps = (0, len(h))
            inner = F.gelu(self._final.conv1(F.gelu(h), len(h), steps, steps))
            for states, matrix in zip(h, self._around, strict=True):
                z.addmm_(states, matrix)
        for states, matrix in zip(inner, self._inner, strict=True):
            z.addmm_(states, matrix)
        return z
