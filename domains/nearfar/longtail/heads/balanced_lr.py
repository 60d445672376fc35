"""Logistic regression in which all classes weigh the same: deterministic, to the optimum."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from nearfar.longtail.heads.config import HeadConfig
from nearfar.longtail.heads.labelled_features import LabelledFeatures
from nearfar.longtail.heads.scaling import ColumnScaling
from nearfar.optional import require

MAX_ITERATIONS = 10_000


def balanced_lr(data: LabelledFeatures, config: HeadConfig, seed: int = 0) -> nn.Linear:  # noqa: ARG001 - draws nothing
    """Multinomial logistic regression on standardised features, ``class_weight="balanced"``.

    Args:
        data: What to learn from; of several copies of a row each counts for its share.
        config: ``strength``.
        seed: Not used.

    Returns:
        Logits of features as they are. With two classes the first one's is 0, as scikit-learn has it.

    Raises:
        MissingDependencyError: If scikit-learn is not installed.
    """
    linear: Any = require("sklearn.linear_model", "balanced logistic regression")
    rows, codes = data.stacked()
    scaling = ColumnScaling.of(rows)
    weight = np.zeros((len(data.counts), rows.shape[1]))
    bias = np.zeros(len(data.counts))
    present = np.flatnonzero(data.counts)
    if len(present) > 1:  # one class scikit-learn refuses
        model = linear.LogisticRegression(
            class_weight="balanced", C=config.strength / len(data.features), max_iter=MAX_ITERATIONS
        )
        model.fit(scaling.scaled(rows.double()).cpu().numpy(), codes)
        # Two classes have one row of coefficients, that of the second.
        places = present[-len(model.coef_) :]
        weight[places], bias[places] = model.coef_, model.intercept_
    found, offset = (torch.from_numpy(part).to(rows.device) for part in (weight, bias))
    return scaling.folded(found, offset, data.absent, rows)
