"""What is compared: the methods for long tails, trained alike, on rows and coarse classes alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nearfar.adapters import Inputs
from nearfar.config.suggest import suggest
from nearfar.errors import ConfigError
from nearfar.longtail.registry import METHODS as REGISTERED
from nearfar.runtime import Runtime
from nearfar.training import Method, fit


@dataclass(frozen=True)
class Training:
    """How every method is trained on one source: Adam, a learning rate that falls along half a cosine.

    Attributes:
        epochs: Passes over the training rows.
        batch_size: Rows of a step at most.
        lr: Learning rate at the start.
        warmup_epochs: SBCL: passes before the first clustering.
        every: SBCL: passes between two clusterings.
        temperature: Of the contrasts.
        delta: SBCL: size of a subclass at least.
    """

    epochs: int
    batch_size: int
    lr: float
    warmup_epochs: int = 10
    every: int = 10
    temperature: float = 0.1
    delta: int = 10


@dataclass(frozen=True)
class Compared:
    """One row of the table.

    Attributes:
        title: For people.
        entry: Name of the method in the registry.
        trained: Whether it is trained at all.
    """

    title: str
    entry: str
    trained: bool = True

    @property
    def contrasts(self) -> bool:
        """Whether it contrasts, and so has a temperature."""
        return "temperature" in REGISTERED[self.entry].load("config").model_fields


METHODS: Mapping[str, Compared] = {
    "untrained": Compared("untrained encoder", "longtail.supcon", trained=False),
    "simclr": Compared("SimCLR (no labels)", "longtail.simclr"),
    "cross-entropy": Compared("cross-entropy", "longtail.cross_entropy"),
    "balanced-softmax": Compared("balanced softmax", "longtail.balanced_softmax"),
    "supcon": Compared("SupCon", "longtail.supcon"),
    "sbcl": Compared("SBCL", "longtail.sbcl"),
}
"""By name, in the order of the table."""


def chosen(names: Sequence[str] | None) -> list[str]:
    """The methods of that name, each once, in the order of the table.

    Args:
        names: Some of :data:`METHODS`; ``None`` is all.

    Raises:
        ConfigError: If one is unknown, or none is given.
    """
    wanted = list(METHODS) if names is None else list(names)
    for name in wanted:
        if name not in METHODS:
            otherwise = f"choose from {', '.join(METHODS)}"
            raise ConfigError(f"methods: {name!r} is unknown; {suggest(name, METHODS, otherwise)}")
    if not wanted:
        raise ConfigError(f"methods: one at least expected; choose from {', '.join(METHODS)}")
    return [name for name in METHODS if name in wanted]


def train_method(
    name: str,
    encoder: nn.Module,
    inputs: Inputs,
    given: NDArray[np.int64],
    num_classes: int,
    training: Training,
    seed: int,
) -> Method:
    """Train an encoder in place by the library's loop.

    Args:
        name: One of :data:`METHODS`.
        encoder: ``batch -> (B, m)``.
        inputs: Training rows.
        given: Coarse classes, the only labels there are, shape ``(n,)``.
        num_classes: Coarse classes.
        training: How.
        seed: Of batches, views and the layers behind the encoder.

    Returns:
        In evaluation mode; ``encoder`` is its encoder, and ``head`` its classifier if it has one.

    Raises:
        ConfigError: If a setting is out of bounds.
        DivergedError: If training stops being finite.
    """
    entry = REGISTERED[METHODS[name].entry]
    config = entry.load("config")(**settings(name, training), seed=seed)
    runtime = Runtime.start(config.device)
    labels, method_class = torch.from_numpy(given), entry.load("method")
    method: Method = method_class(config, encoder, inputs, labels, num_classes).to(runtime.device)
    source = method_class.batches(config, inputs, labels, runtime)
    fit(method, source, config=config, runtime=runtime, label=name, quiet=True)
    return method.eval()


def settings(name: str, training: Training) -> dict[str, Any]:
    """Settings of a method.

    Args:
        name: One of :data:`METHODS`.
        training: What they say.
    """
    compared = METHODS[name]
    found: dict[str, Any] = {
        "data": "given",
        "epochs": training.epochs if compared.trained else 0,
        "batch_size": training.batch_size,
        "optim": {"lr": training.lr, "schedule": "cosine"},
    }
    if compared.contrasts:
        found["temperature"] = training.temperature
    if name == "sbcl":
        found["warmup_epochs"] = training.warmup_epochs
        found["subclasses"] = {"delta": training.delta, "every": training.every}
    return found
