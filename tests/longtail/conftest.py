"""Small long-tailed data and settings, for tests of SBCL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nearfar.adapters import FeatureInputs, Inputs
from nearfar.classification.row_batches import RowBatch
from nearfar.longtail.sbcl.config import SBCLConfig
from nearfar.longtail.sbcl.method import SBCL
from nearfar.runtime import Runtime, initial_weights, numpy_generator
from nearfar.training import StepContext

# Every number a test depends on: defaults are free to change. 40 rows are 5 steps an epoch.
SMALL: dict[str, Any] = {
    "data": "given",
    "device": "cpu",
    "seed": 5,
    "epochs": 7,
    "batch_size": 8,
    "temperature": 0.2,
    "beta": 0.25,
    "warmup_epochs": 2.0,
    "warmup_loss": "supcon",
    "dim": 4,
    "optim": {"name": "adam", "lr": 0.01, "schedule": "constant"},
    "subclasses": {"delta": 5, "every": 3, "warm_start": True, "clustering": "balanced"},
    "class_temperature": {"kind": "paper", "alpha": 10.0},
}


@pytest.fixture
def settings() -> Callable[..., SBCLConfig]:
    """Function that makes settings: of a small run, changed where it is told to, groups in part."""

    def make(**changes: Any) -> SBCLConfig:
        values = dict(SMALL)
        for name, value in changes.items():
            values[name] = {**values[name], **value} if isinstance(values.get(name), dict) else value
        return SBCLConfig.model_validate(values)

    return make


@pytest.fixture
def blobs() -> Callable[..., tuple[Tensor, Tensor]]:
    """Function that draws classes around corners of a cube: features, float32, and labels, in random order."""

    def make(sizes: Sequence[int] = (28, 8, 4), dim: int = 4, *, seed: int = 0) -> tuple[Tensor, Tensor]:
        rng = numpy_generator(seed, "blobs")
        y = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
        x = 3.0 * np.eye(len(sizes), dim)[y] + rng.normal(size=(len(y), dim))
        return torch.from_numpy(x).float(), torch.from_numpy(y)

    return make


@pytest.fixture
def encoder() -> Callable[..., nn.Module]:
    """Function that makes an encoder of four features with batch normalisation, so that it has buffers."""

    def make(seed: int = 0, *, norm: bool = True) -> nn.Module:
        with initial_weights(seed):
            middle = nn.BatchNorm1d(6) if norm else nn.Identity()
            return nn.Sequential(nn.Linear(4, 6), middle, nn.ReLU(), nn.Linear(6, 5))

    return make


@pytest.fixture
def build(
    blobs: Callable[..., tuple[Tensor, Tensor]], encoder: Callable[..., nn.Module]
) -> Callable[..., SBCL]:
    """Function that makes a method on 40 rows of three classes: 5, 1 and 1 subclasses."""

    def make(
        config: SBCLConfig, module: nn.Module | None = None, inputs: Inputs | None = None, y: Any = None
    ) -> SBCL:
        x, labels = blobs()
        rows = FeatureInputs(x) if inputs is None else inputs
        return SBCL(config, encoder() if module is None else module, rows, labels if y is None else y, 3)

    return make


@pytest.fixture
def context(cpu: Runtime) -> Callable[..., StepContext]:
    """Function that makes the context of a step."""

    def make(step: int = 0, seed: int = 5) -> StepContext:
        return StepContext(seed, step, cpu)

    return make


@pytest.fixture
def batch_of() -> Callable[..., RowBatch]:
    """Function that takes some rows of a method as a batch."""

    def make(method: SBCL, rows: Sequence[int] = (0, 5, 3, 17, 8, 20, 11, 2)) -> RowBatch:
        index = torch.tensor(rows)
        return RowBatch(method.inputs.rows(index), index, method.given[index])

    return make
