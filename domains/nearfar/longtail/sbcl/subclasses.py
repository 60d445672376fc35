"""Every class cut into subclasses of equal size by clustering its features, and its temperature.

SBCL (Hou et al., ICCV 2023), section 3.2 and algorithm 1. Each class is clustered alone, with random numbers of its
own: neither other classes nor the number of threads matter.

Differs from the released code, whose balanced clustering cannot be called (a misnamed argument), so that it runs plain
k-means without a seed, on one random augmentation of every image. That k-means is ``clustering="plain"`` here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.cluster import balanced_kmeans, greedy_assignment
from nearfar.errors import DataError
from nearfar.labels import class_codes
from nearfar.labels.codes import Values
from nearfar.longtail.sbcl.config import ClassTemperatureConfig, SubclassConfig
from nearfar.longtail.sbcl.subclass_counts import subclass_counts
from nearfar.longtail.sbcl.temperatures import class_spread, class_temperatures
from nearfar.neighbors import feature_rows
from nearfar.optional import require
from nearfar.runtime import generator, stream_seed

# Of the released code's k-means.
PLAIN_ITERATIONS, PLAIN_TOLERANCE = 35, 1e-3


@dataclass(frozen=True, eq=False)
class Subclasses:
    """Of all rows.

    Attributes:
        ids: Subclass of every row, numbered over all classes, int64, shape ``(n,)``.
        parts: Subclasses of every class, int64, shape ``(K,)``; those of class c are ``sum(parts[:c])`` and following.
        sizes: Rows of every subclass, int64, shape ``(S,)`` with S the sum of ``parts``.
        centers: Their directions, shape ``(S, d)``.
        spread: phi of every class, float64, shape ``(K,)``.
        temperatures: tau_2 of every class, float64, shape ``(K,)``.
        within: Mean cosine of a row to the centre of its subclass.
    """

    ids: Tensor
    parts: Tensor
    sizes: Tensor
    centers: Tensor
    spread: Tensor
    temperatures: Tensor
    within: float

    @property
    def first(self) -> Tensor:
        """Number of the first subclass of every class, shape ``(K,)``."""
        return self.parts.cumsum(0) - self.parts

    def between(self) -> float:
        """Mean cosine between centres of one class, over all pairs; NaN if no class has two."""
        total, pairs = 0.0, 0
        for start, count in zip(self.first.tolist(), self.parts.tolist(), strict=True):
            directions = F.normalize(self.centers[start : start + count].double(), dim=1)
            total += float(directions.sum(0).square().sum() - directions.square().sum()) / 2
            pairs += count * (count - 1) // 2
        return total / pairs if pairs else float("nan")

    def moved(self, before: Tensor) -> float:
        """Share of rows that changed their subclass, whatever its number: most rows in common first.

        Args:
            before: Earlier subclasses, numbered in the same way, shape ``(n,)``.
        """
        stayed = 0
        for start, count in zip(self.first.tolist(), self.parts.tolist(), strict=True):
            rows = (self.ids >= start) & (self.ids < start + count)
            if not rows.any():
                continue
            old, pairs = torch.unique(before[rows], return_inverse=True)
            shared = torch.zeros(count, len(old), dtype=torch.float64)
            ones = torch.ones(len(pairs), dtype=torch.float64)
            shared.index_put_((self.ids[rows] - start, pairs), ones, accumulate=True)
            if len(old) < count:
                shared = F.pad(shared, (0, count - len(old)))
            match = greedy_assignment(shared, torch.ones(shared.shape[1], dtype=torch.int64))
            stayed += int(shared.gather(1, match[:, None]).sum())
        return 1 - stayed / len(self.ids)


def find_subclasses(
    z: Tensor,
    labels: Values,
    num_classes: int,
    *,
    subclasses: SubclassConfig | None = None,
    temperatures: ClassTemperatureConfig | None = None,
    temperature: float = 0.1,
    seed: int = 0,
    number: int = 0,
    earlier: Callable[[int, int], Tensor | None] = lambda c, m: None,  # noqa: ARG005
) -> Subclasses:
    """Cluster every class.

    Args:
        z: Features, normalised here, shape ``(n, d)``.
        labels: Class codes, shape ``(n,)``.
        num_classes: K; a class may be without rows.
        subclasses: How many, and how they are found.
        temperatures: How they are set.
        temperature: tau_1.
        seed: Of all clusterings of a run.
        number: Of this one.
        earlier: Centres to begin from, ``(m, d)``, given class and m; ``None`` for none.

    Raises:
        DataError: If features are not finite or labels are no class codes below K, one a row.
        MissingDependencyError: If plain clustering finds no scikit-learn.

    Example:
        >>> z = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
        >>> found = find_subclasses(z, [0] * 50 + [1] * 10, 2)
        >>> found.parts.tolist(), found.sizes.tolist()
        ([5, 1], [10, 10, 10, 10, 10, 10])
    """
    c = subclasses or SubclassConfig()
    t = temperatures or ClassTemperatureConfig()
    rows = F.normalize(feature_rows("z", z), dim=1)
    given = class_codes("labels", labels, num_classes)
    if len(given) != len(rows):
        raise DataError(f"labels: one for each of {len(rows)} rows expected, got {len(given)}")
    codes = torch.from_numpy(given).to(rows.device)
    counts = np.bincount(given, minlength=num_classes)
    parts = subclass_counts(counts, c.delta, c.rounding)
    ids = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
    centers = []
    for k, (m, first) in enumerate(zip(parts.tolist(), (np.cumsum(parts) - parts).tolist(), strict=True)):
        if not m:
            continue
        own = (codes == k).nonzero()[:, 0]
        # In the stream of the class: the result does not depend on the other ones.
        cluster = _plain if c.clustering == "plain" else _balanced
        found, directions = cluster(rows[own], m, c, (seed, number, k), earlier(k, m))
        ids[own] = first + found
        centers.append(directions)
    directions = torch.cat(centers) if centers else rows.new_zeros(0, rows.shape[1])
    spread = class_spread(rows, codes, num_classes, t.alpha).cpu()
    kinds = torch.from_numpy(parts)
    within = (rows * F.normalize(directions, dim=1)[ids]).sum(1).double().mean() if len(rows) else ids.sum()
    return Subclasses(
        ids.cpu(),
        kinds,
        torch.bincount(ids.cpu(), minlength=int(parts.sum())),
        directions.cpu(),
        spread,
        class_temperatures(spread, kinds, temperature, t.kind, t.value),
        float(within),
    )


def _balanced(
    rows: Tensor, m: int, config: SubclassConfig, key: tuple[int, int, int], init: Tensor | None
) -> tuple[Tensor, Tensor]:
    if m == 1:
        return torch.zeros(len(rows), dtype=torch.int64, device=rows.device), rows.mean(0, keepdim=True)
    rng = generator(key[0], "subclasses", *key[1:])
    found = balanced_kmeans(rows, m, max_iter=config.max_iter, generator=rng, init=init)
    return found.labels, found.centers


def _plain(
    rows: Tensor,
    m: int,
    config: SubclassConfig,  # noqa: ARG001 - the released code's numbers
    key: tuple[int, int, int],
    init: Tensor | None,
) -> tuple[Tensor, Tensor]:
    cluster: Any = require("sklearn.cluster", "plain k-means")
    start: Any = "random" if init is None else init.numpy()
    seed = stream_seed(key[0], "subclasses", *key[1:]) % 2**32
    model = cluster.KMeans(
        m, init=start, n_init=1, max_iter=PLAIN_ITERATIONS, tol=PLAIN_TOLERANCE, random_state=seed
    )
    found = model.fit_predict(rows.cpu().numpy())
    return (
        torch.from_numpy(found).long().to(rows.device),
        torch.from_numpy(model.cluster_centers_).to(rows),
    )
