"""Balanced logistic regression against a pipeline of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nearfar.longtail.heads import fit_head


def problem(classes: list[int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Overlapping classes; columns of very different scale, one of them constant."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.tensor(classes).repeat_interleave(torch.tensor([120, 30, 6][: len(classes)]))
    x = torch.randn(len(labels), 5, generator=rng, dtype=torch.float64)
    x[:, 0] += labels
    x = x * torch.tensor([1.0, 100, 0.01, 1, 1]) + torch.tensor([3.0, -50, 7, 0, 1000])
    x[:, 3] = 0.1
    return x, labels


def pipeline(x: Tensor, y: Tensor, strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = LogisticRegression(class_weight="balanced", C=strength, max_iter=10_000)
    return make_pipeline(StandardScaler(), model).fit(x.numpy(), y.numpy())


@pytest.mark.parametrize("strength", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("classes", [[0, 1, 2], [1, 4, 6], [0, 1], [5, 2]])
def test_against_scikit_learn(classes: list[int], strength: float) -> None:
    x, y = problem(classes)
    head = fit_head(x, y, 8, strength=strength)
    expected = pipeline(x, y, strength)
    rows = problem(classes, seed=1)[0]
    logits = head(rows)
    assert logits.argmax(1).tolist() == expected.predict(rows.numpy()).tolist()
    odds = logits.softmax(1)[:, sorted(classes)].detach().numpy()
    assert np.allclose(odds, expected.predict_proba(rows.numpy()), atol=1e-6)


def test_single_precision_is_as_good() -> None:
    x, y = problem([0, 1, 2])
    rows = problem([0, 1, 2], seed=1)[0]
    single = fit_head(x.float(), y, 3)(rows.float()).argmax(1)
    assert (single == fit_head(x, y, 3)(rows).argmax(1)).float().mean() > 0.99


def test_copies_count_for_their_share() -> None:
    """The penalty is against the mean over copies; and columns are scaled over all of them."""
    x, y = problem([0, 1, 2])
    copies = torch.stack([x, x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(2))])
    head = fit_head(copies, y, 3)
    expected = pipeline(copies.flatten(0, 1), y.repeat(2), 0.5)
    rows = problem([0, 1, 2], seed=1)[0]
    assert np.allclose(
        head(rows).softmax(1).detach().numpy(), expected.predict_proba(rows.numpy()), atol=1e-6
    )


def test_a_constant_column_has_no_weight() -> None:
    x, y = problem([0, 1, 2])
    head = fit_head(x, y, 3)
    assert isinstance(head, nn.Linear)
    assert head.weight[:, 3].abs().max() < 1e-9
