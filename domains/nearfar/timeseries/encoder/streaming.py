"""A causal encoder that is given points one by one, or some at a time, and remembers what it still needs.

The work for a point does not depend on how many came before it, nor does the memory.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.errors import ConfigError, DataError
from nearfar.timeseries.encoder.light_trend import FixedLightTrend
from nearfar.timeseries.encoder.series_encoder import SeriesEncoder
from nearfar.timeseries.encoder.trend import FixedTrend, TrendHead
from nearfar.timeseries.encoder.trunk import ConvBlock, DilatedConv


class StreamingEncoder:
    """Representations of series as they grow; equal to those of one pass, up to rounding.

    Args:
        encoder: Causal, used as in evaluation. Weights are read here: make a new stream after training.

    Raises:
        ConfigError: If the encoder is not causal.

    Example:
        >>> encoder = SeriesEncoder(1, dim=3, hidden=2, depth=1, causal=True)
        >>> stream = StreamingEncoder(encoder)
        >>> stream.push(torch.ones(2, 1)).shape, stream.push(torch.ones(2, 5, 1)).shape
        (torch.Size([2, 3]), torch.Size([2, 5, 3]))
    """

    def __init__(self, encoder: SeriesEncoder) -> None:
        if not encoder.causal:
            raise ConfigError(
                "causal: an encoder that hears the future cannot stream; make it with causal=True"
            )
        self.encoder = encoder
        self._blocks = [_Block(block) for block in encoder.trunk.blocks]  # type: ignore[arg-type]
        head = encoder.head
        self._head: FixedTrend | FixedLightTrend | None = None
        if head is not None:
            self._head = FixedTrend(head) if isinstance(head, TrendHead) else FixedLightTrend(head)
        self._inputs = _History(encoder.trail - 1 if encoder.normalize == "trailing" else 0, torch.nan)
        self._outputs = _History(0 if head is None else head.past, 0.0)

    @torch.no_grad()
    def push(self, x: Tensor) -> Tensor:
        """Represent the next point of every series, or the next points.

        Args:
            x: Shape ``(B, F)`` or ``(B, n, F)``; B is the same for all calls.

        Returns:
            Shape ``(B, width)`` or ``(B, n, width)``.

        Raises:
            DataError: If the shape is another one, or B another than before.
        """
        if x.dim() == 2:
            return self.push(x[:, None])[:, 0]
        if x.dim() != 3:
            raise DataError(f"x: shape (B, F) or (B, n, F) expected, got {tuple(x.shape)}")
        if self._outputs.rows not in (None, len(x)):
            raise DataError(
                f"x: {len(x)} series, but the stream began with {self._outputs.rows}; reset() begins another"
            )
        count = x.shape[1]
        normal, sides = self.encoder.normalized(self._inputs.extend(x))
        h = self.encoder.trunk.enter(normal[:, normal.shape[1] - count :])
        for block in self._blocks:
            h = block.push(h)
        heard = self._outputs.extend(h.mT)
        z = heard if self._head is None else self._head.continued(heard)
        return z if sides is None else torch.cat([z, sides[:, -count:]], dim=2)

    def reset(self) -> None:
        """Forget everything: the next point is the first."""
        for part in self._parts():
            part.state, part.oldest = None, 0

    def state_dict(self) -> dict[str, Tensor]:
        """What the stream remembers, to go on later or elsewhere; copies."""
        return {
            str(place): part.state.roll(-part.oldest, part.axis)
            for place, part in enumerate(self._parts())
            if part.state is not None
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on where another stream of the same encoder was.

        Args:
            state: From :meth:`state_dict`, shapes ``(B, steps, C)`` and ``(B, C, steps)``.

        Raises:
            ConfigError: If it is that of an encoder with other sizes.
        """
        parts = self._parts()
        if state and set(state) != {str(place) for place in range(len(parts))}:
            raise ConfigError(
                f"state: {len(state)} parts, {len(parts)} expected; load that of the same encoder"
            )
        for place, part in enumerate(parts):
            if state and state[str(place)].shape[part.axis] != part.span:
                raise ConfigError(
                    f"state: part {place} remembers {state[str(place)].shape[part.axis]} steps, {part.span} expected; "
                    "load that of the same encoder"
                )
        for place, part in enumerate(parts):
            part.state, part.oldest = (state[str(place)].clone() if state else None), 0

    def _parts(self) -> list[_History]:
        convs = [conv.history for block in self._blocks for conv in (block.conv1, block.conv2)]
        return [self._inputs, self._outputs, *convs]


class _History:
    """The last steps of something, along ``axis``, from ``oldest`` on around the end; ``fill`` precedes the first."""

    def __init__(self, span: int, fill: float, axis: int = 1) -> None:
        self.span, self.fill, self.axis = span, fill, axis
        self.oldest = 0
        self.state: Tensor | None = None

    @property
    def rows(self) -> int | None:
        return None if self.state is None else len(self.state)

    def begin(self, like: Tensor) -> Tensor:
        """What is remembered."""
        if self.state is None:
            shape = list(like.shape)
            shape[self.axis] = self.span
            self.state = like.new_full(shape, self.fill)
        return self.state

    def extend(self, fresh: Tensor) -> Tensor:
        """What is remembered, where that begins with the oldest, with the new steps behind it."""
        both = torch.cat([self.begin(fresh), fresh], dim=self.axis)
        total = both.shape[self.axis]
        self.state = both.narrow(self.axis, total - self.span, self.span).clone()
        return both


class _Block:
    def __init__(self, block: ConvBlock) -> None:
        self.block, self.conv1, self.conv2 = block, _Conv(block.conv1), _Conv(block.conv2)

    def push(self, h: Tensor) -> Tensor:
        inner = self.conv2.push(F.gelu(self.conv1.push(F.gelu(h))))
        return inner + self.block.around(h)


class _Conv:
    """A causal convolution over a ring of its last ``2 d`` inputs; ``(B, C, T)``.

    A point costs three products, whatever the dilation: the ring is written in place, not moved.
    """

    def __init__(self, conv: DilatedConv) -> None:
        assert conv.bias is not None
        self.step, self.weight, self.bias = conv.step, conv.weight, conv.bias
        self.flat = conv.weight.detach().permute(0, 2, 1).flatten(1)  # (C_out, 3C), oldest tap first
        self.history = _History(2 * conv.step, 0.0, axis=2)

    def push(self, x: Tensor) -> Tensor:
        history = self.history
        ring, oldest, span, count = history.begin(x), history.oldest, history.span, x.shape[2]
        if count == 1:
            # By far the most frequent: as few operations as it can be done with.
            place = (oldest + self.step) % span
            taps = torch.cat([ring[..., oldest], ring[..., place], x[..., 0]], dim=1)
            ring[..., oldest] = x[..., 0]
            history.oldest = (oldest + 1) % span
            return torch.addmm(self.bias, taps, self.flat.mT)[..., None]
        if count >= span:
            known = torch.cat([ring[..., oldest:], ring[..., :oldest], x], dim=2)
            history.state, history.oldest = x[..., count - span :].clone(), 0
            return F.conv1d(known, self.weight, self.bias, dilation=self.step)
        far = _around(ring, oldest, count)
        near = _around(ring, (oldest + self.step) % span, min(count, self.step))
        taps = torch.cat([far, torch.cat([near, x[..., : max(count - self.step, 0)]], dim=2), x], dim=1)
        until = min(count, span - oldest)
        ring[..., oldest : oldest + until] = x[..., :until]
        ring[..., : count - until] = x[..., until:]
        history.oldest = (oldest + count) % span
        return self.flat @ taps + self.bias[:, None]


def _around(ring: Tensor, begin: int, count: int) -> Tensor:
    """``count`` columns from ``begin`` on, around the end."""
    size = ring.shape[2]
    if begin + count <= size:
        return ring[..., begin : begin + count]
    return torch.cat([ring[..., begin:], ring[..., : begin + count - size]], dim=2)
