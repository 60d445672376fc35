r"""Softmax cross-entropy over many classes whose logits are dot products, without ever holding all logits.

.. math:: \ell_i = \log \sum_{c} e^{h_i \cdot w_c} - (1 - \epsilon) \, h_i \cdot w_{t_i}
          - \frac{\epsilon}{C} \sum_c h_i \cdot w_c

It is ``contrast`` of states with classes where every class is a key and the loss is summed. That the loss is a sum is
what this module uses: the gradient of a row is known as soon as its own denominator is, so some rows at a time are
multiplied, exponentiated, and multiplied back. Three matrix products instead of the four of a loss whose
upstream gradient is not known yet, and memory for a few rows of logits.
"""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.checks import check_choice, check_counts, check_ids, check_matrix, check_shares
from nearfar.objectives.gemm import fast_gemm
from nearfar.objectives.tiled import once_differentiable

LogitDtype: TypeAlias = Literal["float32", "auto"]

# Logits of a chunk: what stays in a core's cache, and what keeps a GPU busy.
CHUNK_LOGITS = {"cpu": 2**20, "cuda": 2**25}
SMALLEST_CHUNK = 64
# Rows of logits begin at multiples of 64 bytes; without, their product runs at half the speed.
ALIGNED = 16


def linear_cross_entropy(
    states: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    label_smoothing: float = 0.0,
    reduction: Literal["mean", "sum"] = "mean",
    logit_dtype: LogitDtype = "float32",
    chunk: int | None = None,
) -> Tensor:
    """Cross-entropy of ``states @ weight.T``, equal to :func:`torch.nn.functional.cross_entropy` of it.

    Args:
        states: Rows, shape ``(N, d)``, floating point.
        weight: One row a class, shape ``(C, d)``.
        targets: Right class of each row, int64, shape ``(N,)``.
        label_smoothing: Probability spread evenly over all classes, in [0, 1).
        reduction: ``"mean"`` or ``"sum"`` over rows.
        logit_dtype: ``"float32"`` multiplies in the dtype of the operands; ``"auto"`` multiplies float32 operands in
            bfloat16 where the processor has instructions for it (gradients then differ by some per mille).
        chunk: Rows at a time; ``None`` takes what suits device and number of classes. Changes nothing but
            round-off.

    Returns:
        Scalar; 0 without rows. It can be differentiated once.

    Raises:
        ValueError: If a shape, dtype, class or setting is wrong.

    Example:
        >>> round(linear_cross_entropy(torch.zeros(2, 3), torch.ones(4, 3), torch.tensor([0, 3])).item(), 4)  # log 4
        1.3863
    """
    check_matrix("states", states, min_rows=0)
    check_matrix("weight", weight, like=states, shape="(C, d)")
    check_choice("reduction", reduction, ("mean", "sum"))
    check_choice("logit_dtype", logit_dtype, get_args(LogitDtype))
    check_ids("targets", targets, len(states), lowest=0, below=len(weight))
    check_shares(below_one=True, label_smoothing=label_smoothing)
    if chunk is not None:
        check_counts(chunk=chunk)
    with torch.autocast(states.device.type, enabled=False):
        if states.dtype in (torch.float16, torch.bfloat16):
            states = states.float()
        scale = 1 / max(len(states), 1) if reduction == "mean" else 1.0
        rows = _rows(len(weight), states.device) if chunk is None else chunk
        low = logit_dtype == "auto" and states.dtype == torch.float32 and multiplies_bfloat16(states.device)
        loss: Tensor = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
            states, weight.to(states.dtype), targets, label_smoothing, scale, rows, low
        )
        return loss


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices faster than float32 ones.

    Args:
        device: Where the operands are.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    probes = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(probe is not None and probe() for probe in probes)


def _rows(classes: int, device: torch.device) -> int:
    budget = CHUNK_LOGITS.get(device.type, CHUNK_LOGITS["cuda"])
    return max(SMALLEST_CHUNK, budget // classes // SMALLEST_CHUNK * SMALLEST_CHUNK)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        targets: Tensor,
        smoothing: float,
        scale: float,
        rows: int,
        low: bool,
    ) -> Tensor:
        of_states, of_weight = ctx.needs_input_grad[:2]
        # 2^x takes half the time of e^x.
        left, right = states * math.log2(math.e), weight
        if low:
            left, right = left.bfloat16(), right.bfloat16()
        grad_states = torch.empty_like(states) if of_states else None
        grad_weight = torch.zeros_like(weight) if of_weight else None
        lse = states.new_empty(len(states))
        padded = -(-len(weight) // ALIGNED) * ALIGNED
        buffer = left.new_empty(min(rows, len(states)), padded)[:, : len(weight)]
        with fast_gemm(left, 512):
            for begin in range(0, len(states), rows):
                part = slice(begin, begin + rows)
                logits = torch.mm(left[part], right.T, out=buffer[: len(left[part])])
                top = logits.amax(1, keepdim=True)
                exponentials = logits.sub_(top).exp2_()
                total = exponentials.sum(1, keepdim=True, dtype=states.dtype)
                lse[part] = ((total.log2() + top) * math.log(2)).squeeze(1)
                if grad_states is not None:
                    grad_states[part] = torch.mm(exponentials, right).to(states.dtype) / total
                if grad_weight is not None:
                    normalised = states[part] / total
                    if low:
                        grad_weight += torch.mm(exponentials.T, normalised.bfloat16())
                    else:
                        grad_weight.addmm_(exponentials.T, normalised)
        mean_class = weight.mean(0) if smoothing else None
        chosen = F.embedding(targets, weight)
        goal = chosen if mean_class is None else torch.lerp(chosen, mean_class, smoothing)
        loss: Tensor = (lse.sum() - torch.linalg.vecdot(states, goal).sum()) * scale
        if grad_states is not None:
            grad_states.sub_(goal).mul_(scale)
        if grad_weight is not None:
            grad_weight.index_add_(0, targets, states, alpha=smoothing - 1)
            if smoothing:
                grad_weight.sub_(states.sum(0), alpha=smoothing / len(weight))
            grad_weight.mul_(scale)
        ctx.save_for_backward(states, weight, grad_states, grad_weight)
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        states, weight, *gradients = ctx.saved_tensors
        with torch.no_grad():
            scaled = [g if g is None else g * grad for g in gradients]
        of_states, of_weight = (
            g if g is None else once_differentiable(g, states, weight, grad) for g in scaled
        )
        return of_states, of_weight, None, None, None, None, None
