"""Settings of the released program: they hold together, and the user's go before them."""

from __future__ import annotations

from typing import Any

import pytest

from nearfar.errors import ConfigError
from nearfar.longtail.sbcl.config import SBCLConfig
from nearfar.pipelines.registry import find
from nearfar.pipelines.settings import resolve_settings


def resolved(*words: str, method: str = "sbcl") -> Any:
    """As the command line would have it."""
    return resolve_settings(find(f"longtail.{method}"), words, environment={})


@pytest.mark.parametrize("data", ["cifar10", "cifar100", "CIFAR-100"])
def test_published_settings(data: str) -> None:
    """ResNet-32, 1000 epochs of 1024, SGD at .5 with ten epochs of warm-up, LDAM on frozen features."""
    config = resolved(f"data={data}")
    assert (config.encoder, config.imbalance.ratio) == ("resnet32", 100)
    assert (config.epochs, config.batch_size, config.warmup_epochs) == (1000, 1024, 10)
    assert (config.optim.name, config.optim.lr, config.optim.weight_decay) == ("sgd", 0.5, 1e-4)
    assert config.optim.warmup * config.epochs == pytest.approx(10)
    assert (config.temperature, config.beta, config.dim) == (0.1, 0.25, 128)
    assert (config.subclasses.delta, config.subclasses.every) == (10, 10)
    assert (config.head.kind, config.head.epochs, config.head.lr) == ("ldam_drw", 200, 0.1)


def test_the_users_settings_go_first() -> None:
    config = resolved("data=cifar100", "imbalance.ratio=10", "epochs=20", "subclasses.delta=5")
    assert (config.imbalance.ratio, config.epochs, config.subclasses.delta) == (10, 20, 5)
    assert config.subclasses.every == 10


def test_baselines_of_the_same_data() -> None:
    assert resolved("data=cifar10", method="supcon").epochs == 1000
    assert not resolved("data=cifar10", method="supcon").subclasses.enabled
    assert resolved("data=cifar10", method="simclr").warmup_loss == "simclr"
    plain = resolved("data=cifar10", method="balanced_softmax")
    assert (plain.epochs, plain.loss, plain.optim.lr) == (200, "balanced_softmax", 0.1)


def test_variants() -> None:
    """The code's formulas, where nothing else is said."""
    code = resolved("variant=code")
    assert (code.class_temperature.kind, code.subclasses.clustering, code.base_temperature) == (
        "code",
        "plain",
        0.07,
    )
    mixed = resolved("variant=code", "subclasses.clustering=balanced")
    assert (mixed.subclasses.clustering, mixed.class_temperature.kind) == ("balanced", "code")
    paper = SBCLConfig(data="given")
    assert (paper.class_temperature.kind, paper.subclasses.clustering, paper.base_temperature) == (
        "paper",
        "balanced",
        None,
    )


def test_misspelt() -> None:
    with pytest.raises(ConfigError, match="subclasses"):
        resolved("subclases.delta=5")
