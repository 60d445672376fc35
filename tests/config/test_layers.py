"""Layers, overrides, hashes, and one line per mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from nearfar.config import (
    OptimConfig,
    RunConfig,
    config_hash,
    environment_layer,
    file_layer,
    flatten,
    override_layer,
    resolve,
)
from nearfar.errors import ConfigError
from nearfar.recsys import MCLRecConfig, SASRecConfig


def test_later_layers_win(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("seed: 1\nepochs: 7\noptim: {lr: 0.1, clip_norm: 2}\n", encoding="utf-8")
    config = resolve(
        MCLRecConfig,
        [
            file_layer(path),
            environment_layer({"NEARFAR_SEED": "2", "NEARFAR_OPTIM__LR": "1e-2", "HOME": "/"}),
            override_layer(["seed=3", "contrast.rows=8"]),
        ],
    )
    assert (config.seed, config.epochs, config.optim.lr, config.optim.clip_norm) == (3, 7, 0.01, 2)
    assert config.contrast.rows == 8
    assert config.contrast.similarity == "dot"


def test_a_group_given_in_part_keeps_the_methods_own_defaults() -> None:
    """``selection`` of the recommenders differs from that of RunConfig."""
    config = resolve(SASRecConfig, [override_layer(["selection.patience=9"])])
    assert config.selection.metric == SASRecConfig().selection.metric == "val/ndcg_at_10"
    assert config.selection.patience == 9
    assert SASRecConfig.model_validate({"selection": {"patience": 9}}) == config


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("epoch=3", r"unknown key 'epoch' \(command line\); did you mean 'epochs'\?"),
        ("optim.lrr=3", r"unknown key 'optim.lrr' \(command line\); did you mean 'optim.lr'\?"),
        ("contrast.zzz=3", r"unknown key 'contrast.zzz' .*known keys: crop_ratio"),
        ("epochs=three", r"epochs: .*integer.*got 'three' \(command line\)"),
        ("epochs=-1", r"epochs: .*greater than or equal to 0, got -1"),
        ("epochs=true", "epochs: a number or text is expected, got the boolean True"),
        ("optim.lr=true", "optim.lr: a number or text is expected, got the boolean True"),
        ("optim.lr=.nan", r"optim.lr: .*finite number"),
        ("optim.lr=0", r"optim.lr: .*greater than 0, got 0"),
        ("optim=5", r"optim: .*got 5"),
        ("optim.name=rmsprop", r"optim.name: .*'adam'"),
        ("dropout=1", r"dropout: .*less than 1"),
        ("num_heads=3", r"num_heads \(3\) must divide dim \(64\)"),
        ("targets_per_batch=20", r"targets_per_batch \(20\) must be at least max_length \(50\)"),
        ("stride=51", r"stride \(51\) must not exceed max_length \(50\)"),
        ("seed", "'seed' is not a setting; write key=value"),
        ("=3", "'=3' is not a setting"),
        ("a..b=3", "'a..b=3' is not a setting"),
        ("seed=[1", "the value of 'seed'"),
    ],
)
@pytest.mark.row("B05", bad_inputs=1)
def test_mistakes_are_one_clear_line(word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        resolve(MCLRecConfig, [override_layer([word])])
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert caught.value.exit_code == 2


def test_several_mistakes_are_several_lines() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(MCLRecConfig, [override_layer(["epoch=3", "seed=-1"])])
    assert len(str(caught.value).splitlines()) == 2


def test_contradicting_overrides() -> None:
    with pytest.raises(ConfigError, match="'optim' was already given a plain value"):
        override_layer(["optim=1", "optim.lr=2"])


def test_the_hash_names_the_experiment_not_its_place() -> None:
    base = config_hash(SASRecConfig())
    elsewhere = SASRecConfig(
        output_dir=Path("x"),
        data_dir=Path("y"),
        device="cpu",
        num_threads=2,
        loader_workers=1,
        log_every=5,
        seed=3,
    )
    assert config_hash(elsewhere) == base
    for change in ({"precision": "bf16"}, {"epochs": 3}, {"optim": {"lr": 0.5}}, {"data": "other"}):
        assert config_hash(SASRecConfig.model_validate(change)) != base


def test_flatten_is_flat() -> None:
    flat = flatten(MCLRecConfig())
    assert flat["contrast.weight"] == MCLRecConfig().contrast.weight
    assert not any(isinstance(value, dict) for value in flat.values())


def test_configs_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        OptimConfig().lr = 3  # type: ignore[misc]


def test_every_field_is_described() -> None:
    for model in (RunConfig, SASRecConfig, MCLRecConfig):
        for name, field in model.model_fields.items():
            nested = hasattr(field.annotation, "model_fields")
            assert field.description or nested, f"{model.__name__}.{name} has no description"


def test_switches_are_no_settings() -> None:
    found = environment_layer({"NEARFAR_CACHE": "/x", "NEARFAR_TRITON": "0", "NEARFAR_FAST_GEMM": "0"})
    assert found.values == {}
