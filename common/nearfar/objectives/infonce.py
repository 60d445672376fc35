r"""Pick the other view of a sample among those of all samples (InfoNCE, van den Oord et al., 2018, eq. 4).

.. math:: \ell_i = -\log \frac{e^{s_{ii}}}{\sum_j e^{s_{ij}}}, \qquad s_{ij} = \cos(q_i, k_j) / \tau

``symmetric=True`` averages it with the same loss of keys over rows (CLIP, Radford et al., ICML 2021). With a ``queue``
only the queue's keys are negatives (MoCo, He et al., CVPR 2020).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from nearfar.objectives.contrast import Temperature
from nearfar.objectives.logsumexp import Backend
from nearfar.objectives.similarity import Similarity
from nearfar.objectives.softmax import SoftmaxObjective

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

    from nearfar.objectives.queue import KeyQueue


class InfoNCE(SoftmaxObjective):
    """Cross-view InfoNCE.

    Args:
        temperature: A positive number, or a module that returns one, such as ``LearnableTemperature()``.
        symmetric: Whether to average both directions.
        similarity: As of :func:`contrast`.
        backend: As of :func:`contrast`.
        group: As of :func:`contrast`.

    Example:
        >>> import torch
        >>> round(InfoNCE()(torch.ones(4, 2), torch.ones(4, 2)).item(), 4)  # chance: log 4
        1.3863
    """

    def __init__(
        self,
        temperature: Temperature = 0.1,
        *,
        symmetric: bool = False,
        similarity: Similarity = "cosine",
        backend: Backend = "auto",
        group: ProcessGroup | None = None,
    ) -> None:
        super().__init__(temperature, backend, group, symmetric=symmetric, similarity=similarity)

    def forward(self, q: Tensor, k: Tensor, queue: KeyQueue | None = None) -> Tensor:
        """Scalar loss.

        Args:
            q: Anchors, shape ``(..., N, d)``.
            k: Keys, same shape as ``q``; row i belongs to row i of ``q``.
            queue: Negatives in place of the other keys of the batch.
        """
        symmetric, similarity = self.config["symmetric"], self.config["similarity"]
        return self._contrast(q, k, queue=queue, symmetric=symmetric, similarity=similarity)
