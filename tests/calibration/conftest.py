"""Small labelled data, settings and steps, for tests of both stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nearfar.adapters import FeatureInputs, Inputs
from nearfar.calibration.rcal.config import RCALConfig
from nearfar.calibration.rcal.method import RCAL
from nearfar.classification.row_batches import RowBatch
from nearfar.runtime import Runtime, generator, initial_weights, numpy_generator
from nearfar.training import StepContext

# Every number a test depends on: defaults are free to change. 24 rows are 3 steps an epoch.
SMALL: dict[str, Any] = {
    "data": "given",
    "device": "cpu",
    "seed": 5,
    "epochs": 5,
    "batch_size": 8,
    "head_lr": 0.1,
    "beta": 0.3,
    "mixup": 1.0,
    "loss": "cross_entropy",
    "real_rows": "all",
    "reg_on": "plain",
    "milestones": (1, 2),
    "optim": {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3, "schedule": "constant"},
    "pretrain": {
        "epochs": 2.0,
        "kind": "simclr",
        "batch_size": None,
        "optimizer": "adam",
        "lr": 0.01,
        "temperature": 0.2,
        "dim": 4,
        "queue": 20,
        "momentum": 0.8,
    },
    "gaussians": {"enabled": True, "outlier": "knn", "keep": 0.7, "q": 2, "gamma": 0.3, "lr": 0.05},
}


@pytest.fixture
def settings() -> Callable[..., RCALConfig]:
    """Function that makes settings: of a small run, changed where it is told to, groups in part."""

    def make(**changes: Any) -> RCALConfig:
        values = dict(SMALL)
        for name, value in changes.items():
            values[name] = {**values[name], **value} if isinstance(values.get(name), dict) else value
        return RCALConfig.model_validate(values)

    return make


@pytest.fixture
def blobs() -> Callable[..., tuple[Tensor, Tensor]]:
    """Function that draws classes around corners of a cube: features, float32, and labels, in random order."""

    def make(
        sizes: Sequence[int] = (12, 8, 4), dim: int = 4, *, gap: float = 3.0, seed: int = 0
    ) -> tuple[Tensor, Tensor]:
        rng = numpy_generator(seed, "blobs")
        y = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
        centres = gap * np.eye(len(sizes), dim)
        x = centres[y] + rng.normal(size=(len(y), dim))
        return torch.from_numpy(x).float(), torch.from_numpy(y)

    return make


@pytest.fixture
def normed() -> Callable[..., nn.Module]:
    """Function that makes an encoder of four features with batch normalisation, so that it has buffers."""

    def make(seed: int = 0) -> nn.Module:
        with initial_weights(seed):
            return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 5))

    return make


@pytest.fixture
def build(
    blobs: Callable[..., tuple[Tensor, Tensor]], normed: Callable[..., nn.Module]
) -> Callable[..., RCAL]:
    """Function that makes a method on 24 rows of three classes."""

    def make(config: RCALConfig, encoder: nn.Module | None = None, inputs: Inputs | None = None) -> RCAL:
        x, y = blobs()
        rows = FeatureInputs(x) if inputs is None else inputs
        return RCAL(config, normed() if encoder is None else encoder, rows, y, 3)

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

    def make(method: RCAL, rows: Sequence[int] = (0, 5, 3, 17, 8, 20, 11, 2)) -> RowBatch:
        index = torch.tensor(rows)
        return RowBatch(method.inputs.rows(index), index, method.given[index])

    return make


@pytest.fixture
def images() -> Callable[..., tuple[Tensor, Tensor]]:
    """Function that draws grey images of 8 x 8 pixels, a bar in each whose place is the class."""

    def make(sizes: Sequence[int] = (12, 8, 4), *, channels: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
        rng = generator(seed, "bars")
        y = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
        x = 0.3 * torch.rand(len(y), channels, 8, 8, generator=rng)
        for image, label in zip(x, y.tolist(), strict=True):
            image[:, 2 * label : 2 * label + 2] += 0.6
        return x, y

    return make
