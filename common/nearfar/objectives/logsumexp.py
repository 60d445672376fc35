"""The one N x M computation of every softmax objective, on the backend asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, TypeAlias, get_args

from torch import Tensor

from nearfar.objectives.denominator import Rule
from nearfar.objectives.dense import dense_log_sum_exp, dense_log_sum_exps
from nearfar.objectives.joint import Selection
from nearfar.objectives.tiled import tiled_log_sum_exp, tiled_log_sum_exps
from nearfar.objectives.tiles import Order

Backend: TypeAlias = Literal["auto", "dense", "tiled", "triton"]
BACKENDS: tuple[str, ...] = get_args(Backend)
# Below this many logits, of all problems together, the overhead of tiles shows (measured on one core, d = 128).
DENSE_LOGITS = 192 * 192
# Beyond this width fused kernels compute tiles again for every part of a gradient, and tiles in memory are less work.
WIDEST_FUSED = 512

_EDGE: ContextVar[int | None] = ContextVar("edge", default=None)


@contextmanager
def small_tiles(edge: int | None) -> Iterator[None]:
    """Within, every contrast is computed in tiles of at most ``edge`` rows and keys, whatever its backend.

    For when memory has run out: the values are the same, to round-off.

    Args:
        edge: Rows and keys in a tile; ``None`` changes nothing.
    """
    token = _EDGE.set(edge)
    try:
        yield
    finally:
        _EDGE.reset(token)


def log_sum_exp(
    a: Tensor,
    k: Tensor | None,
    rule: Rule,
    *,
    columns: bool = False,
    backend: Backend = "auto",
    order: Order | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Log-sum-exp of every row over its keys and, if wanted, of every key over its rows.

    Args:
        a: Left operand, shape ``(B, N, d)``; logits are its dot products with the right operand.
        k: Right operand, shape ``(B, M, d)``; ``None`` where it is ``a`` itself.
        rule: Which keys count.
        columns: Whether to sum over rows for every key as well; needs ``k``.
        backend: As of ``contrast``.
        order: Positions of rows and keys where they are not 0, 1, 2, ...

    Returns:
        Shapes ``(B, N)`` and ``(B, M)``, minus infinity where nothing counts.

    Raises:
        ValueError: If ``backend`` is ``"triton"`` where that cannot be used, saying why.
    """
    other = a if k is None else k
    if (edge := _EDGE.get()) is not None:
        return tiled_log_sum_exp(a, k, rule, columns=columns, order=order, edge=edge)
    backend = _chosen(a, other, [rule], backend)
    if backend == "dense":
        return dense_log_sum_exp(a, other, rule, columns=columns, order=order or Order())
    if backend == "triton":
        from nearfar.objectives.fused import fused_log_sum_exp

        return fused_log_sum_exp(a, k, rule, columns=columns, order=order)
    return tiled_log_sum_exp(a, k, rule, columns=columns, order=order)


def log_sum_exps(
    a: Tensor,
    k: Tensor | None,
    selections: Sequence[Selection],
    *,
    backend: Backend = "auto",
    order: Order | None = None,
) -> list[Tensor]:
    """Several log-sum-exps of every row over its keys, from the same logits.

    Args:
        a: Left operand, shape ``(B, N, d)``.
        k: Right operand, shape ``(B, M, d)``; ``None`` where it is ``a`` itself.
        selections: What counts for each, and the scale of its logits.
        backend: As of ``contrast``; the fused kernels, which hold no logits, compute them for each.
        order: As of :func:`log_sum_exp`.

    Returns:
        One of shape ``(B, N)`` a selection, minus infinity where nothing counts.

    Raises:
        ValueError: As of :func:`log_sum_exp`.
    """
    other = a if k is None else k
    if (edge := _EDGE.get()) is not None:
        return tiled_log_sum_exps(a, k, selections, order=order, edge=edge)
    backend = _chosen(a, other, [selection.rule for selection in selections], backend)
    if backend == "dense":
        return dense_log_sum_exps(a, other, selections, order=order or Order())
    if backend == "triton":
        from nearfar.objectives.fused import fused_log_sum_exp

        operands = [selection.operands(a, k) for selection in selections]
        return [
            fused_log_sum_exp(left, right, selection.rule, order=order)[0]
            for (left, right), selection in zip(operands, selections, strict=True)
        ]
    return tiled_log_sum_exps(a, k, selections, order=order)


def _chosen(a: Tensor, k: Tensor, rules: Sequence[Rule], backend: Backend) -> Backend:
    """The backend asked for, or for ``"auto"`` the one that suits."""
    if backend == "auto" and len(a) * a.shape[1] * k.shape[1] <= DENSE_LOGITS:
        return "dense"
    if backend == "triton" or (backend == "auto" and a.shape[-1] <= WIDEST_FUSED):
        # Here, since which rules the kernels know includes those of positives, which build on this module.
        from nearfar.objectives.parity import obstacle

        reasons = (obstacle(a, rule) for rule in rules)
        reason = next((reason for reason in reasons if reason is not None), None)
        if reason is None:
            return "triton"
        if backend == "triton":
            raise ValueError(f"backend: 'triton' cannot be used, {reason}")
    return "dense" if backend == "dense" else "tiled"
