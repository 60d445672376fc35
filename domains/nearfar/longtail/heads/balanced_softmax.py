"""A linear layer under balanced softmax: Ren et al., NeurIPS 2020."""

from __future__ import annotations

import torch
from torch import nn

from nearfar.labels import balanced_softmax
from nearfar.longtail.heads.config import HeadConfig
from nearfar.longtail.heads.labelled_features import LabelledFeatures
from nearfar.longtail.heads.sgd import Plan, train_linear

PLAN = Plan(epochs=200, warmup=5 / 200, schedule="cosine")


def linear_balanced_softmax(data: LabelledFeatures, config: HeadConfig, seed: int = 0) -> nn.Linear:
    """Class sizes are in the loss, so logits are those of balanced classes.

    Args:
        data: What to learn from.
        config: Settings of SGD, ``standardize``.
        seed: Of the order.
    """
    counts = torch.from_numpy(data.counts).to(data.features.device)
    return train_linear(
        data, lambda logits, target, _: balanced_softmax(logits, target, counts), PLAN, config, seed
    )
