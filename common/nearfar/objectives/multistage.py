r"""Negatives that all earlier stages took for the same (MCL, multistage learning, Zhang et al., ECCV 2024).

.. math:: \ell_i = -\log \frac{e^{s_{i \pi(i)}}}{\sum_{j \neq i,\, c_j = c_i} e^{s_{ij}}},
          \qquad c^{(s+1)} = K \, c^{(s)} + \mathrm{cluster}^{(s)}

over the rows of both views. The code c is 0 in the first stage, which is then NT-Xent; after each stage the rows are
clustered by their features, and equal codes mean the same cluster in every stage so far. What told rows apart before
does not help any more: the next stage has to find other features.

Differs from the official code: its label script reads the file of the current stage once for every stage, so that its
codes are no intersection. Clusters here are balanced, so that no row is left with few negatives, where the paper uses
MiniBatchKMeans; they are made of the last features seen of every row; and one encoder goes through all stages, where
the paper trains one after the other and joins their features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.checks import check_counts, check_ids
from nearfar.cluster import balanced_kmeans
from nearfar.objectives.contrast import Temperature
from nearfar.objectives.denominator import OnlySame
from nearfar.objectives.logsumexp import Backend
from nearfar.objectives.similarity import smooth_normalize
from nearfar.objectives.softmax import SoftmaxObjective
from nearfar.objectives.step_count import StepCount
from nearfar.objectives.views import at_least_float32, check_views
from nearfar.runtime import generator


def stage_codes(previous: Tensor, clusters: Tensor, num_clusters: int) -> Tensor:
    """Codes that are equal where the old ones and the clusters are.

    Args:
        previous: Codes of the stages before, int64, shape ``(n,)``, at least 0.
        clusters: Clusters of this stage, int64, shape ``(n,)``, from 0 to ``num_clusters - 1``.
        num_clusters: K.

    Returns:
        int64, shape ``(n,)``: the last digit to base K is the cluster, the others are the old code.

    Raises:
        ValueError: If a shape, dtype or value does not fit, or a code leaves the range of int64.

    Example:
        >>> stage_codes(torch.tensor([0, 0, 1]), torch.tensor([2, 0, 2]), 3).tolist()
        [2, 0, 5]
    """
    check_counts(num_clusters=num_clusters)
    num_rows = previous.numel()
    check_ids("previous", previous, num_rows, lowest=0, below=2**63 // num_clusters)
    check_ids("clusters", clusters, num_rows, lowest=0, below=num_clusters)
    return previous * num_clusters + clusters


class MultistageInfoNCE(StepCount, SoftmaxObjective):
    """NT-Xent of two views, whose negatives have the code of the row.

    Call :meth:`after_step` after every step of the optimiser: it notes the features of the last call, and ends a stage
    when ``stage_steps`` of them were made.

    Args:
        dim: Width of a row, d.
        num_rows: Rows of the training set.
        temperature: A positive number, or a module that returns one.
        clusters: Of every stage, K.
        stages: In all; after the last one no rows are clustered.
        stage_steps: Steps of a stage, at least those of an epoch: a row not seen yet counts as one of cluster 0.
        seed: Of k-means.
        backend: As of :func:`contrast`.

    Attributes:
        features: Unit features of every row when it was last seen, shape ``(num_rows, d)``; zeros before.
        codes: Of every row, int64, shape ``(num_rows,)``.
        steps: Calls of :meth:`after_step` so far.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> x = torch.ones(4, 3)
        >>> round(MultistageInfoNCE(3, 4)(x, x, torch.arange(4)).item(), 4)  # chance: log 7
        1.9459
    """

    features: Tensor
    codes: Tensor

    def __init__(
        self,
        dim: int,
        num_rows: int,
        temperature: Temperature = 0.1,
        *,
        clusters: int = 10,
        stages: int = 3,
        stage_steps: int = 1000,
        seed: int = 0,
        backend: Backend = "auto",
    ) -> None:
        sizes = {"dim": dim, "num_rows": num_rows, "clusters": clusters, "stages": stages}
        check_counts(**sizes, stage_steps=stage_steps)
        if clusters ** (stages - 1) >= 2**63:
            raise ValueError(
                f"stages: clusters ** (stages - 1) below 2^63 expected, got {clusters} ** {stages - 1}"
            )
        super().__init__(temperature, backend, None, **sizes, stage_steps=stage_steps, seed=seed)
        self.register_buffer("features", torch.zeros(num_rows, dim))
        self.register_buffer("codes", torch.zeros(num_rows, dtype=torch.int64))
        self._seen: tuple[Tensor, Tensor] | None = None

    def forward(self, first: Tensor, second: Tensor, rows: Tensor) -> Tensor:
        """Scalar loss.

        Args:
            first: First view, shape ``(N, d)``.
            second: Second view, same shape; row i shows the sample of row i of ``first``.
            rows: Their numbers in the training set, int64, shape ``(N,)``.

        Raises:
            ValueError: If a shape, dtype or number does not fit.
        """
        check_views(1, self.config["dim"], first=first, second=second)
        check_ids("rows", rows, len(first), lowest=0, below=len(self.codes))
        z1, z2 = at_least_float32(first), at_least_float32(second)
        # The direction halfway between the views.
        with torch.no_grad():
            self._seen = smooth_normalize(smooth_normalize(z1) + smooth_normalize(z2)), rows
        codes = self.codes[rows].repeat(2)
        return self._contrast(
            torch.cat([z1, z2]), positives=("paired", len(first)), denominator=OnlySame(codes)
        )

    @torch.no_grad()
    def after_step(self) -> None:
        """Note the features of the last call of :meth:`forward`; at the end of a stage, renew the codes."""
        if self._seen is not None:
            unit, rows = self._seen
            self.features[rows] = unit.to(self.features.dtype)
        self._seen = None
        self.steps += 1
        stage, place = divmod(self.steps, self.config["stage_steps"])
        if place == 0 and stage < self.config["stages"]:
            self._end_stage(stage)

    def _end_stage(self, stage: int) -> None:
        """Refine the codes by clusters of the rows seen so far; waits for the device."""
        seen = self.features.any(1).nonzero()[:, 0]
        clusters, num_clusters = torch.zeros_like(self.codes), self.config["clusters"]
        if len(seen):
            rng = generator(self.config["seed"], "multistage", stage)
            found = balanced_kmeans(self.features[seen], min(num_clusters, len(seen)), generator=rng)
            clusters[seen] = found.labels
        self.codes.copy_(stage_codes(self.codes, clusters, num_clusters))
