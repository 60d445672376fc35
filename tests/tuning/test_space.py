"""Search spaces: what they draw, what they refuse, how they are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from nearfar.config import override_layer
from nearfar.errors import ConfigError
from nearfar.pipelines.registry import methods
from nearfar.pipelines.settings import resolve_settings
from nearfar.recsys.sasrec.config import SASRecConfig
from nearfar.tuning import Choice, Float, Int, SearchSpace
from nearfar.tuning.space import setting

CONFIG = SASRecConfig()
TUNABLE = [name for name, entry in methods().items() if entry.space is not None]


class Middle:
    """Stands in for a trial: the middle of a range, the last of a choice."""

    def suggest_float(self, key: str, low: float, high: float, *, log: bool) -> float:
        return (low * high) ** 0.5 if log else (low + high) / 2

    def suggest_int(self, key: str, low: int, high: int, *, log: bool) -> int:
        return (low + high) // 2

    def suggest_categorical(self, key: str, values: list[object]) -> object:
        return values[-1]


def test_draws_become_settings() -> None:
    space = SearchSpace(
        {
            "optim.lr": Float(1e-4, 1e-2, log=True),
            "num_layers": Int(1, 3),
            "optim.clip_norm": Choice(1.0, None),
        }
    )
    assert space.suggest(Middle()) == ["optim.lr=0.001", "num_layers=2", "optim.clip_norm=null"]


@pytest.mark.parametrize(
    "value", [1e-5, 3, 0.1 + 0.2, 1e22, "dot", "1", "true", "null", "a: b", "", None, True]
)
def test_a_setting_is_read_back_as_it_was(value: object) -> None:
    found = override_layer([setting("a.b", value)]).values["a"]["b"]  # type: ignore[arg-type]
    assert found == value
    assert type(found) is type(value)


def test_the_digest_depends_on_content_alone() -> None:
    one = SearchSpace({"dropout": Choice(0.1, 0.2), "num_layers": Int(1, 3)})
    assert one.digest() == SearchSpace({"num_layers": Int(1, 3), "dropout": Choice(0.1, 0.2)}).digest()
    for other in (Int(1, 4), Int(1, 3, log=True), Float(1, 3), Choice(1, 3)):
        assert SearchSpace({"dropout": Choice(0.1, 0.2), "num_layers": other}).digest() != one.digest()
    assert len(one.digest()) == 16


@pytest.mark.parametrize("name", TUNABLE)
def test_shipped_spaces_fit_their_configs_with_every_recipe(name: str) -> None:
    entry = methods()[name]
    space: SearchSpace = entry.load("space")
    for data in ("ml-100k", "amazon-beauty", "anything"):
        config = resolve_settings(entry, [f"data={data}"], environment={})
        space.check(config)
        assert set(space.defaults(config)) == set(space.ranges), "the default settings are the first trial"


def test_there_are_shipped_spaces() -> None:
    assert {"recsys.sasrec", "recsys.mclrec"} <= set(TUNABLE)


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"optm.lr": Float(0.1, 0.2)}, "unknown setting 'optm.lr'; did you mean 'optim.lr'?"),
        ({"optim": Float(0.1, 0.2)}, "unknown setting 'optim'"),
        ({"dropout": Float(0.0, 1.0)}, "dropout=1.0 is not possible: dropout: Input should be less than 1"),
        ({"optim.name": Choice("adam", "rmsprop")}, "optim.name=rmsprop is not possible"),
        ({"num_layers": Float(1.5, 2.5)}, "num_layers=1.5 is not possible"),
        ({"dim": Choice(64, 65)}, "must divide dim"),
        ({"seed": Int(0, 3)}, "'seed' cannot be searched"),
        ({"epochs": Int(1, 3)}, "'epochs' cannot be searched"),
        ({"selection.patience": Int(1, 3)}, "'selection.patience' cannot be searched"),
        ({"device": Choice("cpu", "cuda")}, "unknown setting 'device'"),
    ],
)
def test_spaces_that_do_not_fit(ranges: dict[str, Float | Int | Choice], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SearchSpace(ranges).check(CONFIG)
    assert message in str(caught.value)


def test_every_mistake_gets_a_line() -> None:
    with pytest.raises(ConfigError) as caught:
        SearchSpace({"a": Int(0, 1), "b": Int(0, 1), "dropout": Float(0.5, 2)}).check(CONFIG)
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    "make",
    [
        lambda: Float(1, 1),
        lambda: Float(2, 1),
        lambda: Float(0, 1, log=True),
        lambda: Float(0, float("inf")),
        lambda: Float(False, 1),
        lambda: Int(0, 3, log=True),
        lambda: Int(0.5, 3),  # type: ignore[arg-type]
        lambda: Choice(1),
        lambda: Choice(1, 1),
        lambda: Choice(1, [2]),  # type: ignore[arg-type]
        lambda: Choice(1.0, float("nan")),
        lambda: SearchSpace({}),
    ],
)
def test_ranges_that_are_none(make: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the messages are tested through files
        make()  # type: ignore[operator]


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(
        "optim.lr: {low: 1e-4, high: 1e-2, log: true}\n"
        "dropout: {low: 0, high: 0.5}\n"
        "optim.weight_decay: {low: 0, high: 1}\n"  # whole numbers for a setting that is real
        "num_layers: {low: 1, high: 3}\n"
        "attention_dropout: [0.1, 0.2]\n",
        encoding="utf-8",
    )
    space = SearchSpace.read(path, CONFIG)
    assert space.ranges == {
        "optim.lr": Float(1e-4, 1e-2, log=True),
        "dropout": Float(0, 0.5),
        "optim.weight_decay": Float(0, 1),
        "num_layers": Int(1, 3),
        "attention_dropout": Choice(0.1, 0.2),
    }
    space.check(CONFIG)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no setting to search"),
        ("- a\n", "expected 'key: value' lines"),
        ("dropout: 0.1\n", "dropout: expected {low: ..., high: ...} or a list of values, got 0.1"),
        ("dropout: {low: 0.1}\n", "expected low, high and perhaps log, got low"),
        ("dropout: {low: 0.1, high: 0.2, lgo: true}\n", "expected low, high and perhaps log"),
        ("dropout: {low: 0.1, high: 0.2, log: 1}\n", "log must be true or false"),
        ("dropout: {low: 0.2, high: 0.1}\n", "low must be below high, got 0.2 and 0.1"),
        ("dropout: {low: a, high: b}\n", "low must be a finite number, got 'a'"),
        ("dropout: [0.1]\n", "at least two values"),
        ("dropout: [0.1, [1]]\n", "values must be numbers, texts, booleans or null"),
        ("dropout: [0.1, 0.2]\ndropout: [0.1, 0.3]\n", "appears twice"),
    ],
)
def test_files_that_are_no_space(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        SearchSpace.read(path, CONFIG)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        SearchSpace.read(tmp_path / "space.yaml", CONFIG)


def test_defaults_are_those_in_range() -> None:
    space = SearchSpace({"dropout": Choice(0.2, 0.4), "num_layers": Int(3, 4), "optim.lr": Float(1e-4, 1e-2)})
    assert space.defaults(CONFIG) == {"dropout": 0.2, "optim.lr": 1e-3}
