"""Memory-bounded backend: tiles computed, used and forgotten; gradients from tiles computed again.

Only operands and one number a row are kept between forward and backward.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from nearfar.objectives import crosswise, triangular
from nearfar.objectives.denominator import Rule
from nearfar.objectives.gemm import fast_gemm
from nearfar.objectives.tiles import LN2, Order, Schedule, Sweep, Tiling, Upstream, unshifted
from nearfar.objectives.triangular import upper_tiles


def tiled_log_sum_exp(
    a: Tensor,
    k: Tensor | None,
    rule: Rule,
    *,
    columns: bool = False,
    edge: int | None = None,
    order: Order | None = None,
    schedule: Callable[[int], Schedule] | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Log-sum-exp of every row over its keys and, if wanted, of every key over its rows.

    Args:
        a: Left operand, shape ``(B, N, d)``.
        k: Right operand, shape ``(B, M, d)``; ``None`` where it is ``a`` itself.
        rule: Which keys count.
        columns: Whether to sum over rows for every key as well; needs ``k``.
        edge: Rows and keys in a tile; ``None`` for what suits the device.
        order: Positions of rows and keys where they are not 0, 1, 2, ...
        schedule: Tiles to visit in symmetric self-contrast, given their edge; ``None`` for all.

    Returns:
        Shapes ``(B, N)`` and ``(B, M)``, minus infinity where nothing counts.
    """
    other = a if k is None else k
    tiling = Tiling.choose((len(a), a.shape[1], other.shape[1]), a.device, edge)
    moved = Order()
    if order is None:
        order = Order()
        if schedule is None:
            order = moved = _sorted_by_id(rule, a, tiling, itself=k is None)
    a = a if moved.rows is None else a[:, moved.rows]
    k = k if moved.keys is None or k is None else k[:, moved.keys]
    sweep = Sweep(rule, tiling, order, shift=rule.weighted or not unshifted(a, other))
    if k is None and rule.symmetric:
        tiles = upper_tiles(a.shape[1], tiling) if schedule is None else schedule(tiling.rows)
        by_row, by_key = _Triangular.apply(a, sweep, tiles), None  # type: ignore[no-untyped-call]
    else:
        by_row, by_key = _Crosswise.apply(a, a if k is None else k, sweep, columns)  # type: ignore[no-untyped-call]
    return _restored(by_row, moved.rows), None if by_key is None else _restored(by_key, moved.keys)


def _sorted_by_id(rule: Rule, a: Tensor, tiling: Tiling, *, itself: bool) -> Order:
    """Order in which equal ids stand together, so that the rule can answer for whole tiles."""
    if rule.group_ids is None or len(a) > 1 or tiling.rows == a.shape[1] or a.is_cuda:
        return Order()
    row_ids, key_ids = (ids.to(a.device) for ids in rule.group_ids)
    rows = row_ids.argsort(stable=True)
    return Order(rows, rows if itself else key_ids.argsort(stable=True))


def _restored(lse: Tensor, order: Tensor | None) -> Tensor:
    return lse if order is None else lse[:, order.argsort()]


class _Triangular(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, sweep: Sweep, schedule: Schedule) -> Tensor:
        ctx.sweep, ctx.schedule = sweep, schedule
        with fast_gemm(x, sweep.tiling.rows):
            lse = triangular.forward(x, sweep, schedule).log2()
        ctx.save_for_backward(x, lse)
        return lse * LN2

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, lse = ctx.saved_tensors
        with torch.no_grad(), fast_gemm(x, ctx.sweep.tiling.rows):
            upstream = Upstream.of(lse, grad, shift=ctx.sweep.shift)
            result = triangular.backward(x, upstream, ctx.sweep, ctx.schedule)
        return once_differentiable(result, x, grad), None, None


class _Crosswise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, k: Tensor, sweep: Sweep, columns: bool) -> tuple[Tensor, Tensor | None]:
        # With fixed keys the gradient of the rows is ready after one pass.
        mean_key = ctx.needs_input_grad[0] and not ctx.needs_input_grad[1] and not columns
        with fast_gemm(a, sweep.tiling.rows):
            over_keys, over_rows, mean = crosswise.forward(a, k, sweep, columns=columns, mean_key=mean_key)
        row_lse, key_lse = over_keys.log2(), None if over_rows is None else over_rows.log2()
        ctx.sweep = sweep
        ctx.save_for_backward(a, k, row_lse, key_lse, mean)
        return row_lse * LN2, None if key_lse is None else key_lse * LN2

    @staticmethod
    def backward(ctx: Any, row_grad: Tensor, key_grad: Tensor | None) -> tuple[Tensor | None, ...]:
        a, k, row_lse, key_lse, mean = ctx.saved_tensors
        if mean is not None:
            with torch.no_grad():
                grad_a = row_grad[..., None] * mean
            return once_differentiable(grad_a, a, row_grad), None, None, None
        shift = ctx.sweep.shift
        with torch.no_grad(), fast_gemm(a, ctx.sweep.tiling.rows):
            by_row = Upstream.of(row_lse, row_grad, shift=shift)
            by_key = None
            if key_lse is not None and key_grad is not None:
                by_key = Upstream.of(key_lse, key_grad, shift=shift)
            grads = crosswise.backward(a, k, ctx.sweep, by_row, by_key)
        grad_a, grad_k = (
            once_differentiable(grad, a, k, row_grad) if needed else None
            for grad, needed in zip(grads, ctx.needs_input_grad[:2], strict=True)
        )
        return grad_a, grad_k, None, None


def once_differentiable(gradient: Tensor, *sources: Tensor) -> Tensor:
    """The gradient, tied to what it was made from, so that differentiating it is a clear error.

    Args:
        gradient: Any shape, returned as it is: ``(..., d)``.
        sources: Tensors it depends on, any shape: ``(..., d)``.
    """
    result: Tensor = _Once.apply(gradient, *sources)  # type: ignore[no-untyped-call]
    return result


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, gradient: Tensor, *sources: Tensor) -> Tensor:
        del ctx, sources
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor, ...]:
        del ctx, grads
        raise RuntimeError(
            "only the dense backend has second derivatives; for create_graph=True or meta-gradients call "
            "contrast(..., backend='dense')"
        )
