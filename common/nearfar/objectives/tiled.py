"""Memory-bounded backend: tiles computed, used and forgotten; gradients from tiles computed again.

Only operands and one number a row are kept between forward and backward.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from nearfar.objectives import crosswise, joint, triangular
from nearfar.objectives.denominator import All, Rule
from nearfar.objectives.gemm import fast_gemm
from nearfar.objectives.joint import Selection
from nearfar.objectives.tiles import LN2, Order, Schedule, Sweep, Tiling, Upstream, grid, unshifted
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
            order = moved = _sorted_by_id(rule.group_ids, a, tiling, itself=k is None)
    a = a if moved.rows is None else a[:, moved.rows]
    k = k if moved.keys is None or k is None else k[:, moved.keys]
    sweep = Sweep(rule, tiling, order, shift=rule.weighted or not unshifted(a, other))
    if k is None and rule.symmetric:
        tiles = upper_tiles(a.shape[1], tiling) if schedule is None else schedule(tiling.rows)
        by_row, by_key = _Triangular.apply(a, sweep, tiles), None  # type: ignore[no-untyped-call]
    else:
        by_row, by_key = _Crosswise.apply(a, a if k is None else k, sweep, columns)  # type: ignore[no-untyped-call]
    return _restored(by_row, moved.rows), None if by_key is None else _restored(by_key, moved.keys)


def tiled_log_sum_exps(
    a: Tensor,
    k: Tensor | None,
    selections: Sequence[Selection],
    *,
    edge: int | None = None,
    order: Order | None = None,
) -> list[Tensor]:
    """Several log-sum-exps of every row over its keys from the same tiles of logits.

    Args:
        a: Left operand, shape ``(B, N, d)``.
        k: Right operand, shape ``(B, M, d)``; ``None`` where it is ``a`` itself.
        selections: What counts for each, and the scale of its logits.
        edge: As of :func:`tiled_log_sum_exp`.
        order: As of :func:`tiled_log_sum_exp`.

    Returns:
        One of shape ``(B, N)`` a selection, minus infinity where nothing counts.
    """
    other, rules = a if k is None else k, [selection.rule for selection in selections]
    tiling = Tiling.choose((len(a), a.shape[1], other.shape[1]), a.device, edge, joint=True)
    moved = Order()
    if order is None:
        ids = next((rule.sorting_ids for rule in rules if rule.sorting_ids is not None), None)
        order = moved = _sorted_by_id(ids, a, tiling, itself=k is None)
    most = max(selection.largest_scale for selection in selections)
    shift = any(rule.weighted for rule in rules) or not unshifted(a, other, most)
    selections = [selection.visited(a.shape[:2], moved.rows) for selection in selections]
    a = a if moved.rows is None else a[:, moved.rows]
    k = k if moved.keys is None or k is None else k[:, moved.keys]
    half = k is None and all(rule.symmetric for rule in rules)
    schedule = upper_tiles(a.shape[1], tiling) if half else grid(a.shape[1], other.shape[1], tiling)
    work = joint.Joint(Sweep(All(), tiling, order, shift=shift), tuple(selections), schedule, half)
    sums = _Joint.apply(a, a if k is None else k, work)  # type: ignore[no-untyped-call]
    return [_restored(lse, moved.rows) for lse in sums]


def _sorted_by_id(ids: tuple[Tensor, Tensor] | None, a: Tensor, tiling: Tiling, *, itself: bool) -> Order:
    """Order in which equal ids stand together, so that the rule can answer for whole tiles."""
    if ids is None or len(a) > 1 or tiling.rows == a.shape[1] or a.is_cuda:
        return Order()
    row_ids, key_ids = (side.to(a.device) for side in ids)
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


class _Joint(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, k: Tensor, work: joint.Joint) -> tuple[Tensor, ...]:
        ctx.work = work
        with fast_gemm(a, work.sweep.tiling.rows):
            lses = [total.log2() for total in work.forward(a, k)]
        ctx.save_for_backward(a, k, *lses)
        return tuple(lse * LN2 for lse in lses)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        a, k, *lses = ctx.saved_tensors
        work: joint.Joint = ctx.work
        with torch.no_grad(), fast_gemm(a, work.sweep.tiling.rows):
            upstreams = [
                Upstream.of(lse, grad, shift=work.sweep.shift) for lse, grad in zip(lses, grads, strict=True)
            ]
            grad_a, grad_k = work.backward(a, k, upstreams, to_keys=ctx.needs_input_grad[1])
        return (
            once_differentiable(grad_a, a, k, *grads),
            None if grad_k is None else once_differentiable(grad_k, a, k, *grads),
            None,
        )


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
