r"""CUDA backend: tiles that never leave the processor they are computed on.

The forward pass stores one number a row; the backward pass computes tiles again. Both directions of a cross-view loss,
and both terms of a self-contrast, :math:`dx_i = \sum_j (g_i P_{ij} + g_j P_{ji}) x_j`, come from one recomputation.
Sums over rows are a second launch with rows and keys exchanged: partial sums of one pass would need (N / block) M
numbers, or atomic additions, whose result changes from run to run.

Memory beyond operands and gradients is O(N + M) numbers, and where few rows meet many keys a few partial results.
Written in Triton (:mod:`nearfar.objectives.fused_kernels`) and compared with float64 on each device before it is used
there (:mod:`nearfar.objectives.parity`). ``NEARFAR_TRITON=0`` switches it off.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nearfar.objectives.conditions import TruthTable
from nearfar.objectives.denominator import Block, Rule
from nearfar.objectives.tiled import once_differentiable
from nearfar.objectives.tiles import LN2, Order, Upstream

# Programs per processor below which the keys are split, so that few rows with many keys (a queue) use all of them.
PROGRAMS = 4


@dataclass(frozen=True)
class Blocks:
    """How a launch is cut.

    Attributes:
        rows: Rows of a program.
        keys: Keys it visits at a time.
        chunk: Coordinates of a dot product at a time; if that is all of them, rows are loaded only once.
        out: Coordinates of the gradient a program computes.
        warps: Groups of 32 threads of a program.
        stages: Tiles in flight.
    """

    rows: int
    keys: int
    chunk: int
    out: int
    warps: int
    stages: int = 2

    @classmethod
    def choose(cls, width: int, precision: str) -> Blocks:
        """For rows of this many coordinates.

        Chosen by what compilers for capabilities 8.0 to 12.0 report: registers are not spilled (12.0: a few are) and
        99 KB of shared memory, which all have, are enough. Three products for one (``tf32x3``) need more registers.
        Speed has not been measured.

        Args:
            width: d.
            precision: As of :func:`precision`.
        """
        padded, single = max(16, 1 << (width - 1).bit_length()), precision == "tf32"
        if padded <= 64:
            return cls(64, 32, padded, padded, 4)
        if not single:
            return cls(64, 32, 32, 128, 8)
        return cls(64, 32, 128, 128, 4) if padded <= 128 else cls(64, 32, 64, 256, 8)

    def num_splits(self, num_rows: int, num_keys: int, processors: int) -> int:
        """Parts of the keys, each for programs of its own.

        Args:
            num_rows: Of all problems.
            num_keys: Of one problem.
            processors: Of the device.
        """
        programs = -(-num_rows // self.rows)
        return max(1, min(processors * PROGRAMS // programs, -(-num_keys // self.keys)))


@dataclass(frozen=True, eq=False)
class Pairing:
    """Which pairs count, in the form the kernels know.

    Attributes:
        rows: Numbers of the rows, shape ``(c, B', N)``.
        keys: Numbers of the keys, shape ``(c, B', M)``.
        table: What follows from comparing them.
        precision: Of products, as Triton calls it.
    """

    rows: Tensor
    keys: Tensor
    table: TruthTable
    precision: str

    def transposed(self) -> Pairing:
        """The same with rows and keys exchanged: equal and close are symmetric."""
        return replace(self, rows=self.keys, keys=self.rows)


def fused_log_sum_exp(
    a: Tensor, k: Tensor | None, rule: Rule, *, columns: bool = False, order: Order | None = None
) -> tuple[Tensor, Tensor | None]:
    """Log-sum-exp of every row over its keys and, if wanted, of every key over its rows.

    Args:
        a: Left operand, shape ``(B, N, d)``, float32.
        k: Right operand, shape ``(B, M, d)``; ``None`` where it is ``a`` itself.
        rule: Which keys count; one that :func:`supports` says yes to.
        columns: Whether to sum over rows for every key as well; needs ``k``.
        order: Positions of rows and keys where they are not 0, 1, 2, ...

    Returns:
        Shapes ``(B, N)`` and ``(B, M)``, minus infinity where nothing counts.

    Raises:
        ValueError: If dtype or rule do not fit.
    """
    table = TruthTable.of(rule)
    if table is None or a.dtype != torch.float32:
        raise ValueError(f"backend: 'triton' cannot be used, {unfit(a, rule)}")
    other, order = a if k is None else k, order or Order()
    block = Block(range(a.shape[1]), range(other.shape[1]), a.device, None, order.rows, order.keys)
    pairing = Pairing(*table.numbers(block), table, precision(a.device))
    if k is None and rule.symmetric and order.rows is order.keys:
        by_row, by_key = _Fused.apply(a, None, pairing, False)  # type: ignore[no-untyped-call]
    else:
        by_row, by_key = _Fused.apply(a, other, pairing, columns)  # type: ignore[no-untyped-call]
    return by_row, by_key


def supports(rule: Rule) -> bool:
    """Whether the kernels know the rule; the default is no.

    Args:
        rule: Any rule.

    Example:
        >>> from nearfar.objectives.denominator import LogWeight, NotBand, NotSame
        >>> supports(NotBand(3) & NotSame(torch.tensor([0, 0, 1])))
        True
        >>> supports(LogWeight(lambda rows, keys: -(rows - keys).abs().float()))
        False
    """
    return TruthTable.of(rule) is not None


def unfit(a: Tensor, rule: Rule) -> str | None:
    """What the kernels cannot compute on any device, or ``None``.

    Args:
        a: Left operand, shape ``(B, N, d)``.
        rule: Which keys count.
    """
    if a.dtype != torch.float32:
        return f"it computes in float32, got {a.dtype}"
    if not supports(rule):
        name = type(rule).__name__.strip("_")
        return (
            f"it has no form of the rule {name}; All, NotSelf, NotBand, NotSame, OnlySame, positives by position or "
            "label, and combinations of up to four of them have one"
        )
    return None


def precision(device: torch.device) -> str:
    """How Triton is to multiply float32: as exactly as torch does on this device by the user's settings.

    ``"tf32x3"`` adds up three tensor-core products to about the accuracy of single precision.

    Args:
        device: Of the operands.
    """
    if device.type == "cuda" and (torch.version.hip or torch.cuda.get_device_capability(device) < (8, 0)):
        return "ieee"
    # torch.get_float32_matmul_precision() raises once some backend has been set through the newer attribute.
    matmul = torch.backends.cuda.matmul
    chosen = getattr(matmul, "fp32_precision", None) or ("tf32" if matmul.allow_tf32 else "ieee")
    return "tf32" if chosen == "tf32" else "tf32x3"


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, a: Tensor, k: Tensor | None, pairing: Pairing, columns: bool
    ) -> tuple[Tensor, Tensor | None]:
        row_lse = _sums(a, a if k is None else k, pairing)
        key_lse = _sums(k, a, pairing.transposed()) if columns and k is not None else None
        ctx.pairing = pairing
        ctx.save_for_backward(a, k, row_lse, key_lse)
        return row_lse * LN2, None if key_lse is None else key_lse * LN2

    @staticmethod
    def backward(ctx: Any, row_grad: Tensor, key_grad: Tensor | None) -> tuple[Tensor | None, ...]:
        a, k, row_lse, key_lse = ctx.saved_tensors
        pairing: Pairing = ctx.pairing
        with torch.no_grad():
            by_row, by_key = Upstream.of(row_lse, row_grad, shift=True), None
            if key_lse is not None and key_grad is not None:
                by_key = Upstream.of(key_lse, key_grad, shift=True)
            grad_a = grad_k = None
            if k is None:
                grad_a = _gradient(a, a, pairing, by_row, by_row)
            elif ctx.needs_input_grad[0]:
                grad_a = _gradient(a, k, pairing, by_row, by_key)
            if k is not None and ctx.needs_input_grad[1]:
                grad_k = _gradient(k, a, pairing.transposed(), by_key, by_row)
        sources = [x for x in (a, k, row_grad, key_grad) if x is not None]
        grad_a, grad_k = (g if g is None else once_differentiable(g, *sources) for g in (grad_a, grad_k))
        return grad_a, grad_k, None, None


def _sums(x: Tensor, y: Tensor, pairing: Pairing) -> Tensor:
    """Log-sum-exp to base 2 of every row of x over the rows of y."""
    from nearfar.objectives import fused_kernels

    grid, out_shape, arguments = _launch(x, y, pairing)
    out = x.new_empty(out_shape[:-1])
    del arguments["OUT"]
    with torch.cuda.device_of(x):
        fused_kernels.sums[grid[:2]](out=out, **arguments)
    return out[0] if len(out) == 1 else torch.logsumexp(out * LN2, 0) / LN2


def _gradient(
    x: Tensor, y: Tensor, pairing: Pairing, by_row: Upstream | None, by_key: Upstream | None
) -> Tensor:
    """Gradient with respect to x of the sums over the rows of y and of those over the rows of x."""
    from nearfar.objectives import fused_kernels

    grid, out_shape, arguments = _launch(x, y, pairing)
    out = x.new_empty(out_shape)
    for name, upstream in (("row", by_row), ("key", by_key)):
        arguments[f"BY_{name.upper()}"] = upstream is not None
        # Something has to be handed over for what is compiled out.
        arguments[f"{name}_offset"] = out if upstream is None else upstream.offset.contiguous()
        arguments[f"{name}_coefficient"] = out if upstream is None else upstream.coefficient.contiguous()
    with torch.cuda.device_of(x):
        fused_kernels.gradient[grid](out=out, **arguments)
    return out[0] if len(out) == 1 else out.sum(0)


def _launch(
    x: Tensor, y: Tensor, pairing: Pairing
) -> tuple[tuple[int, int, int], tuple[int, int, int, int], dict[str, Any]]:
    """Grid, shape of the partial results ``(splits, B, N, d)``, and what both kernels are given."""
    x, y = _dense_rows(x), _dense_rows(y)
    (problems, num_rows, width), num_keys = x.shape, y.shape[1]
    blocks = Blocks.choose(width, pairing.precision)
    splits = blocks.num_splits(problems * num_rows, num_keys, _processors(x.device))
    split = blocks.keys * -(-num_keys // (blocks.keys * splits))
    splits = -(-num_keys // split)
    table = pairing.table
    arguments = {
        "x": x,
        "y": y,
        "row_numbers": pairing.rows,
        "key_numbers": pairing.keys,
        "num_rows": num_rows,
        "num_keys": num_keys,
        "width": width,
        "problems": problems,
        "x_stride": x.stride(0),
        "y_stride": y.stride(0),
        "row_stride": num_rows if pairing.rows.shape[1] > 1 else 0,
        "key_stride": num_keys if pairing.keys.shape[1] > 1 else 0,
        "row_step": pairing.rows.stride(0),
        "key_step": pairing.keys.stride(0),
        "reach": table.reach or 0,
        "split": split,
        "TRUTH": table.truth,
        "CONDITIONS": len(table.conditions),
        "NEAR": table.reach is not None,
        "ROWS": blocks.rows,
        "KEYS": blocks.keys,
        "CHUNK": blocks.chunk,
        "WHOLE": blocks.chunk >= width,
        "OUT": blocks.out,
        "PRECISION": pairing.precision,
        "num_warps": blocks.warps,
        "num_stages": blocks.stages,
        "enable_fp_fusion": True,
    }
    grid = (problems * -(-num_rows // blocks.rows), splits, -(-width // blocks.out))
    return grid, (splits, problems, num_rows, width), arguments


def _dense_rows(x: Tensor) -> Tensor:
    # Problems may share their rows (stride 0); within one, rows lie side by side.
    return x if x.stride(2) == 1 and x.stride(1) == x.shape[2] else x.contiguous()


def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
