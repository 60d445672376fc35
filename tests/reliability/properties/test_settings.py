"""P08: settings of every method can be written down and read again, and no change of one goes unnoticed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest

from nearfar.config import (
    Layer,
    RunConfig,
    canonical_json,
    config_hash,
    flatten,
    merge,
    override_layer,
    resolve,
    yaml12,
)
from nearfar.config.settings import PLACES, Settings
from nearfar.errors import ConfigError
from nearfar.pipelines.registry import methods
from nearfar.selectable import OBJECTIVES, ObjectiveSettings

pytest.importorskip("hypothesis", reason="hypothesis is not installed")

from hypothesis import event, given, settings
from hypothesis import strategies as st

METHODS = methods()
# Every method is tried on a fifth of the examples, 16 methods on three times as many.
EACH = settings(max_examples=settings().max_examples // 5)
FAR = 10**9
# What a person may type: letters of all languages, signs, spaces; no control characters.
typed = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"]), max_size=8)
junk = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | typed
    | st.lists(st.integers(), max_size=2)
    | st.dictionaries(typed, st.integers(), max_size=2)
)
Key = tuple[str, ...]


def bounds(metadata: Sequence[Any]) -> dict[str, float]:
    """``ge``, ``gt``, ``le`` and ``lt`` of a field."""
    return {
        name: getattr(part, name)
        for part in metadata
        for name in ("ge", "gt", "le", "lt")
        if hasattr(part, name)
    }


def whole_numbers(given: Mapping[str, float]) -> st.SearchStrategy[int]:
    low = int(given["ge"]) if "ge" in given else int(given["gt"]) + 1 if "gt" in given else -FAR
    high = int(given["le"]) if "le" in given else int(given["lt"]) - 1 if "lt" in given else FAR
    return st.integers(low, high)


def real_numbers(given: Mapping[str, float]) -> st.SearchStrategy[float]:
    return st.floats(
        given.get("ge", given.get("gt", -1e12)),
        given.get("le", given.get("lt", 1e12)),
        exclude_min="gt" in given,
        exclude_max="lt" in given,
        allow_nan=False,
    )


def values(annotation: Any, metadata: Sequence[Any] = ()) -> st.SearchStrategy[Any]:
    """What a field may hold, as YAML has it."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        extra = [m for part in parts[1:] for m in (*getattr(part, "metadata", ()), part)]
        return values(parts[0], [*metadata, *extra])
    if origin in (Union, UnionType):
        return st.one_of(*(values(part, metadata) for part in parts))
    if origin is Literal:
        return st.sampled_from(parts)
    if origin is tuple:
        return st.lists(values(parts[0]), max_size=3)
    if isinstance(annotation, type) and issubclass(annotation, ObjectiveSettings):
        return objectives
    simple: dict[Any, st.SearchStrategy[Any]] = {
        NoneType: st.none(),
        bool: st.booleans(),
        str: typed,
        Path: typed,
    }
    if annotation in simple:
        return simple[annotation]
    return {int: whole_numbers, float: real_numbers}[annotation](bounds(metadata))


@st.composite
def chosen_objectives(draw: st.DrawFn) -> dict[str, Any]:
    """An objective by name, with some of its parameters."""
    entry = draw(st.sampled_from(list(OBJECTIVES.values())))
    fields = {key: f for key, f in entry.settings.model_fields.items() if key != "name"}
    chosen = draw(st.sets(st.sampled_from(sorted(fields)), max_size=2)) if fields else set()
    return {
        "name": entry.name,
        **{key: draw(values(fields[key].annotation, fields[key].metadata)) for key in sorted(chosen)},
    }


objectives = chosen_objectives()


def leaves(model: type[Settings], prefix: Key = ()) -> Iterator[tuple[Key, st.SearchStrategy[Any]]]:
    """Every setting of a model and of its groups."""
    for name, field in model.model_fields.items():
        annotation = field.annotation
        group = isinstance(annotation, type) and issubclass(annotation, Settings)
        if group and not issubclass(annotation, ObjectiveSettings):  # type: ignore[arg-type]
            yield from leaves(annotation, (*prefix, name))  # type: ignore[arg-type]
        else:
            yield (*prefix, name), values(annotation, field.metadata)


CONFIGS: dict[str, type[RunConfig]] = {name: entry.load("config") for name, entry in METHODS.items()}
LEAVES = {name: dict(leaves(config)) for name, config in CONFIGS.items()}


def nested(key: Key, value: Any) -> dict[str, Any]:
    for part in reversed(key):
        value = {part: value}
    found: dict[str, Any] = value
    return found


def drawn(data: st.DataObject, method: str) -> tuple[RunConfig, dict[str, Any]]:
    """A config that differs from the default in some settings, and these; what contradicts the others is left out."""
    config, given_values = CONFIGS[method].model_validate({}), dict[str, Any]()
    for key in data.draw(st.lists(st.sampled_from(list(LEAVES[method])), max_size=6, unique=True)):
        more = merge(given_values, nested(key, data.draw(LEAVES[method][key])))
        try:
            config, given_values = resolve(CONFIGS[method], [Layer("drawn", more)]), more
        except ConfigError:
            event("contradicts others")
    return config, given_values


@pytest.mark.row("P08")
@pytest.mark.parametrize("method", METHODS)
@EACH
@given(data=st.data())
def test_what_is_printed_can_be_read(method: str, data: st.DataObject) -> None:
    config, _ = drawn(data, method)
    text = canonical_json(config)
    readings = [
        CONFIGS[method].model_validate_json(text),
        resolve(
            CONFIGS[method], [Layer("file", yaml12.loads(json.dumps(json.loads(text), ensure_ascii=False)))]
        ),
        resolve(
            CONFIGS[method],
            [override_layer(f"{k}={json.dumps(v, ensure_ascii=False)}" for k, v in flatten(config).items())],
        ),
    ]
    for again in readings:
        assert again == config
        assert (canonical_json(again), config_hash(again)) == (text, config_hash(config))


def told_apart(config: RunConfig, other: RunConfig, key: Key) -> None:
    """A changed setting changes the hash; where a run is and which seed it has are said elsewhere."""
    if other == config:
        event("the same value")
        assert config_hash(other) == config_hash(config)
        return
    assert canonical_json(other) != canonical_json(config)
    by_place = key[0] in PLACES or key == ("seed",)
    assert (config_hash(other) == config_hash(config)) == by_place


@pytest.mark.row("P08")
@pytest.mark.parametrize("method", METHODS)
@EACH
@given(data=st.data())
def test_no_changed_setting_goes_unnoticed(method: str, data: st.DataObject) -> None:
    config, before = drawn(data, method)
    key = data.draw(st.sampled_from(list(LEAVES[method])))
    value = data.draw(LEAVES[method][key] | junk)
    try:
        other = resolve(CONFIGS[method], [Layer("drawn", merge(before, nested(key, value)))])
    except ConfigError as error:
        event("refused")
        assert str(error).strip()  # noqa: PT017 - refused or told apart
        return
    told_apart(config, other, key)


@pytest.mark.row("P08")
@pytest.mark.parametrize("method", METHODS)
@EACH
@given(data=st.data(), letter=st.sampled_from("abxyz_0"))
def test_no_misspelt_setting_goes_unnoticed(method: str, data: st.DataObject, letter: str) -> None:
    key = data.draw(st.sampled_from(list(LEAVES[method])))
    name = key[-1]
    place = data.draw(st.integers(0, len(name)))
    kind = data.draw(st.sampled_from(["more", "less", "case"]))
    wrong = {
        "more": name[:place] + letter + name[place:],
        "less": name[: place - 1] + name[place:] if place else name[1:],
        "case": name.title(),
    }[kind]
    known = {other[-1] for other in LEAVES[method] if other[:-1] == key[:-1]}
    groups = {other[len(key) - 1] for other in LEAVES[method] if other[: len(key) - 1] == key[:-1]}
    if not wrong or wrong in known | groups:
        return
    with pytest.raises(ConfigError, match=rf"unknown key '{'.'.join([*key[:-1], wrong])}' \(drawn\)"):
        resolve(CONFIGS[method], [Layer("drawn", nested((*key[:-1], wrong), data.draw(LEAVES[method][key])))])


@pytest.mark.row("P08")
@pytest.mark.parametrize("method", METHODS)
def test_every_setting_takes_the_ends_of_its_range(method: str) -> None:
    """Numbers that are not finite, booleans for numbers, and numbers just outside are refused by every field."""
    for key in LEAVES[method]:
        field: Any = CONFIGS[method]
        for part in key[:-1]:
            field = field.model_fields[part].annotation
        field = field.model_fields[key[-1]]
        kinds = {field.annotation, *get_args(field.annotation)}
        if not kinds & {int, float}:
            continue
        found = bounds(field.metadata)
        inside = {
            "ge": -1,
            "le": 1,
            "gt": 0,
            "lt": 0,
        }  # by how much the first number outside is beyond the bound
        outside: list[Any] = [math.nan, math.inf, -math.inf, True, "three"]
        outside += [bound + inside[name] for name, bound in found.items()]
        for value in outside:
            with pytest.raises(ConfigError, match=key[-1]):
                resolve(CONFIGS[method], [Layer("drawn", nested(key, value))])


@pytest.mark.row("P08")
@pytest.mark.parametrize("method", METHODS)
def test_a_default_of_ones_own_keeps_the_bounds(method: str) -> None:
    """A field that a method's settings give another default once lost its bounds: a negative rate was taken."""
    config = CONFIGS[method]
    for parent in config.__mro__[1:]:
        for name, field in getattr(parent, "model_fields", {}).items():
            own = config.model_fields[name]
            narrower = get_origin(own.annotation) is Literal
            assert narrower or bounds(own.metadata) == bounds(field.metadata), (
                f"{name}, from {parent.__name__}"
            )
