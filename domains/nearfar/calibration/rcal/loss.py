r"""Stage two on real rows: mixed rows, mixed labels, and a price for leaving the representations of stage one.

.. math:: L = \mathrm{CE}\big(h(f(x_{ij})), \lambda \tilde y_i + (1 - \lambda) \tilde y_j\big)
          + \beta \, \lVert f(x_i) - z^0_i \rVert^2, \qquad \lambda \sim \mathrm{Beta}(a, a)

(RCAL, Zhang et al., ICCV 2023, section 3.3; mixup, Zhang et al., ICLR 2018.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.adapters import convex
from nearfar.augment.draws import beta
from nearfar.objectives.balanced_softmax import balanced_softmax
from nearfar.objectives.views import at_least_float32
from nearfar.runtime import to_device


@dataclass(frozen=True)
class Mixture:
    """Who is mixed with whom, and how much of each: one share for the batch.

    Attributes:
        order: Partner of every row, int64, shape ``(B,)``.
        share: Of the row itself, shape ``()``.
    """

    order: Tensor
    share: Tensor

    @classmethod
    def draw(cls, like: Tensor, a: float, generator: torch.Generator) -> Mixture:
        """Partners at random.

        Args:
            like: Gives number of rows, device and precision; shape ``(B, ...)``.
            a: Of Beta(a, a); 0 gives a share of 1.
            generator: Of the CPU.
        """
        order = to_device(torch.randperm(len(like), generator=generator), like.device)
        share = beta(a, like[:1], generator)[0] if a > 0 else like.new_ones(())
        return cls(order, share)

    def of(self, values: Tensor) -> Tensor:
        """Rows mixed with those of their partners.

        Args:
            values: Shape ``(B, ...)``.
        """
        return convex(values, self.order, self.share)


def soft_labels(given: Tensor, num_classes: int, weights: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Labels as probabilities; rows of weight 0 get none at all.

    Args:
        given: Shape ``(B,)``.
        num_classes: K.
        weights: Of every row, shape ``(B,)``; ``None`` is 1.
        dtype: Of the result.

    Returns:
        Shape ``(B, K)``.
    """
    # Not F.one_hot, which looks at the largest label.
    hot = torch.zeros(len(given), num_classes, dtype=dtype, device=given.device)
    hot.scatter_(1, given[:, None], 1.0)
    return hot if weights is None else hot * weights[:, None].to(dtype)


def classification_loss(logits: Tensor, targets: Tensor, counts: Tensor | None) -> Tensor:
    """Sum over the rows of the cross-entropy with soft labels.

    Args:
        logits: Shape ``(B, K)``.
        targets: Not negative, shape ``(B, K)``; rows may add up to less than 1.
        counts: Rows of every class, shape ``(K,)``, for a balanced softmax; ``None`` for a plain one.
    """
    if counts is None:
        return -(targets * F.log_softmax(at_least_float32(logits), 1)).sum()
    return balanced_softmax(logits, targets, counts, reduction="sum")


def drift(z: Tensor, anchor: Tensor) -> Tensor:
    """Squared distances to the representations of stage one, shape ``(B,)``.

    Args:
        z: Shape ``(B, m)``.
        anchor: Constant, shape ``(B, m)``.
    """
    return (z.to(anchor.dtype) - anchor).square().sum(1)
