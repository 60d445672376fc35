# mypy: disable-error-code="no-untyped-def, name-defined"
# ruff: noqa: N803
r"""The two compiled loops over tiles, in Triton: sums of exponentials, and the gradient of their logarithms.

One program owns a block of rows and visits blocks of keys, so nothing is added atomically and results repeat bit by
bit. Sums over rows, and gradients of keys, are the same kernels with rows and keys exchanged. Online softmax
(Milakov and Gimelshein, 2018) and tiles computed again in the backward pass as in FlashAttention (Dao et al., 2022).

With operands x (left) and y (right), :math:`s_{ij} = \langle x_i, y_j \rangle \log_2 e` and the kept pairs K

.. math:: \mathrm{sums}_i = \log_2 \sum_{j: ij \in K} 2^{s_{ij}}, \qquad
          \mathrm{gradient}_i = \sum_{j: ij \in K} (c_i 2^{s_{ij} - o_i} + c'_j 2^{s_{ij} - o'_j}) y_j

Importing this module imports Triton; :mod:`nearfar.objectives.fused` does so when it is first needed. Kernels take one
by one what they are launched with; parameters in capitals are compiled in, and only they may have annotations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nearfar.optional import require

triton: Any = require("triton", "backend='triton'")
tl: Any = require("triton.language", "backend='triton'")
jit: Callable[[Callable[..., Any]], Any] = triton.jit

LOG2E = tl.constexpr(1.4426950408889634)


@jit
def _tile(
    x,
    start,
    size,
    first,
    width,
    LENGTH: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Rows ``start...`` and coordinates ``first...`` of x, zeros outside."""
    rows, columns = tl.arange(0, LENGTH), first + tl.arange(0, WIDTH)
    inside = (start + rows < size)[:, None] & (columns < width)[None, :]
    # Only within a tile do offsets surely fit into 32 bits.
    corner = x + tl.cast(start, tl.int64) * width
    return tl.load(corner + rows[:, None] * width + columns[None, :], mask=inside, other=0.0)


@jit
def _chunked_dots(
    x,
    y,
    row_start,
    num_rows,
    key_start,
    num_keys,
    width,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    CHUNK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Dot products of a tile whose rows are too long to be held."""
    dots = tl.zeros([ROWS, KEYS], tl.float32)
    for first in range(0, width, CHUNK):
        left = _tile(x, row_start, num_rows, first, width, ROWS, CHUNK)
        right = _tile(y, key_start, num_keys, first, width, KEYS, CHUNK)
        dots = tl.dot(left, tl.trans(right), dots, input_precision=PRECISION)
    return dots


@jit
def _kept(
    row_numbers,
    key_numbers,
    row_start,
    num_rows,
    key_start,
    num_keys,
    row_step,
    key_step,
    reach,
    TRUTH: tl.constexpr,
    CONDITIONS: tl.constexpr,
    NEAR: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
):
    """Which pairs of a tile count: those in range for which the truth table says yes."""
    rows, keys = row_start + tl.arange(0, ROWS), key_start + tl.arange(0, KEYS)
    case = tl.zeros([ROWS, KEYS], tl.int32)
    for i in tl.static_range(CONDITIONS):
        of_row = tl.load(row_numbers + i * row_step + rows, mask=rows < num_rows, other=0)
        of_key = tl.load(key_numbers + i * key_step + keys, mask=keys < num_keys, other=0)
        if NEAR and i == CONDITIONS - 1:
            holds = tl.abs(of_row[:, None] - of_key[None, :]) <= reach
        else:
            holds = of_row[:, None] == of_key[None, :]
        case += tl.where(holds, 1 << i, 0)
    return (((TRUTH >> case) & 1) == 1) & (keys < num_keys)[None, :]


@jit
def sums(
    x,
    y,
    out,
    row_numbers,
    key_numbers,
    num_rows,
    num_keys,
    width,
    problems,
    x_stride,
    y_stride,
    row_stride,
    key_stride,
    row_step,
    key_step,
    reach,
    split,
    TRUTH: tl.constexpr,
    CONDITIONS: tl.constexpr,
    NEAR: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    CHUNK: tl.constexpr,
    WHOLE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Log-sum-exp to base 2 of a block of rows over one part of the keys."""
    blocks = tl.cdiv(num_rows, ROWS)
    problem, row_start = tl.cast(tl.program_id(0) // blocks, tl.int64), tl.program_id(0) % blocks * ROWS
    x, y = x + problem * x_stride, y + problem * y_stride
    row_numbers, key_numbers = row_numbers + problem * row_stride, key_numbers + problem * key_stride
    part = tl.program_id(1)
    peak, total = tl.full([ROWS], float("-inf"), tl.float32), tl.zeros([ROWS], tl.float32)
    if WHOLE:
        left = _tile(x, row_start, num_rows, 0, width, ROWS, CHUNK)
    for key_start in range(part * split, tl.minimum(part * split + split, num_keys), KEYS):
        if WHOLE:
            right = _tile(y, key_start, num_keys, 0, width, KEYS, CHUNK)
            dots = tl.dot(left, tl.trans(right), input_precision=PRECISION)
        else:
            dots = _chunked_dots(
                x, y, row_start, num_rows, key_start, num_keys, width, ROWS, KEYS, CHUNK, PRECISION
            )
        keep = _kept(
            row_numbers, key_numbers, row_start, num_rows, key_start, num_keys,
            row_step, key_step, reach, TRUTH, CONDITIONS, NEAR, ROWS, KEYS,
        )  # fmt: skip
        logits = tl.where(keep, dots * LOG2E, float("-inf"))
        new = tl.maximum(peak, tl.max(logits, 1))
        # Where nothing has been seen yet the peak is minus infinity; subtracting 0 keeps that.
        shift = tl.where(new == float("-inf"), 0.0, new)
        total = total * tl.exp2(peak - shift) + tl.sum(tl.exp2(logits - shift[:, None]), 1)
        peak = new
    rows = row_start + tl.arange(0, ROWS)
    lse = tl.log2(total) + tl.where(peak == float("-inf"), 0.0, peak)
    tl.store(out + (part * problems + problem) * num_rows + rows, lse, mask=rows < num_rows)


@jit
def gradient(
    x,
    y,
    out,
    row_offset,
    row_coefficient,
    key_offset,
    key_coefficient,
    row_numbers,
    key_numbers,
    num_rows,
    num_keys,
    width,
    problems,
    x_stride,
    y_stride,
    row_stride,
    key_stride,
    row_step,
    key_step,
    reach,
    split,
    BY_ROW: tl.constexpr,
    BY_KEY: tl.constexpr,
    TRUTH: tl.constexpr,
    CONDITIONS: tl.constexpr,
    NEAR: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    CHUNK: tl.constexpr,
    WHOLE: tl.constexpr,
    OUT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Coordinates ``OUT * program_id(2)...`` of a block of rows of the gradient, from one part of the keys."""
    blocks = tl.cdiv(num_rows, ROWS)
    problem, row_start = tl.cast(tl.program_id(0) // blocks, tl.int64), tl.program_id(0) % blocks * ROWS
    part, first = tl.program_id(1), tl.program_id(2) * OUT
    x, y = x + problem * x_stride, y + problem * y_stride
    row_numbers, key_numbers = row_numbers + problem * row_stride, key_numbers + problem * key_stride
    rows = row_start + tl.arange(0, ROWS)
    if BY_ROW:
        of_row = tl.load(row_offset + problem * num_rows + rows, mask=rows < num_rows, other=0.0)
        by_row = tl.load(row_coefficient + problem * num_rows + rows, mask=rows < num_rows, other=0.0)
    if WHOLE:
        left = _tile(x, row_start, num_rows, 0, width, ROWS, CHUNK)
    total = tl.zeros([ROWS, OUT], tl.float32)
    for key_start in range(part * split, tl.minimum(part * split + split, num_keys), KEYS):
        right = _tile(y, key_start, num_keys, first, width, KEYS, OUT)
        if WHOLE:
            dots = tl.dot(left, tl.trans(right), input_precision=PRECISION)
        else:
            dots = _chunked_dots(
                x, y, row_start, num_rows, key_start, num_keys, width, ROWS, KEYS, CHUNK, PRECISION
            )
        weights = tl.zeros([ROWS, KEYS], tl.float32)
        if BY_ROW:
            weights += by_row[:, None] * tl.exp2(dots * LOG2E - of_row[:, None])
        if BY_KEY:
            keys = key_start + tl.arange(0, KEYS)
            of_key = tl.load(key_offset + problem * num_keys + keys, mask=keys < num_keys, other=0.0)
            by_key = tl.load(key_coefficient + problem * num_keys + keys, mask=keys < num_keys, other=0.0)
            weights += by_key[None, :] * tl.exp2(dots * LOG2E - of_key[None, :])
        keep = _kept(
            row_numbers, key_numbers, row_start, num_rows, key_start, num_keys,
            row_step, key_step, reach, TRUTH, CONDITIONS, NEAR, ROWS, KEYS,
        )  # fmt: skip
        # Pairs that do not count may have overflowed; they are replaced, not multiplied by 0.
        weights = tl.where(keep, weights, 0.0)
        total = tl.dot(weights, right, total, input_precision=PRECISION)
    columns = first + tl.arange(0, OUT)
    place = ((part * problems + problem) * num_rows + row_start) * width
    inside = (rows < num_rows)[:, None] & (columns < width)[None, :]
    inner = tl.arange(0, ROWS)[:, None] * width + columns[None, :]
    tl.store(out + place + inner, total, mask=inside)
