"""Votes of the most similar training rows, each divided by the size of the class it is for."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nearfar.labels import default_neighbors
from nearfar.longtail.heads.config import HeadConfig
from nearfar.longtail.heads.labelled_features import LabelledFeatures
from nearfar.neighbors import nearest


class NeighborVote(nn.Module):
    """``log(m_j / n_j + 1 / n)``: m_j of the k nearest rows by cosine, and n_j of all n, are of class j.

    The second term is one further vote, spread over all rows: it keeps logits finite and changes no order.

    Args:
        features: Training rows, shape ``(n, m)``.
        codes: Their classes, int64, shape ``(n,)``.
        num_classes: K.
        k: Rows that vote, at most n.

    Example:
        >>> head = NeighborVote(torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), torch.tensor([0, 0, 1]), 2, 1)
        >>> head(torch.tensor([[5.0, 1.0], [1.0, 9.0]])).argmax(1).tolist()
        [0, 1]
    """

    features: Tensor
    codes: Tensor
    counts: Tensor

    def __init__(self, features: Tensor, codes: Tensor, num_classes: int, k: int) -> None:
        super().__init__()
        self.k = min(k, len(features))
        self.register_buffer("features", features)
        self.register_buffer("codes", codes)
        self.register_buffer("counts", torch.bincount(codes, minlength=num_classes))

    def forward(self, features: Tensor) -> Tensor:
        """Logits, without gradient.

        Args:
            features: Shape ``(B, m)``, of the precision of the training rows. A row of zeros points nowhere: all
                classes that have rows get the same logit.

        Returns:
            Shape ``(B, K)``; minus infinity for a class without rows.
        """
        voters = self.codes[nearest(features, self.k, self.features, metric="cosine")[1]]
        count, classes = len(voters), len(self.counts)
        cells = voters + classes * torch.arange(count, device=voters.device)[:, None]
        votes = torch.bincount(cells.flatten(), minlength=count * classes).view(count, classes)
        votes = votes * (features != 0).any(1, keepdim=True)
        logits = torch.log(votes / self.counts.clamp(min=1) + 1 / len(self.codes))
        return logits.to(self.features.dtype).masked_fill(self.counts == 0, -torch.inf)


def knn(data: LabelledFeatures, config: HeadConfig, seed: int = 0) -> NeighborVote:  # noqa: ARG001 - draws nothing
    """Keep the training rows.

    Args:
        data: Rows that vote; of several copies all vote, so many times as many.
        config: ``neighbors``.
        seed: Not used.
    """
    rows, codes = data.stacked()
    k = config.neighbors or default_neighbors(len(data.codes))
    return NeighborVote(
        rows.clone(), torch.from_numpy(codes).to(rows.device), len(data.counts), k * len(data.features)
    )
