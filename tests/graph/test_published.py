"""Published settings: every table is used, and whatever the user says wins."""

from __future__ import annotations

import pytest

from nearfar.config import Layer
from nearfar.graph.contrast.config import GraphContrastConfig
from nearfar.graph.contrast.published import TABLES
from nearfar.graph.pot.config import POTConfig
from nearfar.graph.untrained.config import UntrainedConfig
from nearfar.pipelines.registry import find
from nearfar.pipelines.settings import resolve_settings

DATA = ["cora", "citeseer", "pubmed", "blogcatalog", "flickr", "computers", "photo", "wikics"]


def contrast(*words: str) -> GraphContrastConfig:
    config = resolve_settings(find("graph.contrast"), words, environment={})
    assert isinstance(config, GraphContrastConfig)
    return config


def pot(*words: str) -> POTConfig:
    config = resolve_settings(find("graph.pot"), words, environment={})
    assert isinstance(config, POTConfig)
    return config


@pytest.mark.parametrize("base", TABLES)
def test_every_row_is_valid_and_the_last_epoch_is_kept(base: str) -> None:
    assert list(TABLES[base]) == DATA
    for data in DATA:
        config = contrast(f"data={data}.npz", f"base={base}")
        row = TABLES[base][data]
        assert (config.optim.lr, config.epochs, config.dim) == (row.lr, row.epochs, row.dim)
        assert config.selection.every == config.epochs
        assert config.normalize == (data != "wikics")


def test_some_figures_of_the_tables() -> None:
    assert contrast("data=cora").temperature == 0.9
    assert contrast("data=pubmed", "base=gca").batch_nodes == 4096
    costa = contrast("data=folder/Photo.npz", "base=costa")
    assert (costa.projection, costa.optim.weight_decay, costa.batch_nodes) == (64, 0.0, 2048)
    assert contrast("data=citeseer", "base=progcl").activation == "prelu"


def test_kappa_is_that_of_the_readme_examples() -> None:
    kappas = {base: pot("data=cora", f"base={base}").kappa for base in ("grace", "gca", "costa")}
    assert kappas == {"grace": 0.4, "gca": 0.3, "costa": 0.2}
    blogs = pot("data=blogcatalog.npz", "base=gca")
    assert (blogs.compactness.batch_nodes, blogs.dim) == (1024, 256)


def test_the_user_wins_and_a_recipe_does(monkeypatch: pytest.MonkeyPatch) -> None:
    assert contrast("data=cora", "base=gca", "epochs=3", "augment.drop_1=0.2").augment.drop_2 == 0.1
    assert contrast("data=cora", "base=gca", "epochs=3").epochs == 3
    assert contrast("data=digits").dim == 64
    recipe = Layer("recipe", {"dim": 32})
    monkeypatch.setattr("nearfar.pipelines.settings.recipe_layer", lambda *_: recipe)
    assert (contrast("data=cora").dim, contrast("data=cora").temperature) == (32, 0.9)
    assert contrast("data=cora", "dim=16").dim == 16


def test_nothing_was_published_for_bgrl_or_other_data() -> None:
    assert contrast("data=cora", "base=bgrl").epochs == GraphContrastConfig().epochs
    assert contrast("data=other.npz").epochs == GraphContrastConfig().epochs


def test_an_untrained_encoder_has_the_same_size() -> None:
    config = resolve_settings(find("graph.untrained"), ["data=citeseer"], environment={})
    assert isinstance(config, UntrainedConfig)
    assert (config.dim, config.activation, config.epochs) == (256, "prelu", 0)
