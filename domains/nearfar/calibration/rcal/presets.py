"""What the paper trained CIFAR-10 and CIFAR-100 with; for a GPU, which it keeps busy for hours.

Published are the queue, the epochs, the batch, both learning rates with their milestones, q and the kind of
augmentation (section 4.1, appendix C). Not published, and taken from MoCo's authors' program for CIFAR: learning rate,
batch, momentum, temperature and weight decay of the first stage.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nearfar.calibration.rcal.config import RCALConfig

# Of the second stage.
EPOCHS: Mapping[str, int] = {"cifar10": 100, "cifar100": 200}
PASSES = 1000  # of the first, in batches four times as large


def preset(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings for ``data``, nested; empty for data the paper does not have.

    Every imbalance ratio and every noise rate has the same; ``pretrain.epochs=0`` has the second stage alone.

    Args:
        given: Settings of the user.

    Example:
        >>> preset({"data": "cifar10"})["epochs"]
        350
        >>> preset({"data": "cifar10", "pretrain": {"epochs": 0}})["epochs"]
        100
    """
    second = plain(given)
    if not second:
        return {}
    pretrain = {
        "kind": "moco",
        "optimizer": "sgd",
        "lr": 0.06,
        "weight_decay": 5e-4,
        "batch_size": 512,
        "temperature": 0.1,
        "momentum": 0.99,
        "queue": 4096,
        "dim": 128,
    }
    first = given.get("pretrain", {}).get("epochs", PASSES / 4)
    return {
        **second,
        "epochs": math.ceil(first) + second["epochs"],
        "pretrain": {**pretrain, "epochs": first},
        "gaussians": {"lr": 1e-3},
    }


def plain(given: Mapping[str, Any]) -> dict[str, Any]:
    """The same without a first stage: encoder, length and learning rates of the second.

    Args:
        given: Settings of the user.

    Example:
        >>> plain({"data": "cifar100"})["epochs"]
        200
    """
    data = given.get("data", RCALConfig.model_fields["data"].default)
    name = Path(str(data)).stem.lower().replace("-", "")
    if name not in EPOCHS:
        return {}
    return {
        "encoder": "resnet32",
        "batch_size": 128,
        "epochs": EPOCHS[name],
        "optim": {"name": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4},
        "head_lr": 1.0,
        "milestones": (20, 40, 60, 80),
        "selection": {"every": 25},
    }
