"""YAML by the 1.2 core rules, on top of PyYAML (which follows 1.1).

Under 1.1 ``1e-3`` is text, ``no`` is a boolean, ``12:30`` is 750 and ``0123`` is 83; recipes are
written by people who expect none of this. Duplicate keys are refused instead of the last one winning.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from nearfar.errors import ConfigError, first_line

# A recipe has some fifty.
MOST_VALUES = 100_000
MOST_LEVELS = 64


class _Loader(yaml.SafeLoader):
    """Safe loader with the 1.2 core scalars and a check for duplicate keys."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own attribute, emptied on purpose

    def fetch_flow_collection_start(self, TokenClass: Any) -> None:  # noqa: N803 - PyYAML's own name
        if self.flow_level >= MOST_LEVELS:  # PyYAML takes time by the square of them
            reason = f"brackets inside brackets, more than {MOST_LEVELS} deep"
            raise yaml.MarkedYAMLError(None, None, reason, self.get_mark())
        super().fetch_flow_collection_start(TokenClass)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(None, None, "a key is text or a number", key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(None, None, f"key '{key.value}' appears twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    return int(text, 0) if text.startswith(("0x", "0o")) else int(text)


def _construct_float(loader: _Loader, node: yaml.ScalarNode) -> float:
    return float(loader.construct_scalar(node).lower().replace(".inf", "inf").replace(".nan", "nan"))


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", [*"~nN", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first)
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _construct_float)


def loads(text: str, source: str = "text") -> Any:
    """Parse one YAML document.

    Args:
        text: The document.
        source: What to call it in an error message.

    Returns:
        Dicts, lists and scalars.

    Raises:
        ConfigError: If the text is not valid YAML or repeats a key; names the line.

    Example:
        >>> loads("lr: 1e-3")
        {'lr': 0.001}
    """
    try:
        values = yaml.load(text, _Loader)  # a SafeLoader
        _check_size(values)
        return values
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{source}{line}: {error.problem or 'not valid YAML'}") from None
    except Exception as error:  # tags on values they are not for make PyYAML raise almost anything
        raise ConfigError(f"{source}: not valid YAML ({first_line(error)})") from None


def _check_size(values: Any) -> None:
    """Refuse aliases of aliases that stand for more than anybody would write, or for themselves."""
    sizes: dict[int, int] = {}

    def size(value: Any) -> int:
        if not isinstance(value, dict | list):
            return 1
        if id(value) not in sizes:
            sizes[id(value)] = MOST_VALUES  # an alias of itself meets this
            parts = value.values() if isinstance(value, dict) else value
            sizes[id(value)] = 1 + sum(map(size, parts))
        return sizes[id(value)]

    if size(values) >= MOST_VALUES:
        raise ValueError(f"its aliases stand for more than {MOST_VALUES:,} values")


def load(path: Path) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping.

    Raises:
        ConfigError: If the file cannot be read, is not YAML or is not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"cannot read the config file {path}: {reason}") from None
    values = loads(text, str(path)) or {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(f"{path}: expected 'key: value' lines, found {type(values).__name__}")
    return values
