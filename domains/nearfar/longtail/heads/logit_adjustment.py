"""Plain cross-entropy, then the prior taken out: Menon et al., ICLR 2021, section 4.1."""

from __future__ import annotations

import torch
from torch import nn

from nearfar.labels import logit_adjustment
from nearfar.longtail.heads.config import HeadConfig
from nearfar.longtail.heads.labelled_features import LabelledFeatures
from nearfar.longtail.heads.sgd import Plan, cross_entropy_among, train_linear

PLAN = Plan(epochs=200, warmup=5 / 200, schedule="cosine")


def adjusted_cross_entropy(data: LabelledFeatures, config: HeadConfig, seed: int = 0) -> nn.Linear:
    """The correction is in the bias: ``bias - tau * log(prior)``.

    Args:
        data: What to learn from.
        config: Settings of SGD, ``standardize``, ``tau``.
        seed: Of the order.
    """
    layer = train_linear(data, cross_entropy_among(data.absent), PLAN, config, seed)
    with torch.no_grad():
        counts = torch.from_numpy(data.counts).to(layer.bias.device)
        nothing = torch.zeros_like(layer.bias)[None]
        layer.bias.add_(logit_adjustment(nothing, counts, config.tau)[0])
    return layer
