"""Logistic regression on frozen embeddings, the fast probe of GRACE and its successors.

Zhu et al., "Deep Graph Contrastive Representation Learning", 2020, section 4.1: rows of unit length and an L2
penalty, whose strength the validation nodes choose.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.errors import DataError
from nearfar.graph.checks import check_probe
from nearfar.optional import require

# Inverse strengths of the penalty.
STRENGTHS = tuple(10.0**power for power in range(-2, 5))
MAX_ITERATIONS = 10_000


def logistic_probe(z: Tensor, y: Tensor, train_mask: Tensor, val_mask: Tensor) -> Tensor:
    """Predict the class of every node from its embedding, as learnt on the training nodes.

    Args:
        z: Embeddings, shape ``(n, d)``.
        y: Classes, int64, shape ``(n,)``.
        train_mask: Nodes to learn from, bool, shape ``(n,)``.
        val_mask: Nodes whose micro F1 chooses the penalty, the strongest of equals; bool, shape ``(n,)``.

    Returns:
        Classes, int64, shape ``(n,)``.

    Raises:
        DataError: If something is not as described, a part is empty, an embedding is not finite, or all training
            nodes are of one class.
        MissingDependencyError: If scikit-learn is not installed.
    """
    linear_model = require("sklearn.linear_model", "the logistic probe")
    check_probe(z, y, train_mask=train_mask, val_mask=val_mask)
    if not (train_mask.any() and val_mask.any()):
        raise DataError(
            "the logistic probe needs a training and a validation node at least; correct the masks"
        )
    labels = y.cpu().numpy()
    rows = F.normalize(z.detach().double(), dim=1).cpu().numpy()
    train, val = train_mask.cpu().numpy(), val_mask.cpu().numpy()
    if (labels[train] == labels[train][0]).all():
        raise DataError(
            f"all {train.sum()} training nodes are of class {labels[train][0]}; train on more nodes or split anew"
        )
    best, chosen = -1, None
    for strength in STRENGTHS:
        # lbfgs draws nothing at random.
        model: Any = linear_model.LogisticRegression(C=strength, max_iter=MAX_ITERATIONS)
        model.fit(rows[train], labels[train])
        hits = int((model.predict(rows[val]) == labels[val]).sum())
        if hits > best:
            best, chosen = hits, model
    assert chosen is not None
    return torch.from_numpy(chosen.predict(rows)).to(z.device)
