"""B05: settings that must be refused, on every way settings come in (reliability.md, 4.5).

=====================================  ==========================================================================
case                                   where
=====================================  ==========================================================================
unknown key, did-you-mean              here; also tests/config/test_layers.py
wrong type, out of bounds              here, for every number of every method's settings
NaN, infinity                          here, for every number of every method's settings
``1e-3`` in YAML is 0.001              here, in files, variables and words
a boolean for a number                 here, for every number of every method's settings
a key twice                            here; also tests/config/test_yaml12.py
a file that cannot be read             here
a file that includes itself            here: there are no includes; aliases of themselves are refused
=====================================  ==========================================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from nearfar.config import Settings, environment_layer, file_layer, override_layer, resolve
from nearfar.errors import ConfigError
from nearfar.pipelines.registry import find, methods
from nearfar.recsys import MCLRecConfig

# Counted apart: what is refused, and what is odd and follows a policy.
refused_case = pytest.mark.row("B05", bad_inputs=1)
odd_case = pytest.mark.row("B05", odd_inputs=1)
WAYS = ("file", "variable", "word")


def given(way: str, key: str, text: str, folder: Path) -> Any:
    """One setting, as a layer."""
    if way == "word":
        return override_layer([f"{key}={text}"])
    if way == "variable":
        return environment_layer({"NEARFAR_" + key.upper().replace(".", "__"): text})
    path = folder / "settings.yaml"
    lines = [f"{'  ' * depth}{part}:" for depth, part in enumerate(key.split("."))]
    path.write_text("\n".join(lines) + f" {text}\n", encoding="utf-8")
    return file_layer(path)


CASES: list[tuple[str, str, str, str, str]] = [
    ("unknown", "epoch", "3", "unknown key 'epoch'", "did you mean 'epochs'"),
    ("unknown-in-group", "optim.lrr", "3", "unknown key 'optim.lrr'", "did you mean 'optim.lr'"),
    ("far-from-any", "optim.zzz", "3", "unknown key 'optim.zzz'", "known keys: .*momentum"),
    ("text-for-number", "epochs", "three", "epochs: .*'three'", "integer"),
    ("fraction-for-whole", "num_layers", "2.5", "num_layers: .*2.5", "integer"),
    ("list-for-number", "epochs", "[1, 2]", r"epochs: .*\[1, 2\]", "integer|number"),
    ("number-for-group", "optim", "5", "optim: .*5", "dictionary|object|instance"),
    ("too-low", "epochs", "-1", "epochs: .*-1", "greater than or equal to 0"),
    ("too-high", "dropout", "1", "dropout: .*got 1", "less than 1"),
    ("zero", "optim.lr", "0", "optim.lr: .*got 0", "greater than 0"),
    ("no-choice", "optim.name", "rmsprop", "optim.name: .*rmsprop", "'adam'"),
    ("nan", "optim.lr", ".nan", "optim.lr: .*nan", "finite number"),
    ("infinite", "optim.lr", ".inf", "optim.lr: .*inf", "finite number"),
    ("truth", "epochs", "true", "epochs: .*True", "a number or text"),
    ("truth-for-fraction", "optim.lr", "false", "optim.lr: .*False", "a number or text"),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("key", "text", "value", "fix"), [pytest.param(*case[1:], id=case[0]) for case in CASES]
)
@refused_case
def test_a_setting(way: str, key: str, text: str, value: str, fix: str, refuses: Any, tmp_path: Path) -> None:
    source = {"file": "settings.yaml", "variable": "environment", "word": "command line"}[way]
    with refuses(f"^(unknown key '{key}'|{key})", value, fix, ConfigError):
        resolve(MCLRecConfig, [given(way, key, text, tmp_path)])
    layer = given(way, key, text, tmp_path)
    assert source in layer.source


@pytest.mark.parametrize(
    ("method", "word", "told"),
    [
        ("graph.pot", "logit_scale=x", "logit_scale: .*number.*; or: .*'auto', got 'x' (command line)"),
        ("graph.pot", "logit_scale=0", "logit_scale: above 0 or auto expected, got 0.0 (command line)"),
        ("calibration.rcal", "epochs=3", "pretrain.epochs: at most epochs=3 expected.*(default)"),
        ("calibration.rcal", "milestones=[1, x]", "milestones.1: .*integer, got 'x' (command line)"),
    ],
)
@refused_case
def test_a_part_and_one_of_several_kinds(method: str, word: str, told: str) -> None:
    """One line, the name that one gave, and where one gave it."""
    with pytest.raises(ConfigError) as caught:
        resolve(find(method).load("config"), [override_layer([word])])
    pattern = re.escape(told).replace(r"\.\*", ".*")
    assert re.fullmatch(pattern, str(caught.value)), str(caught.value)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("optim.lr", "1e-3", 0.001),
        ("optim.lr", "5E-4", 0.0005),
        ("epochs", "1e1", 10),
        ("average", "null", None),
    ],
)
@odd_case
def test_numbers_as_people_write_them(way: str, key: str, text: str, value: Any, tmp_path: Path) -> None:
    found: Any = resolve(MCLRecConfig, [given(way, key, text, tmp_path)])
    for part in key.split("."):
        found = getattr(found, part)
    assert found == value
    assert not isinstance(found, str)


FILES: list[tuple[str, bytes, str, str]] = [
    ("key-twice", b"epochs: 1\nseed: 2\nepochs: 3\n", "line 3", "'epochs' appears twice"),
    ("key-twice-in-group", b"optim:\n  lr: 1\n  lr: 2\n", "line 3", "'lr' appears twice"),
    ("list", b"- 1\n- 2\n", "found list", "expected 'key: value' lines"),
    ("a-word", b"epochs\n", "found str", "expected 'key: value' lines"),
    ("not-closed", b"optim: [1, 2\n", "line", "expected"),
    ("tabs", b"optim:\n\tlr: 1\n", "line 2", "cannot start any token"),
    ("no-text", b"\xff\xfe\x00", "not UTF-8", "cannot read"),
    (
        "objects",
        b"a: !!python/object/apply:os.system ['true']\n",
        "line 1",
        "could not determine|constructor",
    ),
    ("alias-of-itself", b"a: &a [*a]\n", "aliases", "stand for more than"),
    (
        "aliases-of-aliases",
        b"a: &a [1,1,1,1,1,1,1,1,1]\n"
        + b"".join(
            b"%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n" % ((now, now) + (before,) * 9)
            for before, now in zip(b"abcdef", b"bcdefg", strict=True)
        ),
        "aliases",
        "stand for more than 100,000",
    ),
    ("includes", b"include: settings.yaml\n", "'include'", "known keys|did you mean"),
]


@pytest.mark.parametrize(("content", "value", "fix"), [pytest.param(*case[1:], id=case[0]) for case in FILES])
@refused_case
def test_a_file(content: bytes, value: str, fix: str, refuses: Any, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(content)
    with refuses("settings.yaml", value, fix, ConfigError):
        resolve(MCLRecConfig, [file_layer(path)])


@pytest.mark.parametrize("kind", ["absent", "folder"])
@refused_case
def test_a_file_that_cannot_be_read(kind: str, refuses: Any, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    if kind == "folder":
        path.mkdir()
    with refuses("config file .*settings.yaml", "No such file|Is a directory", "cannot read", ConfigError):
        file_layer(path)


def numbers(model: type[Settings], prefix: str = "") -> Iterator[str]:
    """Dotted names of the settings that are numbers."""
    for name, field in model.model_fields.items():
        kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type)]
        groups = [kind for kind in kinds if issubclass(kind, Settings)]
        if groups:
            yield from numbers(groups[0], f"{prefix}{name}.")
        elif any(issubclass(kind, int | float) and kind is not bool for kind in kinds) and bool not in kinds:
            yield prefix + name


@pytest.mark.parametrize("method", sorted(methods()))
@pytest.mark.row("B05")
def test_every_number_of_every_method(method: str, record_property: Any) -> None:
    """None takes NaN, infinity or a truth value; the message names it."""
    config_class: Any = find(method).load("config")
    names = list(numbers(config_class))
    assert len(names) > 5
    for name in names:
        for text in (".nan", ".inf", "-.inf", "true"):
            with pytest.raises(ConfigError) as caught:
                resolve(config_class, [override_layer([f"{name}={text}"])])
            assert name in str(caught.value)
    record_property("bad_inputs", 4 * len(names))


def keys(model: type[Settings], prefix: str = "") -> Iterator[str]:
    """All keys of settings, those of groups and the groups themselves."""
    for name, field in model.model_fields.items():
        yield prefix + name
        if isinstance(field.default, Settings):
            yield from keys(type(field.default), f"{prefix}{name}.")
        elif name == "objective":  # a group, once it has a name
            yield from (f"{prefix}{name}.name", f"{prefix}{name}.temperature")


ODD = ["null", "[]", "[a]", "[[1]]", "{}", "{a:}", "{name:}", "{1:}", "{null:}", "{[1]:}", "''", "x", "true"]
ODD += ["nan", ".inf", "-1", "1e30", "'\\0'"]


@pytest.mark.parametrize("method", sorted(methods()))
@pytest.mark.row("B05")
def test_any_value_of_any_setting(method: str, record_property: Any) -> None:
    """It is taken or refused, whatever its type; none of it raises anything else."""
    config_class: Any = find(method).load("config")
    refusals = []
    for key in keys(config_class):
        for text in ODD:
            try:
                resolve(config_class, [override_layer([f"{key}={text}"])])
            except ConfigError as error:
                refusals.append((key, text, str(error)))
    assert len(refusals) > 100
    nameless = [refusal for refusal in refusals if refusal[0].partition(".")[0] not in refusal[2]]
    assert not nameless
    record_property("bad_inputs", len(refusals))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["epoch=3"], "did you mean 'epochs'"),
        (["epochs=true"], "epochs: a number or text is expected, got the boolean True"),
        (["optim.lr=.nan"], "finite number, got nan"),
        (["--config", "absent.yaml"], "cannot read the config file absent.yaml"),
        (["seed"], "'seed' is not a setting; write key=value"),
    ],
)
@pytest.mark.parametrize("method", ["recsys.mclrec", "graph.contrast", "timeseries.autotcl", "longtail.sbcl"])
@refused_case
def test_a_command(method: str, words: list[str], told: str, command: Any) -> None:
    assert told in command(["train", method, *words], 2)
