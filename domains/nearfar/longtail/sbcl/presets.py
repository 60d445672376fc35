"""What the released program trains CIFAR-10 and CIFAR-100 with; for a GPU, which it keeps busy for hours.

Published are backbone, head, epochs, batch, learning rate, warm-up, temperature, beta, delta and both intervals
(README and defaults of the program; the paper's appendix of settings could not be had). Not taken over: its learning
rate during warm-up, which is negative in the first epoch. Differs: views have no change of hue unless kornia is
installed and asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nearfar.longtail.sbcl.config import SBCLConfig

CIFAR = ("cifar10", "cifar100")
EPOCHS, WARMUP = 1000, 10


def preset(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings for ``data``, nested; empty for data the paper does not have.

    Args:
        given: Settings of the user.

    Example:
        >>> preset({"data": "cifar100"})["subclasses"]
        {'delta': 10, 'every': 10}
    """
    found = contrast(given)
    if not found:
        return {}
    return {
        **found,
        "warmup_epochs": WARMUP,
        "beta": 0.25,
        "subclasses": {"delta": 10, "every": 10},
    }


def contrast(given: Mapping[str, Any]) -> dict[str, Any]:
    """The same for contrasts without subclasses.

    Args:
        given: Settings of the user.

    Example:
        >>> contrast({"data": "cifar10"})["batch_size"], contrast({"data": "digits"})
        (1024, {})
    """
    if not _is_cifar(given):
        return {}
    return {
        **_COMMON,
        "epochs": EPOCHS,
        "batch_size": 1024,
        "temperature": 0.1,
        "dim": 128,
        "copies": 10,
        "head": {"kind": "ldam_drw", "epochs": 200, "lr": 0.1},
        "optim": {
            "name": "sgd",
            "lr": 0.5,
            "momentum": 0.9,
            "weight_decay": 1e-4,
            "schedule": "cosine",
            "warmup": WARMUP / EPOCHS,
        },
        "selection": {"every": 100},
    }


def plain(given: Mapping[str, Any]) -> dict[str, Any]:
    """One stage on labels, as long-tail papers train it: 200 epochs.

    Args:
        given: Settings of the user.

    Example:
        >>> plain({"data": "cifar100"})["epochs"]
        200
    """
    if not _is_cifar(given):
        return {}
    return {
        **_COMMON,
        "epochs": 200,
        "batch_size": 128,
        "optim": {
            "name": "sgd",
            "lr": 0.1,
            "momentum": 0.9,
            "weight_decay": 5e-4,
            "schedule": "cosine",
            "warmup": 5 / 200,
        },
        "selection": {"every": 20},
    }


_COMMON: Mapping[str, Any] = {"encoder": "resnet32", "imbalance": {"ratio": 100}}


def _is_cifar(given: Mapping[str, Any]) -> bool:
    data = given.get("data", SBCLConfig.model_fields["data"].default)
    return Path(str(data)).stem.lower().replace("-", "") in CIFAR
