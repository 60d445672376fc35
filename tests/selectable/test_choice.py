"""A word in a config becomes the settings of an objective, or says why it cannot."""

from __future__ import annotations

from typing import Any

import pytest

from nearfar.config import config_hash, flatten, override_layer, resolve
from nearfar.errors import ConfigError
from nearfar.pipelines.registry import find
from nearfar.pipelines.settings import resolve_settings
from nearfar.recsys import MCLRecConfig
from nearfar.selectable import OBJECTIVES
from nearfar.selectable.offers import NEEDS, Offers


def settings(method: str, *words: str) -> Any:
    return resolve_settings(find(method), list(words), environment={})


@pytest.mark.parametrize(
    "method", ["graph.contrast", "timeseries.autotcl", "recsys.mclrec", "calibration.rcal"]
)
def test_one_word(method: str) -> None:
    chosen = settings(method, "objective=dclw").objective
    assert (chosen.name, chosen.temperature, chosen.sigma) == ("dclw", 0.1, 0.5)


def test_a_word_and_parameters_in_any_order() -> None:
    for words in (
        ("objective=dclw", "objective.sigma=2"),
        ("objective.sigma=2", "objective=dclw"),
        ("objective.name=dclw", "objective.sigma=2"),
    ):
        assert settings("graph.contrast", *words).objective.sigma == 2


def test_another_word_leaves_nothing_of_the_first() -> None:
    layers = [override_layer(["objective=dclw", "objective.sigma=2"]), override_layer(["objective=dcl"])]
    assert flatten(resolve(MCLRecConfig, layers))["objective.name"] == "dcl"
    layers = [override_layer(["objective=dclw"]), override_layer(["objective.sigma=3"])]
    assert flatten(resolve(MCLRecConfig, layers))["objective.sigma"] == 3


def test_the_hash_knows_the_objective_and_its_parameters() -> None:
    words = [(), ("objective=dcl",), ("objective=ntxent",), ("objective=dcl", "objective.temperature=.2")]
    assert len({config_hash(settings("graph.contrast", *some)) for some in words}) == 4
    spelled_out = settings("graph.contrast", "objective=dcl", "objective.temperature=0.1")
    assert config_hash(settings("graph.contrast", "objective=dcl")) == config_hash(spelled_out)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("objective=ntxnet",), "there is no objective 'ntxnet'; did you mean 'ntxent'?"),
        (("objective=zzz",), "there is no objective 'zzz'; graph can have infonce, ntxent"),
        (("objective.sigma=1",), "the name of an objective expected, for example objective=dcl"),
        (("objective=3",), "the name of an objective expected"),
        (("objective.name=[dcl]",), "the name of an objective expected"),
        (("objective.name={dcl: 1}",), "the name of an objective expected"),
        (("objective.name=null",), "the name of an objective expected"),
        (
            ("objective=dcl", "objective.sigma=1"),
            "sigma is no parameter of dcl but of dclw; dcl takes temperature",
        ),
        (
            ("objective=dcl", "objective.temprature=1"),
            "temprature is no parameter of dcl; did you mean 'temperature'?",
        ),
        (
            ("objective=simsiam", "objective.foo=1"),
            "foo is no parameter of simsiam; simsiam takes no parameters",
        ),
        (
            ("objective=dcl", "objective.temperature=0"),
            "temperature: Input should be greater than or equal to 0.01",
        ),
        (("objective=dcl", "objective.temperature=true"), "temperature"),
        (
            ("objective=supcon",),
            "supcon cannot be had in graph: it needs a label of every row, but training sees no labels of nodes",
        ),
        (
            ("objective=dcl", "base=bgrl"),
            "base=bgrl is a loss of its own: with objective=dcl take base=grace or gca",
        ),
    ],
)
def test_bad_input(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings("graph.contrast", *words)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("method", "words", "message"),
    [
        ("recsys.mclrec", ("objective=cwcl",), "nothing is known of a history but its items"),
        (
            "recsys.mclrec",
            ("objective=dcl", "contrast.weight=0"),
            "set contrast.form=mclrec and contrast.weight",
        ),
        (
            "recsys.mclrec",
            ("objective=dcl", "contrast.form=spread"),
            "objective=dcl is a contrast of data views",
        ),
        ("timeseries.autotcl", ("objective=multistage",), "crops are drawn anew at every step"),
        ("longtail.supcon", ("objective=negclip",), "rows of any kind have no order that could be broken"),
        (
            "longtail.supcon",
            ("objective=dcl", "queue.size=8"),
            "queue.size: 0 expected with objective=dcl, got 8",
        ),
        (
            "graph.untrained",
            ("objective=dcl",),
            "graph.untrained contrasts no views, so there is nothing to choose",
        ),
        ("recsys.sasrec", ("objective.name=dcl",), "recsys.sasrec contrasts no views"),
        ("calibration.rcal", ("objective=counterfactual",), "it needs spoilt versions of a row"),
    ],
)
def test_pairs_that_do_not_go_together(method: str, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(method, *words)
    assert message in str(caught.value)


def test_every_refusal_has_a_reason() -> None:
    with pytest.raises(ValueError, match="a reason for all that graph does not give"):
        Offers("graph", frozenset(), {})
    bare = Offers("nowhere", frozenset(), {need: f"there is no {need}" for need in NEEDS})
    for entry in OBJECTIVES.values():
        reason = bare.refusal(entry.needs)
        assert (reason is None) == (not entry.needs)
        assert all(f"there is no {need}" in (reason or "") for need in entry.needs)


def test_an_estimator_takes_a_word() -> None:
    pytest.importorskip("sklearn")
    from nearfar.timeseries import AutoTCLEncoder as Estimator

    model = Estimator(objective="dclw", objective__sigma=2.0)
    assert flatten(model.config)["objective.sigma"] == 2
    model.set_params(objective="dcl")
    assert flatten(model.config)["objective.name"] == "dcl"
    with pytest.raises(ConfigError, match="sigma is no parameter of dcl"):
        model.set_params(objective__sigma=1.0)


def test_settings_saved_under_the_old_name_of_a_form_are_read() -> None:
    saved = MCLRecConfig.model_validate({"contrast": {"objective": "spread", "weight": 0.5}})
    assert (saved.contrast.form, saved.objective) == ("spread", None)
    with pytest.raises(ConfigError, match="unknown key 'contrast.objective'"):
        settings("recsys.mclrec", "contrast.objective=dcl")
