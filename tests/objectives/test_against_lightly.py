"""Baselines without negatives against lightly, where it is installed."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from nearfar.interop.tsai import enable_tsai_without_torchvision, remove_torchvision_stub
from nearfar.objectives.barlow_twins import barlow_twins_loss
from nearfar.objectives.byol import byol_loss
from nearfar.objectives.vicreg import vicreg_loss


@pytest.fixture(scope="module")
def losses() -> Iterator[Any]:
    """lightly's losses; lightly imports torchvision, of which they use nothing."""
    enable_tsai_without_torchvision()
    try:
        yield importlib.import_module("lightly.loss")
    except ImportError as error:
        pytest.skip(f'lightly does not import ({error}); pip install "nearfar[bench]"')
    finally:
        remove_torchvision_stub()


@pytest.fixture
def views() -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    a = torch.randn(32, 8, generator=rng, dtype=torch.float64)
    return a, 0.5 * a + 0.5 * torch.randn(32, 8, generator=rng, dtype=torch.float64)


def test_barlow_twins(losses: Any, views: tuple[Tensor, Tensor]) -> None:
    for weight in (5e-3, 0.5):
        expected = losses.BarlowTwinsLoss(lambda_param=weight)(*views)
        torch.testing.assert_close(barlow_twins_loss(*views, off_diagonal_weight=weight), expected)


def test_vicreg(losses: Any, views: tuple[Tensor, Tensor]) -> None:
    torch.testing.assert_close(vicreg_loss(*views), losses.VICRegLoss()(*views))


def test_byol(losses: Any, views: tuple[Tensor, Tensor]) -> None:
    torch.testing.assert_close(byol_loss(*views), 2 + 2 * losses.NegativeCosineSimilarity()(*views))
