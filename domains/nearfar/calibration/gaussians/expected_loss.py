r"""Infinitely many draws at once: an upper bound of a linear layer's expected loss. Not in the paper.

For v ~ N(\mu_k, \Sigma_k) Jensen's inequality moves the expectation into the logarithm, where the moment generating
function of a Gaussian is known (as in implicit semantic data augmentation, Wang et al., NeurIPS 2019):

.. math::
    E[\ell_k(v)] \le \log \sum_j \exp\Big( (w_j - w_k)^\top \mu_k + b_j - b_k
        + \tfrac12 (w_j - w_k)^\top \Sigma_k (w_j - w_k) \Big)
"""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.calibration.gaussians.class_gaussians import ClassGaussians


def expected_cross_entropy_bound(
    weights: Tensor, bias: Tensor | None, gaussians: ClassGaussians, classes: Tensor
) -> Tensor:
    """Upper bound of the expected cross-entropy of a linear layer on draws of each wanted class; no draw is made.

    Equal to it where the covariance is zero. Not in the paper of RCAL; an option in place of its synthetic batches.

    Args:
        weights: Of the linear layer, shape ``(K, m)``.
        bias: Shape ``(K,)``.
        gaussians: Fitted, of K classes and m features.
        classes: Codes, int64, shape ``(B,)``.

    Returns:
        Shape ``(B,)``, differentiable by ``weights`` and ``bias``, in their dtype and on their device.

    Raises:
        ValueError: If shapes do not go together.
        DataError: If a class has no items, or there is none of this code.
    """
    means = gaussians.calibrated_means_
    if weights.shape != means.shape or (bias is not None and bias.shape != weights.shape[:1]):
        got = f"{tuple(weights.shape)} and {None if bias is None else tuple(bias.shape)}"
        raise ValueError(
            f"weights, bias: shapes {tuple(means.shape)} and ({len(means)},) expected, got {got}"
        )
    codes = classes.cpu()
    gaussians.check_codes(codes)
    composition, factors = gaussians.composition_, gaussians.factors_
    wanted, places = codes.unique(return_inverse=True)
    projected: dict[int, Tensor] = {}
    losses = []
    for k in wanted.tolist():
        logits = weights @ means[k].to(weights)
        if bias is not None:
            logits = logits + bias
        spread = torch.zeros_like(logits)
        for source, share in composition.parts(k):
            if source not in projected:
                projected[source] = factors[source].to(weights) @ weights.t()
            spread = spread + share * (projected[source] - projected[source][:, k : k + 1]).square().sum(0)
        if composition.ridged[k]:
            apart = weights - weights[k]
            along = apart.sum(1).square() if composition.ridge == "ones" else apart.square().sum(1)
            spread = spread + composition.alpha * along
        losses.append(torch.logsumexp(logits - logits[k] + spread / 2, 0))
    return torch.stack(losses)[places.to(weights.device)] if losses else weights.new_zeros(0)
