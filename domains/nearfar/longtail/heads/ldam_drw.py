"""Label-distribution-aware margins (LDAM) and deferred re-weighting (DRW): Cao et al., NeurIPS 2019, section 3.

As SBCL's second stage on CIFAR uses them: a rare class keeps a wider margin, in units of the cosine.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.classification.cosine_linear import CosineLinear
from nearfar.labels.codes import Values
from nearfar.longtail.heads.config import HeadConfig
from nearfar.longtail.heads.effective_number import class_sizes, effective_number_weights
from nearfar.longtail.heads.labelled_features import LabelledFeatures
from nearfar.longtail.heads.sgd import Plan, train_head
from nearfar.runtime import generator

PLAN = Plan(epochs=200, warmup=5 / 200, schedule="constant", drops=(0.7, 0.9))


def ldam_margins(counts: Values, largest: float = 0.5) -> Tensor:
    """Margins that fall with the fourth root of the class size: ``largest * (n / smallest n)^(-1/4)``.

    Args:
        counts: Items of each class, shape ``(K,)``.
        largest: Margin of the rarest class that has items.

    Returns:
        Float64, shape ``(K,)``; 0 for a class without items.

    Raises:
        DataError: If a count is negative or not finite, or no class has items.

    Example:
        >>> ldam_margins([16, 1, 0]).tolist()
        [0.25, 0.5, 0.0]
    """
    sizes = class_sizes(counts)
    root = torch.where(sizes > 0, sizes, 1).pow(-0.25) * (sizes > 0)
    return largest * root / root.max()


def ldam_loss(
    logits: Tensor, target: Tensor, margins: Tensor, weights: Tensor | None = None, *, scale: float = 30.0
) -> Tensor:
    """Cross-entropy in which the cosine of the right class is less its margin.

    Args:
        logits: ``scale`` times cosines, shape ``(B, K)``; minus infinity for classes to leave out.
        target: Classes, int64, shape ``(B,)``.
        margins: Shape ``(K,)``.
        weights: Of the classes, shape ``(K,)``; the mean over the batch is weighted by them.
        scale: Of the logits.

    Returns:
        Scalar.
    """
    own = F.one_hot(target, logits.shape[1]).to(logits.dtype)
    return F.cross_entropy(logits - scale * margins * own, target, weight=weights)


def ldam_drw(data: LabelledFeatures, config: HeadConfig, seed: int = 0) -> CosineLinear:
    """SGD: 5 of 200 passes of warm-up, a tenth of the rate after 70 %, a hundredth after 90 %.

    Classes are weighted from the first pass on, as in SBCL's released code, unless ``drw_from`` defers it. Differs from
    that code: its rate is negative in the first pass, here it rises from 0.

    Args:
        data: What to learn from.
        config: Settings of SGD, ``margin``, ``scale``, ``effective``, ``drw_from``.
        seed: Of initial directions and order.
    """
    x = data.features
    start = torch.randn(len(data.counts), x.shape[2], generator=generator(seed, "head"))
    head = CosineLinear(start.to(x), data.absent, scale=config.scale)
    margins = ldam_margins(data.counts, config.margin).to(x)
    weights = effective_number_weights(data.counts, config.effective).to(x)

    def loss(logits: Tensor, target: Tensor, done: float) -> Tensor:
        deferred = None if done < config.drw_from else weights
        return ldam_loss(logits, target, margins, deferred, scale=config.scale)

    train_head(head, data, loss, PLAN, config, seed)
    return head
