"""The class whose mean is nearest, by cosine or Euclidean distance: nothing is trained, all classes count alike."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from nearfar.classification.cosine_linear import CosineLinear
from nearfar.labels import class_counts
from nearfar.longtail.heads.config import HeadConfig
from nearfar.longtail.heads.labelled_features import LabelledFeatures
from nearfar.longtail.heads.scaling import ColumnScaling


def nearest_mean(data: LabelledFeatures, config: HeadConfig, seed: int = 0) -> nn.Module:  # noqa: ARG001 - draws nothing
    """Cosine: to the mean of unit features. Euclidean: logits are minus half the squared distance, up to a constant.

    The constant, one a row, makes it a linear layer: it is the classifier of Gaussians with equal priors and the
    identity as covariance.

    Args:
        data: What to learn from; copies of a row count like rows.
        config: ``metric``, and ``scale`` of cosines.
        seed: Not used.
    """
    rows, codes = data.stacked()
    if config.metric == "cosine":
        means = _means(F.normalize(rows.double(), dim=1), codes, len(data.counts))
        return CosineLinear(means.to(rows), data.absent, scale=config.scale)
    # Distances do not change with the origin, but keep their digits near it.
    center = rows.double().mean(0)
    means = _means(rows.double() - center, codes, len(data.counts))
    moved = ColumnScaling(center, torch.ones_like(center))
    return moved.folded(means, -means.square().sum(1) / 2, data.absent, rows)


def _means(rows: Tensor, codes: NDArray[np.int64], classes: int) -> Tensor:
    """Means of the rows of each class, shape ``(K, m)``; 0 without rows."""
    # Class by class: adding by index is in any order on CUDA.
    order = torch.from_numpy(np.argsort(codes, kind="stable")).to(rows.device)
    parts = rows[order].split(class_counts(codes, classes).tolist())
    return torch.stack([part.sum(0) / max(len(part), 1) for part in parts])
