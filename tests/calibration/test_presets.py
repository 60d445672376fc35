"""Settings of the paper: they hold together, and the user's go before them."""

from __future__ import annotations

from typing import Any

import pytest

from nearfar.calibration.rcal.batches import unlabelled_steps
from nearfar.calibration.rcal.config import RCALConfig
from nearfar.calibration.rcal.presets import preset
from nearfar.errors import ConfigError
from nearfar.labels import long_tail_counts
from nearfar.pipelines.registry import find
from nearfar.pipelines.settings import resolve_settings

STAGE_TWO = {"cifar10": 100, "cifar100": 200}


def resolved(*words: str, method: str = "rcal") -> RCALConfig:
    """As the command line would have it."""
    found = resolve_settings(find(f"calibration.{method}"), words, environment={})
    assert isinstance(found, RCALConfig)
    return found


@pytest.mark.parametrize("data", ["cifar10", "cifar100"])
@pytest.mark.parametrize("ratio", [10, 50, 100])
@pytest.mark.parametrize("rate", [0.1, 0.2, 0.3, 0.4, 0.5])
def test_published_settings(data: str, ratio: int, rate: float) -> None:
    """Section 4.1 and appendix C: epochs, queue, batch, both rates, milestones; 1000 passes without labels."""
    config = resolved(f"data={data}", f"imbalance.ratio={ratio}", f"noise.rate={rate}")
    assert (config.imbalance.ratio, config.noise.rate, config.noise.kind) == (ratio, rate, "imb")
    assert config.epochs - config.pretrain.epochs == STAGE_TWO[data]
    assert (config.pretrain.kind, config.pretrain.queue) == ("moco", 4096)
    assert (config.encoder, config.batch_size) == ("resnet32", 128)
    assert (config.optim.name, config.optim.lr, config.optim.momentum, config.head_lr) == (
        "sgd",
        0.01,
        0.9,
        1.0,
    )
    assert config.milestones == (20, 40, 60, 80)
    assert config.gaussians.lr == 1e-3
    classes, largest = (10, 5000) if data == "cifar10" else (100, 500)
    n = int(long_tail_counts(largest, classes, ratio).sum())
    passes = unlabelled_steps(n, config) * (config.pretrain.batch_size or config.batch_size) / n
    assert passes == pytest.approx(1000, rel=0.02)


@pytest.mark.parametrize("name", ["CIFAR-10", "CIFAR10", "cifar10"])
def test_names_as_people_write_them(name: str) -> None:
    """As the loader of the data has them."""
    assert preset({"data": name})["encoder"] == "resnet32"


@pytest.mark.parametrize("data", ["digits", "cifar11", "files/mine.npz"])
def test_other_data_have_none(data: str) -> None:
    """The paper does not know them."""
    assert preset({"data": data}) == {}
    assert preset({}) == {}


def test_the_users_settings_go_first() -> None:
    """Stage two keeps its length when stage one is made shorter or left out."""
    config = resolved("data=cifar10", "head_lr=0.3", "pretrain.temperature=0.5", "pretrain.epochs=20")
    assert (config.head_lr, config.pretrain.temperature, config.pretrain.epochs) == (0.3, 0.5, 20)
    assert config.epochs == 120
    assert config.pretrain.momentum == 0.99
    assert resolved("data=cifar100", "pretrain.epochs=0").epochs == 200
    assert resolved("data=cifar10", "epochs=400").epochs == 400


def test_the_variant_of_the_paper() -> None:
    """Its filter and all rows, unless the user says otherwise; every other setting is as without it."""
    paper, plus = resolved("data=digits", "variant=paper"), resolved("data=digits", "variant=paper+")
    assert (paper.gaussians.outlier, paper.real_rows) == ("lof", "all")
    assert (plus.gaussians.outlier, plus.real_rows) == ("knn", "kept")
    assert paper.gaussians.model_copy(update={"outlier": "knn"}) == plus.gaussians
    mine = resolved(
        "data=digits", "variant=paper", "gaussians.outlier=none", "gaussians.q=1", "real_rows=kept"
    )
    assert (mine.gaussians.outlier, mine.gaussians.q, mine.real_rows) == ("none", 1, "kept")
    part = resolved("data=digits", "variant=paper", "gaussians.q=1")
    assert (part.gaussians.outlier, part.gaussians.q) == ("lof", 1)
    again = RCALConfig.model_validate(paper.model_dump())
    assert again == paper


@pytest.mark.parametrize("method", ["erm", "balanced_softmax"])
@pytest.mark.parametrize("variant", ["paper", "paper+"])
def test_baselines_have_no_variant_that_trusts_some_rows_more(method: str, variant: str) -> None:
    """They are trained on all rows either way."""
    config = resolved(f"variant={variant}", method=method)
    assert config.real_rows == "all"
    assert not config.gaussians.enabled
    assert not config.uses_stage_one


@pytest.mark.parametrize("method", ["erm", "balanced_softmax"])
@pytest.mark.parametrize("data", ["digits", "cifar10"])
def test_baselines_have_no_part_of_it(method: str, data: str) -> None:
    """Neither stage one nor draws, whatever the data."""
    config = resolved(f"data={data}", method=method)
    assert config.pretrain.epochs == 0
    assert not config.uses_stage_one
    if data == "cifar10":
        assert (config.epochs, config.encoder, config.milestones) == (100, "resnet32", (20, 40, 60, 80))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pretrain.epochs=9", "epochs=8"], "pretrain.epochs: at most epochs=8 expected, got 9"),
        (["gaussians.outlier=lov"], "gaussians.outlier"),
        (["gaussians.keep=0"], "gaussians.keep"),
        (["noise.rate=1"], "noise.rate"),
        (["imbalance.ratio=0.5"], "imbalance.ratio"),
        (["mixup=-1"], "mixup"),
        (["betta=1"], "betta"),
        (["validation=0.6"], "validation"),
    ],
)
def test_settings_that_cannot_be_are_named(words: list[str], message: str) -> None:
    """By the name the user gave."""
    with pytest.raises(ConfigError, match=message):
        resolved(*words)


def test_every_setting_is_described() -> None:
    """For ``nearfar describe``."""
    for model in (RCALConfig, type(RCALConfig.model_fields["pretrain"].default)):
        fields: dict[str, Any] = model.model_fields
        assert all(f.description or not isinstance(f.default, int | float | str) for f in fields.values())
