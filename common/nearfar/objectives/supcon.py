r"""Pick samples of one's own class (SupCon, Khosla et al., NeurIPS 2020, eq. 2, the sum outside the logarithm).

.. math:: \ell_i = -\frac{1}{|P(i)|} \sum_{p \in P(i)} \log \frac{e^{s_{ip}}}{\sum_{j \neq i} e^{s_{ij}}}

P(i) are the other rows with the label of row i. Rows without any are left out of the mean; a negative label has none.
With ``anchors`` the mean is over those rows alone, and the others are keys only, as in continual learning (COCONUT:
only rows of the memory are anchors). Keys that are not to move are detached by the caller, as
:class:`nearfar.objectives.coact.CoACT` does.

Differs from the official code: the factor temperature / base_temperature is 1 unless ``base_temperature`` is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nearfar.checks import check_positive
from nearfar.objectives.contrast import Temperature
from nearfar.objectives.denominator import Rule
from nearfar.objectives.logsumexp import Backend
from nearfar.objectives.softmax import SoftmaxObjective

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class SupCon(SoftmaxObjective):
    """Supervised contrastive loss.

    Args:
        temperature: A positive number, or a module that returns one, such as ``LearnableTemperature()``.
        base_temperature: Multiplies the loss by temperature / base_temperature; ``None`` for no factor.
        backend: As of :func:`contrast`.
        group: As of :func:`contrast`.

    Raises:
        ValueError: If ``base_temperature`` is not positive.

    Example:
        >>> import torch
        >>> round(SupCon()(torch.ones(4, 2), torch.tensor([0, 0, 1, 1])).item(), 4)  # log 3
        1.0986
    """

    def __init__(
        self,
        temperature: Temperature = 0.1,
        *,
        base_temperature: float | None = None,
        backend: Backend = "auto",
        group: ProcessGroup | None = None,
    ) -> None:
        if base_temperature is not None:
            check_positive(base_temperature=base_temperature)
        super().__init__(temperature, backend, group, base_temperature=base_temperature)
        self.base_temperature = base_temperature

    def forward(
        self,
        z: Tensor,
        labels: Tensor,
        denominator: Rule | None = None,
        *,
        anchors: Tensor | None = None,
    ) -> Tensor:
        """Scalar loss.

        Args:
            z: Features, shape ``(..., N, d)``, all views stacked.
            labels: Integers, shape ``(N,)`` or ``(..., N)``; views of one sample carry the same.
            denominator: As of :func:`contrast`, for instance to leave rows out of the negatives.
            anchors: Rows whose loss counts, bool, shape ``(N,)`` or ``(..., N)``; ``None`` for all.

        Raises:
            ValueError: If a shape or dtype does not fit, no two rows share a label, or no row is an anchor.
        """
        options = {} if anchors is None else {"row_weight": _as_weights(anchors, z)}
        loss = self._contrast(z, positives=labels, denominator=denominator, **options)
        if self.base_temperature is None:
            return loss
        return loss * (self._current_temperature() / self.base_temperature)


def _as_weights(anchors: Tensor, z: Tensor) -> Tensor:
    wanted = (tuple(z.shape[-2:-1]), tuple(z.shape[:-1]))
    if anchors.dtype != torch.bool or tuple(anchors.shape) not in wanted:
        raise ValueError(
            f"anchors: bool of shape {' or '.join(map(str, dict.fromkeys(wanted)))} expected, got {anchors.dtype} of "
            f"shape {tuple(anchors.shape)}"
        )
    if anchors.device.type == "cpu" and not bool(anchors.any()):
        raise ValueError("anchors: at least one row expected, got none")
    return anchors.to(z.dtype)
