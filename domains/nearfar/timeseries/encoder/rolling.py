"""Representation of every step of a long series: what the encoder says at the end of the window that ends there.

A causal encoder over a whole series hears more than a window, and needs no windows: :func:`represent_series`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.errors import ConfigError, DataError
from nearfar.runtime import evaluating
from nearfar.timeseries.encoder.represents import Represents
from nearfar.timeseries.encoder.series_encoder import SeriesEncoder
from nearfar.timeseries.encoder.streaming import StreamingEncoder
from nearfar.timeseries.encoder.window_pass import WindowPass

WINDOW = 201  # of the published protocol
Progress = Callable[[int], object]


def represent_series(
    encoder: Represents, x: Tensor, *, window: int = WINDOW, first: int = WINDOW - 1, stop: int | None = None
) -> Tensor:
    """Representation of every step: one pass of a causal encoder, else the window that ends there.

    Args:
        encoder: Ours or another.
        x: One series, shape ``(N, F)``.
        window: Steps of a window; a causal encoder of ours hears all the past it can.
        first: First step that is needed.
        stop: Steps of the result, by default N.

    Returns:
        Shape ``(stop, width)``; windows of steps before ``first`` are not encoded, there are zeros.

    Raises:
        DataError: If the series has another shape.
        ConfigError: If window, first or stop are out of range.
    """
    _check(x, window)
    stop = len(x) if stop is None else stop
    if not 0 <= first <= stop <= len(x):
        raise ConfigError(f"first, stop: 0 <= first <= stop <= {len(x)} expected, got {first} and {stop}")
    if isinstance(encoder, SeriesEncoder) and encoder.causal:
        return causal_representations(encoder, x[:stop])
    found = rolling_representations(encoder, x, window=window, start=first, stop=stop)
    return F.pad(found, (0, 0, first, 0))


def rolling_representations(
    encoder: Represents,
    x: Tensor,
    *,
    window: int = WINDOW,
    start: int = 0,
    stop: int | None = None,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Tensor:
    """Last step of the encoder on each window ``[t - window + 1, t]``.

    Args:
        encoder: Ours or another; in evaluation mode while this runs.
        x: One series, shape ``(N, F)``; missing values precede it.
        window: Steps of a window.
        start: First ``t``.
        stop: One after the last ``t``, by default N.
        batch_size: Windows at a time.
        progress: Told how many windows were done, after every batch.

    Returns:
        Shape ``(stop - start, width)``.

    Raises:
        DataError: If the series has another shape.
        ConfigError: If window, start, stop or batch_size are out of range.
    """
    _check(x, window)
    stop = len(x) if stop is None else stop
    if not 0 <= start <= stop <= len(x):
        raise ConfigError(f"start, stop: 0 <= start <= stop <= {len(x)} expected, got {start} and {stop}")
    if batch_size < 1:
        raise ConfigError(f"batch_size: a window at a time at least, got {batch_size}")
    found = x.new_zeros(stop - start, encoder.width)
    if stop == start:
        return found
    if start < window - 1:
        x = F.pad(x, (0, 0, window - 1 - start, 0), value=torch.nan)
        start, stop = window - 1, stop + window - 1 - start
    offset = start - window + 1
    with evaluating(encoder):
        last = _last_of(encoder, x, window)
        for begin in range(0, len(found), batch_size):
            count = min(batch_size, len(found) - begin)
            found[begin : begin + count] = last(offset + begin, count)
            if progress is not None:
                progress(count)
    return found


def causal_representations(encoder: SeriesEncoder, x: Tensor, *, chunk: int = 4096) -> Tensor:
    """One pass of a causal encoder over a series of any length, with the memory of a chunk.

    Args:
        encoder: Causal; used as in evaluation.
        x: One series or several, shape ``(N, F)`` or ``(B, N, F)``.
        chunk: Steps at a time.

    Returns:
        Shape ``(N, width)`` or ``(B, N, width)``.

    Raises:
        ConfigError: If the encoder is not causal, or a chunk has no step.
        DataError: If the series has another shape.
    """
    if chunk < 1:
        raise ConfigError(f"chunk: a step at a time at least, got {chunk}")
    if x.dim() not in (2, 3):
        raise DataError(f"x: shape (N, F) or (B, N, F) expected, got {tuple(x.shape)}")
    series = x if x.dim() == 3 else x[None]
    stream = StreamingEncoder(encoder)
    found = series.new_empty(*series.shape[:2], encoder.width)
    for begin in range(0, series.shape[1], chunk):
        piece = series[:, begin : begin + chunk]
        found[:, begin : begin + chunk] = stream.push(piece)
    return found if x.dim() == 3 else found[0]


def _last_of(encoder: Represents, x: Tensor, window: int) -> Callable[[int, int], Tensor]:
    """Last steps of some windows, from the first one's beginning and their number."""
    if isinstance(encoder, SeriesEncoder) and not encoder.causal:
        return WindowPass(encoder, x, window).last

    @torch.inference_mode()
    def whole(begin: int, count: int) -> Tensor:
        return encoder.represent(x[begin : begin + count + window - 1].unfold(0, window, 1).mT)[:, -1]

    return whole


def _check(x: Tensor, window: int) -> None:
    if x.dim() != 2 or not x.is_floating_point():
        raise DataError(f"x: one series of floats, shape (N, F), expected, got {x.dtype} of {tuple(x.shape)}")
    if window < 1:
        raise ConfigError(f"window: a step at least expected, got {window}")
