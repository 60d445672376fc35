"""Classifier re-training (cRT): Kang et al., "Decoupling representation and classifier", ICLR 2020, section 4.1."""

from __future__ import annotations

from torch import nn

from nearfar.longtail.heads.balanced_order import balanced_order
from nearfar.longtail.heads.config import HeadConfig
from nearfar.longtail.heads.labelled_features import LabelledFeatures
from nearfar.longtail.heads.sgd import Plan, cross_entropy_among, train_linear

PLAN = Plan(epochs=45, warmup=5 / 45, schedule="cosine")


def crt(data: LabelledFeatures, config: HeadConfig, seed: int = 0) -> nn.Linear:
    """Cross-entropy on batches that have as many rows of every class.

    A pass has about as many draws as there are rows.

    Args:
        data: What to learn from.
        config: Settings of SGD, ``standardize``.
        seed: Of the order.
    """
    return train_linear(
        data,
        cross_entropy_among(data.absent),
        PLAN,
        config,
        seed,
        lambda epoch: balanced_order(data.codes, seed, epoch),
    )
