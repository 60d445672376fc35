r"""POT's loss: a logistic loss on node compactness, mixed with any contrast.

.. math:: L = (1 - \kappa)\, L_{contrast} + \frac{\kappa}{2} \sum_{v = 1, 2} \frac{1}{N} \sum_i
          \log\bigl(1 + e^{-\lambda f^{(v)}_i}\bigr)

(Yu et al., NeurIPS 2023). At the start compactness is about 0 and POT's part log 2. Scores are small (0.05 to 0.2 on
Cora), where the logistic loss is nearly linear and weights all nodes alike; ``logit_scale`` :math:`\lambda` (1 as
published) says how far it looks at the badly trained ones.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nearfar.errors import ConfigError


class POTLoss(nn.Module):
    """Adds POT to a contrastive loss.

    Args:
        kappa: Weight of POT, in [0, 1].
        logit_scale: Positive number, or ``"auto"``: one over the standard deviation of the scores, without gradient.

    Raises:
        ConfigError: If a number is out of bounds.

    Example:
        >>> loss = POTLoss(kappa=0.5)(torch.tensor(7.0), torch.zeros(3), torch.zeros(3))
        >>> round(loss.item(), 4)  # (7 + log 2) / 2
        3.8466
    """

    def __init__(self, kappa: float = 0.4, logit_scale: float | Literal["auto"] = 1.0) -> None:
        super().__init__()
        if not 0 <= kappa <= 1:
            raise ConfigError(f"kappa: 0 to 1 expected, got {kappa}")
        number = isinstance(logit_scale, (int, float)) and 0 < logit_scale < math.inf
        if logit_scale != "auto" and not number:
            raise ConfigError(f"logit_scale: a positive number or 'auto' expected, got {logit_scale!r}")
        self.kappa, self.logit_scale = kappa, logit_scale

    def forward(self, contrast: Tensor, *scores: Tensor) -> Tensor:
        """The mixed loss.

        Args:
            contrast: Of the base model, a scalar.
            scores: Compactness of the nodes in each view, shape ``(n,)``.

        Returns:
            Scalar.

        Raises:
            ConfigError: If no scores are given.
        """
        if not scores:
            raise ConfigError("scores: compactness of one view at least expected, got none")
        return self.mix(contrast, self.penalty(*scores))

    def penalty(self, *scores: Tensor) -> Tensor:
        """Mean logistic loss over nodes and views.

        Args:
            scores: Compactness in each view, shape ``(n,)``.
        """
        return torch.stack([F.softplus(-score * self._scale(score)).mean() for score in scores]).mean()

    def mix(self, contrast: Tensor, pot: Tensor) -> Tensor:
        """Both parts by their weights.

        Args:
            contrast: Of the base model, a scalar.
            pot: :meth:`penalty` of the views, a scalar.
        """
        return (1 - self.kappa) * contrast + self.kappa * pot

    def _scale(self, score: Tensor) -> float | Tensor:
        if self.logit_scale != "auto":
            return float(self.logit_scale)
        tiny = torch.finfo(score.dtype).tiny
        return 1 / score.detach().std(correction=0).clamp(min=tiny**0.5)
