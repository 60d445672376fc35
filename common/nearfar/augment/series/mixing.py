"""Samples mixed with each other: mixup (Zhang et al., ICLR 2018, section 1) without labels.

Differs from the paper: the larger share always stays with the sample itself, because in contrastive
learning there is no second label to mix, and the partner is never the sample itself in a batch of two or more.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nearfar.augment.draws import beta
from nearfar.augment.series.batch import Batch
from nearfar.augment.series.operation import SeriesOp
from nearfar.augment.series.view import ViewParams
from nearfar.augment.strength import Strength, check_strength


@dataclass(frozen=True)
class Mixup(SeriesOp):
    r"""A convex combination with another sample of the batch, :math:`\lambda x + (1 - \lambda) x'`.

    :math:`\lambda = \max(s, 1 - s)` with s from Beta(alpha, alpha). Steps where either sample has
    padding stay as they are.

    Args:
        alpha: In [0.05, 1000], larger mixes more; a number or shape ``(B,)``.

    Example:
        >>> x = torch.tensor([[[0.0]], [[1.0]]])
        >>> view = Mixup(alpha=1000.0)(x, torch.Generator().manual_seed(0)).apply(x)
        >>> [round(value, 1) for value in view.flatten().tolist()]  # almost half and half
        [0.5, 0.5]
    """

    alpha: Strength = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_strength("alpha", self.alpha, 0.05, 1000)

    @property
    def reads_values(self) -> bool:
        """Yes, those of the partner."""
        return True

    def _draw(self, batch: Batch) -> ViewParams:
        x = batch.x
        batch.strength("alpha", self.alpha, 1)  # one for every sample
        share = beta(self.alpha, x, batch.generator)[:, None, None]
        share = torch.maximum(share, 1 - share)
        # Everybody's partner is the next one on a random circle.
        circle = batch.uniform().argsort()
        partner = torch.empty_like(circle).scatter(0, circle, circle.roll(-1))
        if batch.valid is None:
            return ViewParams(gain=share, offset=(1 - share) * x[partner])
        both = (batch.valid & batch.valid[partner])[..., None]
        return ViewParams(
            gain=torch.where(both, share, 1.0), offset=(1 - share) * x[partner].masked_fill(~both, 0)
        )
