"""Cross-entropy and predictions corrected for how often each class was seen in training.

Balanced softmax: Ren et al., "Balanced meta-softmax for long-tailed visual recognition", NeurIPS 2020, equation 3.
Logit adjustment: Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, section 4.1. The first puts the
class sizes into the training loss, so that predictions are for balanced classes; the second takes them out of the
logits of an ordinary classifier. Use one of them.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.checks import check_features


def balanced_softmax(
    logits: Tensor,
    target: Tensor,
    counts: Tensor | NDArray[Any],
    *,
    reduction: Literal["mean", "sum"] = "mean",
) -> Tensor:
    """Cross-entropy of ``logits + log(counts)``.

    A class without items is left out of the softmax: nothing is pushed towards it or away from it, and its logit
    gets no gradient.

    Args:
        logits: Shape ``(B, K)``.
        target: Class codes, int64, shape ``(B,)``; or probabilities, shape ``(B, K)``, as mixup makes them.
        counts: Training items of each class, shape ``(K,)``; only their proportions matter.
        reduction: Over the batch.

    Returns:
        Scalar.

    Raises:
        ValueError: If shapes or types do not go together, there are no rows, no class has items, or (seen on a CPU;
            elsewhere the loss is infinite) a target is a class without items.

    Example:
        >>> logits = torch.zeros(1, 2)
        >>> balanced_softmax(logits, torch.tensor([1]), torch.tensor([3, 1])).exp().round().item()
        4.0
    """
    prior = _log_prior(logits, counts)
    if not len(logits):
        raise ValueError(f"logits: at least one row expected, got shape {tuple(logits.shape)}")
    classes = logits.shape[1]
    by_code = target.dtype == torch.int64 and target.shape == logits.shape[:1]
    if not by_code and not (target.is_floating_point() and target.shape == logits.shape):
        raise ValueError(
            f"target: int64 of shape ({len(logits)},) or probabilities of shape {tuple(logits.shape)} expected, got "
            f"{target.dtype} of shape {tuple(target.shape)}"
        )
    absent = prior == -torch.inf
    if target.device.type == "cpu":
        if by_code and bool(((target < 0) | (target >= classes)).any()):
            raise ValueError(f"target: classes from 0 to {classes - 1} expected, got {target.tolist()}")
        used = absent[target] if by_code else (target.to(absent.device) > 0) & absent
        if bool(used.any()):
            raise ValueError(f"target: row {used.nonzero()[0, 0].item()} is of a class whose count is 0")
    # Half precision has too few digits for the logarithms.
    wide = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    # No sum with an infinite prior: the gradient of an absent logit is to be zero.
    log_probability = torch.log_softmax((wide + prior).masked_fill(absent, -torch.inf), 1)
    if by_code:
        total = -log_probability.gather(1, target[:, None]).sum()
    else:  # nothing times minus infinity is not a number
        total = -torch.where(target > 0, target * log_probability, 0).sum()
    return total / len(logits) if reduction == "mean" else total


def logit_adjustment(logits: Tensor, counts: Tensor | NDArray[Any], tau: float = 1.0) -> Tensor:
    """``logits - tau * log(prior)``: predictions for balanced classes from a classifier trained on unbalanced ones.

    Args:
        logits: Shape ``(B, K)``.
        counts: Training items of each class, shape ``(K,)``.
        tau: Strength; 1 is the correction by Bayes' rule, 0 none.

    Returns:
        Shape ``(B, K)``. A class without items, of which nothing was learnt, gets minus infinity: it is never
        predicted.

    Raises:
        ValueError: If shapes do not go together, or no class has items.

    Example:
        >>> logits = torch.log(torch.tensor([[0.6, 0.4]]))
        >>> logit_adjustment(logits, torch.tensor([9, 1])).argmax(1).item()
        1
    """
    prior = _log_prior(logits, counts)
    return (logits - tau * prior.to(logits.dtype)).masked_fill(prior == -torch.inf, -torch.inf)


def _log_prior(logits: Tensor, counts: Tensor | NDArray[Any]) -> Tensor:
    """Logarithm of each class's share, (K,); minus infinity for an empty one."""
    check_features("logits", logits, shape="(B, K)")
    sizes = torch.as_tensor(counts, device=logits.device)
    if logits.dim() != 2 or sizes.shape != logits.shape[1:]:
        raise ValueError(
            f"counts: logits (B, K) and counts (K,) expected, got shapes {tuple(logits.shape)} and {tuple(sizes.shape)}"
        )
    if sizes.device.type == "cpu" and not (bool((sizes >= 0).all()) and bool((sizes > 0).any())):
        raise ValueError(f"counts: numbers of at least 0, not all 0, expected, got {sizes.tolist()}")
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    return torch.log(sizes.double() / sizes.double().sum()).to(dtype)
