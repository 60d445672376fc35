r"""Cross-entropy over a sample of the classes, shared by all rows: for catalogues too large for all of them.

With K classes drawn by probabilities q, the denominator of row i is estimated by

.. math:: e^{s_{i t_i}} + \sum_{c \in \text{sample},\, c \neq t_i} \frac{e^{s_{ic}}}{K q_c}

which is right on average: the target itself is always there, and what the sample adds is weighted by how often it is
drawn (the logQ correction of Bengio and Senecal, 2008; that the target needs none: Khrylchenko et al., RecSys
2025). Draws that hit the target by accident are left out. Memory is O(N K).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.checks import check_features


def sampled_softmax(
    states: Tensor,
    weight: Tensor,
    targets: Tensor,
    sample: Tensor,
    log_expected: Tensor | None = None,
    *,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy of each row's target against a shared sample of classes.

    With every class in the sample once and no correction it is the full cross-entropy.

    Args:
        states: Rows, shape ``(N, d)``.
        weight: One row a class, shape ``(C, d)``.
        targets: Right class of each row, int64, shape ``(N,)``.
        sample: Classes drawn, int64, shape ``(K,)``; repeated ones count repeatedly.
        log_expected: Log of how often each of them is expected among K draws, ``log(K q)``, shape ``(K,)``; ``None``
            leaves the logits as they are.
        reduction: ``"mean"`` or ``"sum"`` over rows.

    Returns:
        Scalar.

    Raises:
        ValueError: If shapes do not fit.

    Example:
        >>> states, items = torch.zeros(2, 3), torch.ones(4, 3)
        >>> round(sampled_softmax(states, items, torch.tensor([0, 3]), torch.tensor([1, 3])).item(), 4)
        0.8959
    """
    check_features("states", states)
    check_features("weight", weight, like=states)
    if sample.dim() != 1 or len(sample) == 0:
        raise ValueError(f"sample: shape (K,) with K > 0 expected, got {tuple(sample.shape)}")
    if log_expected is not None and log_expected.shape != sample.shape:
        raise ValueError(
            f"log_expected: shape {tuple(sample.shape)} expected, got {tuple(log_expected.shape)}"
        )
    positive = torch.linalg.vecdot(states, F.embedding(targets, weight))
    logits = states @ F.embedding(sample, weight).T
    if log_expected is not None:
        logits = logits - log_expected
    logits = logits.masked_fill(sample == targets[:, None], -torch.inf)
    everything = torch.cat([positive[:, None], logits], 1)
    everything = everything.to(torch.promote_types(everything.dtype, torch.float32))
    return F.cross_entropy(everything, torch.zeros_like(targets), reduction=reduction)
