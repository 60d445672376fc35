"""All methods alike but for what they are; none of them hears of fine classes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from nearfar.adapters import representations
from nearfar.errors import ConfigError
from nearfar.longtail.registry import METHODS as REGISTERED
from nearfar.pipelines.hidden_classes.experiment import measure
from nearfar.pipelines.hidden_classes.merging import Merging
from nearfar.pipelines.hidden_classes.methods import METHODS, Training, chosen, settings, train_method
from nearfar.pipelines.hidden_classes.sources import Pool

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

Make = Callable[..., Pool]


def trained(name: str, pool: Pool, seed: int = 0) -> tuple[Any, Any, Any]:
    train, test = pool.draw(seed)
    encoder = pool.new_encoder(seed)
    method = train_method(name, encoder, train.inputs, train.coarse, 3, pool.training, seed)
    return method, train, test


@pytest.mark.parametrize("name", METHODS)
def test_fine_classes_do_not_leak_into_training(name: str, make_pool: Make) -> None:
    """Other fine classes inside the same coarse ones: the same weights bit by bit, other measurements."""
    pool = make_pool(merging=Merging(((0, 1, 2), (3, 4), (5,)), (99,) * 6))
    rng = np.random.default_rng(0)
    relabelled = pool.fine.copy()
    coarse = pool.merging.coarse(pool.fine)
    for tested in (True, False):
        for k in range(3):
            assert pool.tested is not None
            rows = np.flatnonzero((coarse == k) & (np.isin(np.arange(len(coarse)), pool.tested) == tested))
            relabelled[rows] = rng.permutation(pool.fine[rows])
    assert (relabelled != pool.fine).mean() > 0.3
    (first, train, test), (second, other_train, other_test) = (
        trained(name, one) for one in (pool, replace(pool, fine=relabelled))
    )
    states = first.state_dict(), second.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    ours, theirs = measure(first, train, test, 3, 0), measure(second, other_train, other_test, 3, 0)
    assert ours["balanced_accuracy"] == theirs["balanced_accuracy"]
    assert ours["fine_probe"] != theirs["fine_probe"]
    assert ours["hidden_nmi"] != theirs["hidden_nmi"]


def test_training_has_no_argument_for_fine_classes() -> None:
    assert not [name for name in inspect.signature(train_method).parameters if "fine" in name]


@pytest.mark.parametrize("name", METHODS)
def test_labels_matter_to_all_but_two(name: str, make_pool: Make) -> None:
    """Coarse labels of rows that change places change the weights; of SimCLR, and without training, they do not."""
    pool = make_pool()
    train, _ = pool.draw(0)
    moved = np.roll(train.coarse, 7)
    encoders = [pool.new_encoder(0) for _ in range(2)]
    for encoder, given in zip(encoders, (train.coarse, moved), strict=True):
        train_method(name, encoder, train.inputs, given, 3, pool.training, 0)
    z = [representations(encoder, train.inputs) for encoder in encoders]
    assert torch.equal(z[0], z[1]) == (name in ("untrained", "simclr"))
    start = representations(pool.new_encoder(0), train.inputs)
    assert torch.equal(z[0], start) == (name == "untrained")


def test_settings_are_shared() -> None:
    """All that the methods have in common is equal, but for the encoder that is not trained."""
    training = Training(epochs=7, batch_size=33, lr=0.02, warmup_epochs=3, every=2, temperature=0.3, delta=5)
    configs = {
        name: REGISTERED[compared.entry].load("config")(**settings(name, training))
        for name, compared in METHODS.items()
    }
    for name, config in configs.items():
        assert config.epochs == (0 if name == "untrained" else 7)
        assert config.batch_size == 33
        assert config.optim == configs["sbcl"].optim
        assert getattr(config, "temperature", 0.3) == 0.3
    sbcl: Any = configs["sbcl"]
    assert (sbcl.optim.lr, sbcl.optim.name) == (0.02, "adam")
    assert (sbcl.variant, sbcl.class_temperature.kind, sbcl.warmup_epochs) == ("paper", "paper", 3)
    assert (sbcl.subclasses.enabled, sbcl.subclasses.every, sbcl.subclasses.delta) == (True, 2, 5)
    assert [configs[name].subclasses.enabled for name in ("untrained", "simclr", "supcon")] == [False] * 3
    assert [configs[name].warmup_loss for name in ("simclr", "supcon", "sbcl")] == [
        "simclr",
        "supcon",
        "supcon",
    ]
    assert [configs[name].loss for name in ("cross-entropy", "balanced-softmax")] == [
        "cross_entropy",
        "balanced_softmax",
    ]


def test_names() -> None:
    assert chosen(None) == list(METHODS)
    assert chosen(["sbcl", "untrained", "sbcl"]) == ["untrained", "sbcl"]
    with pytest.raises(ConfigError, match="methods: 'supcom' is unknown; did you mean 'supcon'"):
        chosen(["supcom"])
    with pytest.raises(ConfigError, match="methods: one at least expected"):
        chosen([])


def test_settings_out_of_bounds(make_pool: Make) -> None:
    pool = make_pool(training={"batch_size": 1})
    with pytest.raises(ValueError, match="batch_size"):
        trained("supcon", pool)


@pytest.mark.parametrize("name", ["sbcl", "supcon"])
def test_training_is_that_of_the_trainer_for_everybody(name: str, make_pool: Make) -> None:
    """The same settings by hand: the same representations and classes bit by bit."""
    from nearfar.labels import balanced_accuracy
    from nearfar.longtail import SBCLTrainer

    method, train, test = trained(name, make_pool(), 2)
    trainer = SBCLTrainer(
        make_pool().new_encoder(2),
        train.inputs,
        train.coarse,
        seed=2,
        epochs=4,
        batch_size=48,
        optim__lr=3e-3,
        optim__schedule="cosine",
        warmup_epochs=1,
        subclasses__enabled=name == "sbcl",
        subclasses__every=2,
        subclasses__delta=4,
    ).fit()
    assert torch.equal(trainer.embed(test.inputs), representations(method.encoder, test.inputs))
    accuracy = measure(method, train, test, 3, 2)["balanced_accuracy"]
    assert accuracy == balanced_accuracy(test.coarse, trainer.predict(test.inputs))
    if name == "sbcl":
        assert torch.equal(trainer.subclasses_, method.subclasses.cpu())
        assert len(trainer.subclasses_.unique()) > 3
