"""A toy source: clouds whose first eight columns tell fine classes, merged three, two and one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.adapters import FeatureInputs, Inputs
from nearfar.encoders import MLP
from nearfar.pipelines.hidden_classes.merging import Merging
from nearfar.pipelines.hidden_classes.methods import Training
from nearfar.pipelines.hidden_classes.sources import Pool

NAMES = ("ant", "bee", "cat", "dog", "elk", "fox")
SIZES = (20, 20, 20, 8, 8, 6)
AVAILABLE, TESTED = 30, 10


def clouds(seed: int = 0, spread: float = 1.0) -> tuple[Tensor, NDArray[np.int64]]:
    """Training rows of every class, then test rows; the last column is the number of the row."""
    rng = np.random.default_rng(seed)
    fine = np.concatenate([np.repeat(np.arange(6), AVAILABLE), np.repeat(np.arange(6), TESTED)])
    centers = 2 * np.random.default_rng(100).normal(size=(6, 8))
    x = centers[fine] + spread * rng.normal(size=(len(fine), 8))
    return torch.from_numpy(np.c_[x, np.arange(len(fine)) / 1000]).float(), fine


@pytest.fixture
def make_pool() -> Callable[..., Pool]:
    """Makes the source; arguments replace its fields, ``training`` some of its settings."""

    def make(*, training: dict[str, Any] | None = None, **changes: Any) -> Pool:
        x, fine = clouds()

        def rows(index: NDArray[np.int64]) -> Inputs:
            return FeatureInputs(x[torch.from_numpy(index)])

        pool = Pool(
            domain="toy",
            data="clouds",
            about="classes are clouds",
            digest="0" * 8,
            fine=fine,
            names=NAMES,
            merging=Merging(((0, 1, 2), (3, 4), (5,)), SIZES),
            training=Training(epochs=4, batch_size=48, lr=3e-3, warmup_epochs=1, every=2, delta=4),
            inputs=rows,
            encoder=lambda: MLP(9, (16, 6)),
            tested=np.arange(6 * AVAILABLE, len(fine)),
        )
        return replace(pool, training=replace(pool.training, **(training or {})), **changes)

    return make
