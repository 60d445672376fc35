"""The class of the nearest training series: by representations, and by the series themselves as a baseline.

UCR archive (Dau et al., 2019): one neighbour by Euclidean distance is what a method must beat.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nearfar.errors import ConfigError
from nearfar.neighbors import nearest
from nearfar.timeseries.classification.arrays import Values, probe_arrays, scaled_by


def knn_probe(
    z_train: Values, y_train: Values, z_test: Values, *, k: int = 1, standardize: bool = True
) -> Tensor:
    """Predict by the vote of the nearest training rows, by Euclidean distance.

    Args:
        z_train: Features, shape ``(N, D)``.
        y_train: Classes, shape ``(N,)``.
        z_test: Features, shape ``(M, D)``.
        k: Neighbours that vote; the smallest class of equals wins.
        standardize: Whether columns are scaled to deviation 1 on the training rows first, as TS2Vec's probe does.

    Returns:
        Classes, int64, shape ``(M,)``.

    Raises:
        ConfigError: If ``k`` is not from 1 to ``N``.
        DataError: If the arrays do not go together.

    Example:
        >>> z = torch.tensor([[0.0], [1.0], [9.0]])
        >>> knn_probe(z, torch.tensor([4, 4, 7]), torch.tensor([[2.0], [8.0]])).tolist()
        [4, 7]
    """
    train, y, test = probe_arrays(z_train, y_train, z_test)
    if not 1 <= k <= len(train):
        raise ConfigError(f"k: from 1 to the {len(train)} training rows expected, got {k}")
    if standardize:
        train, test = scaled_by(train, test)
    labels, places = np.unique(y, return_inverse=True)
    learnt, classes = torch.from_numpy(train), torch.from_numpy(places)
    if not len(test):
        return torch.zeros(0, dtype=torch.int64)
    voters = classes[nearest(torch.from_numpy(test), k, learnt)[1]]
    votes = torch.zeros(len(test), len(labels), dtype=torch.int64)
    votes.scatter_add_(1, voters, torch.ones_like(voters))
    return torch.from_numpy(labels)[votes.argmax(1)]


def nearest_neighbor_baseline(x_train: Values, y_train: Values, x_test: Values) -> Tensor:
    """Predict the class of the nearest training series, step by step and channel by channel.

    Args:
        x_train: Series of mean 0, shape ``(N, T, C)``; a missing value counts as that mean.
        y_train: Classes, shape ``(N,)``.
        x_test: Shape ``(M, T, C)``.

    Returns:
        Classes, int64, shape ``(M,)``.

    Raises:
        DataError: If the arrays do not go together.
    """
    flat = [torch.as_tensor(x).flatten(1).nan_to_num(nan=0.0) for x in (x_train, x_test)]
    return knn_probe(flat[0], y_train, flat[1], standardize=False)
