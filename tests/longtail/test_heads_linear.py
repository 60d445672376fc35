"""Linear heads trained by gradient: closed forms, features of any scale, and the order of class-balanced passes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nearfar.longtail.heads import fit_head
from nearfar.longtail.heads.balanced_order import IN_TURN, balanced_order

# Rows of each class with feature value 0, 1 and 2.
TABLE = torch.tensor([[90, 20, 10], [3, 12, 5]])
TO_THE_OPTIMUM: dict[str, Any] = {"batch_size": 140, "epochs": 3000, "lr": 2.0, "standardize": False}


def table_rows() -> tuple[Tensor, Tensor]:
    """One-hot features and classes with the counts of the table."""
    cells = [(k, v) for k in range(2) for v in range(3) for _ in range(int(TABLE[k, v]))]
    labels, values = torch.tensor(cells).T
    return torch.eye(3, dtype=torch.float64)[values], labels


@pytest.mark.parametrize(
    ("kind", "tau"), [("logit_adjustment", 1.0), ("logit_adjustment", 0.4), ("balanced_softmax", 1.0)]
)
def test_optimum_in_closed_form(kind: str, tau: float) -> None:
    """With one weight a value the optimum of cross-entropy is the log of the table, less tau times the log prior.

    Balanced softmax has the same optimum as full adjustment.
    """
    head = fit_head(*table_rows(), 2, kind=kind, tau=tau, **TO_THE_OPTIMUM)
    logits = head(torch.eye(3, dtype=torch.float64)).detach()
    sizes = TABLE.sum(1).double()
    expected = TABLE.double().log() - tau * sizes.log()[:, None]
    assert (logits[:, 1] - logits[:, 0]).tolist() == pytest.approx(
        (expected[1] - expected[0]).tolist(), abs=1e-3
    )


def test_crt_has_the_optimum_of_equal_classes() -> None:
    head = fit_head(*table_rows(), 2, kind="crt", epochs=300, lr=0.5, batch_size=140, standardize=False)
    logits = head(torch.eye(3, dtype=torch.float64)).detach()
    expected = (TABLE / TABLE.sum(1, keepdim=True)).log()
    assert (logits[:, 1] - logits[:, 0]).tolist() == pytest.approx(
        (expected[1] - expected[0]).tolist(), abs=0.15
    )


@pytest.mark.parametrize("kind", ["crt", "balanced_softmax", "logit_adjustment"])
def test_the_scale_of_features_does_not_matter(kind: str) -> None:
    rng = torch.Generator().manual_seed(0)
    y = torch.arange(60) % 3
    x = torch.eye(3, 5, dtype=torch.float64)[y] + torch.randn(60, 5, generator=rng, dtype=torch.float64)
    scale = torch.tensor([1e-4, 1.0, 1e4, 50.0, 3.0], dtype=torch.float64)
    plain = fit_head(x, y, 3, kind=kind, epochs=5)
    scaled = fit_head(x * scale + 100, y, 3, kind=kind, epochs=5)
    assert torch.allclose(plain(x), scaled(x * scale + 100), atol=1e-6)


def test_published_training_is_on_features_as_they_are() -> None:
    x = torch.tensor([[10.0, 1.0], [10.0, -1.0]], dtype=torch.float64)
    head = fit_head(x, [0, 1], 2, kind="logit_adjustment", epochs=1, lr=1.0, batch_size=2, standardize=False)
    assert isinstance(head, nn.Linear)
    # One step from zero weights: minus the gradient, (1/2 - 1 if it is the class) times the row, mean over rows.
    assert torch.allclose(head.weight, torch.tensor([[0, 0.5], [0, -0.5]], dtype=torch.float64))


@pytest.mark.parametrize("sizes", [[100, 10, 1], [5, 0, 5, 3], [1], [4, 4, 4, 4], [1, 1, 1, 1, 1]])
def test_class_balanced_passes(sizes: list[int]) -> None:
    codes = np.repeat(np.arange(len(sizes)), sizes)
    order = balanced_order(codes, seed=3, epoch=0).numpy()
    present = np.flatnonzero(sizes)
    per_class = np.bincount(codes[order], minlength=len(sizes))[present]
    assert len(set(per_class.tolist())) == 1
    assert len(codes) <= len(order) < len(codes) + IN_TURN * len(present)
    uses = np.bincount(order, minlength=len(codes))
    for k in present:
        assert np.ptp(uses[codes == k]) <= 1
    # In turn: four of a class, and every class once before one comes again.
    turns = codes[order].reshape(-1, IN_TURN)
    assert (turns == turns[:, :1]).all()
    cycles = np.sort(turns[:, 0].reshape(-1, len(present)), axis=1)
    assert (cycles == present).all()


def test_every_pass_has_its_own_order() -> None:
    codes = np.repeat([0, 1, 2], [50, 20, 10])
    first, again, later, other = (
        balanced_order(codes, *which).tolist() for which in ((0, 0), (0, 0), (0, 1), (1, 0))
    )
    assert first == again
    assert first != later
    assert first != other
