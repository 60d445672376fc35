"""From several sources of settings to one validated config; later layers win.

Order used by the command line: method defaults < published settings < recipe < user file < ``NEARFAR_*`` < ``a.b=c``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from nearfar.config import yaml12
from nearfar.config.settings import Settings
from nearfar.config.suggest import suggest
from nearfar.errors import ConfigError

ENVIRONMENT_PREFIX = "NEARFAR_"
# Not settings of a run: switches of the core, places.
OTHER_VARIABLES = frozenset({"NEARFAR_CACHE", "NEARFAR_FAST_GEMM", "NEARFAR_TRITON"})

ConfigT = TypeVar("ConfigT", bound=Settings)


@dataclass(frozen=True)
class Layer:
    """Nested values and the name of where they came from, for error messages."""

    source: str
    values: dict[str, Any]


def file_layer(path: Path) -> Layer:
    """Settings of a YAML file."""
    return Layer(str(path), yaml12.load(path))


def override_layer(overrides: Iterable[str]) -> Layer:
    """Settings given as ``a.b=c`` words; values are read as YAML, so ``1e-3`` is a number.

    Raises:
        ConfigError: If a word has no ``=`` or an empty key.

    Example:
        >>> override_layer(["optim.lr=5e-4", "seed=1"]).values
        {'optim': {'lr': 0.0005}, 'seed': 1}
    """
    values: dict[str, Any] = {}
    for word in overrides:
        key, equals, text = word.partition("=")
        if not equals or not all(key.split(".")):
            raise ConfigError(f"'{word}' is not a setting; write key=value, for example optim.lr=5e-4")
        _insert(values, key.split("."), yaml12.loads(text, f"the value of '{key}'"), word)
    return Layer("command line", values)


def environment_layer(environment: Mapping[str, str] | None = None) -> Layer:
    """Settings of ``NEARFAR_*`` variables; ``NEARFAR_OPTIM__LR=5e-4`` is ``optim.lr=5e-4``."""
    values: dict[str, Any] = {}
    for name, text in sorted((os.environ if environment is None else environment).items()):
        if name.startswith(ENVIRONMENT_PREFIX) and name not in OTHER_VARIABLES:
            path = name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
            _insert(values, path, yaml12.loads(text, name), name)
    return Layer("environment", values)


def _insert(values: dict[str, Any], path: Sequence[str], value: Any, source: str) -> None:
    for key in path[:-1]:
        if isinstance(values.get(key), str):  # a group given as one word
            values[key] = {"name": values[key]}
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise ConfigError(f"'{source}': '{key}' was already given a plain value")
    known = values.get(path[-1])
    if isinstance(known, dict) and isinstance(value, str):
        known["name"] = value
        return
    values[path[-1]] = value


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dictionaries laid over each other; ``above`` wins.

    A word stands for a group by that name: parameters join it, another word takes the place of name and parameters.

    Example:
        >>> merge({"optim": {"lr": 1, "clip": 2}}, {"optim": {"lr": 3}})
        {'optim': {'lr': 3, 'clip': 2}}
        >>> merge({"objective": "dclw"}, {"objective": {"sigma": 1}})
        {'objective': {'name': 'dclw', 'sigma': 1}}
        >>> merge({"objective": {"name": "dclw", "sigma": 1}}, {"objective": "dcl"})
        {'objective': 'dcl'}
    """
    merged = dict(below)
    for key, value in above.items():
        known = merged.get(key)
        if isinstance(known, str) and isinstance(value, Mapping):
            known = {"name": known}
        both = isinstance(known, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(known, value) if both else value  # type: ignore[arg-type]
    return merged


def resolve(config_class: type[ConfigT], layers: Iterable[Layer]) -> ConfigT:
    """Validate the merged layers.

    Raises:
        ConfigError: One line per problem; an unknown key comes with the nearest known one.
    """
    layers = list(layers)
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = merge(merged, layer.values)
    try:
        return config_class.model_validate(merged)
    except ValidationError as error:
        lines = [_explain(config_class, detail, layers) for detail in _joined(config_class, error.errors())]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from None


def _joined(config_class: type[BaseModel], details: Iterable[ErrorDetails]) -> list[ErrorDetails]:
    """Where a value may be of several kinds, pydantic has a problem for each kind, named after it: here, one."""
    found: list[ErrorDetails] = []
    for detail in details:
        path = _without_kind(config_class, detail["loc"])
        if path != detail["loc"] and found and found[-1]["loc"] == path:
            found[-1]["msg"] += f"; or: {detail['msg']}"
        else:
            found.append({**detail, "loc": path})
    return found


def _without_kind(config_class: type[BaseModel], path: tuple[int | str, ...]) -> tuple[int | str, ...]:
    model: type[BaseModel] | None = config_class
    for place, part in enumerate(path, 1):
        field = None if model is None else model.model_fields.get(str(part))
        if field is None:
            break
        kinds = _kinds(field.annotation)
        if len(kinds) > 1:
            return path[:place]
        model = next(iter(_models(kinds)), None)
    return path


def _kinds(annotation: Any) -> list[Any]:
    """Types of a value, without that of ``None``."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kinds(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [kind for part in get_args(annotation) for kind in _kinds(part)]
    return [] if annotation is NoneType else [annotation]


def _models(kinds: Iterable[Any]) -> list[type[BaseModel]]:
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]


def _explain(config_class: type[BaseModel], detail: ErrorDetails, layers: Sequence[Layer]) -> str:
    path = [str(part) for part in detail["loc"]]
    key = ".".join(path)
    source = _source(layers, path)
    if detail["type"] == "extra_forbidden":
        known = _keys(config_class, path[:-1])
        prefix = "".join(f"{part}." for part in path[:-1])
        hint = suggest(path[-1], known, f"known keys: {', '.join(sorted(known))}", prefix=prefix, cutoff=0.5)
        return f"unknown key '{key}' ({source}); {hint}"
    if detail["type"] == "boolean_given":
        field = ".".join([*path, detail["ctx"]["name"]])
        given_by = _source(layers, [*path, detail["ctx"]["name"]])
        return f"{field}: a number or text is expected, got the boolean {detail['ctx']['value']} ({given_by})"
    message = detail["msg"].removeprefix("Value error, ")
    named = message.partition(":")[0].split(".")
    # A check of several settings names the one to change.
    if not path and named[0] in config_class.model_fields:
        return f"{message} ({_source(layers, named)})"
    given = "" if isinstance(detail["input"], Mapping) else f", got {detail['input']!r}"
    return f"{key or config_class.__name__}: {message}{given} ({source})"


def _source(layers: Sequence[Layer], path: Sequence[str]) -> str:
    """Name of the layer that a value came from, or what it is a part of."""
    for length in range(len(path), 0, -1):
        for layer in reversed(layers):
            if _holds(layer.values, path[:length]):
                return layer.source
    return "default" if path or not layers else layers[-1].source


def _holds(values: Any, path: Sequence[str]) -> bool:
    for part in path:
        if not isinstance(values, Mapping) or part not in values:
            return False
        values = values[part]
    return True


def _keys(config_class: type[BaseModel], path: Sequence[str]) -> list[str]:
    """Field names of the model that sits at ``path`` below ``config_class``."""
    for part in path:
        models = _models(_kinds(config_class.model_fields[part].annotation))
        if not models:
            return []
        config_class = models[0]
    return list(config_class.model_fields)
