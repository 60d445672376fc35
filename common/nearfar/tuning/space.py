"""Which settings a study searches, and over what range.

A space is written beside a method's config, or by the user in a YAML file; either way it is checked
against the config before anything slow is loaded.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nearfar.config import Layer, RunConfig, decisive, override_layer, resolve, suggest, yaml12
from nearfar.errors import ConfigError

Value = bool | int | float | str | None

# What every trial of a study must have in common, or its values could not be compared.
COMMON = ("data", "epochs", "selection")


@dataclass(frozen=True)
class Float:
    """Real numbers from ``low`` to ``high``.

    Args:
        low: Smallest value.
        high: Largest value.
        log: Draw evenly over orders of magnitude.

    Raises:
        ValueError: If the range is empty, not finite, or logarithmic and not positive.

    Example:
        >>> 3e-3 in Float(1e-4, 1e-2, log=True), 1 in Float(0, 0.5)
        (True, False)
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, self.log)

    def __contains__(self, value: object) -> bool:
        return _is_number(value) and self.low <= value <= self.high  # type: ignore[operator]

    def suggest(self, trial: Any, key: str) -> float:
        """Draw through an Optuna trial."""
        return float(trial.suggest_float(key, self.low, self.high, log=self.log))

    def describe(self) -> dict[str, Any]:
        """As in a YAML file."""
        return {"low": float(self.low), "high": float(self.high), **({"log": True} if self.log else {})}

    def ends(self) -> tuple[Value, ...]:
        """Values that must be valid settings."""
        return float(self.low), float(self.high)


@dataclass(frozen=True)
class Int:
    """Whole numbers from ``low`` to ``high``, both included.

    Args:
        low: Smallest value.
        high: Largest value.
        log: Draw evenly over orders of magnitude.

    Raises:
        ValueError: If the range is empty, not of whole numbers, or logarithmic and not positive.

    Example:
        >>> 3 in Int(1, 3), 4 in Int(1, 3), 1.5 in Int(1, 3)
        (True, False, False)
    """

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, self.log)
        if int(self.low) != self.low or int(self.high) != self.high:
            raise ValueError(f"low and high must be whole numbers, got {self.low} and {self.high}")

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int) and _is_number(value) and self.low <= value <= self.high

    def suggest(self, trial: Any, key: str) -> int:
        """Draw through an Optuna trial."""
        return int(trial.suggest_int(key, self.low, self.high, log=self.log))

    def describe(self) -> dict[str, Any]:
        """As in a YAML file."""
        return {"low": int(self.low), "high": int(self.high), **({"log": True} if self.log else {})}

    def ends(self) -> tuple[Value, ...]:
        """Values that must be valid settings."""
        return int(self.low), int(self.high)


@dataclass(frozen=True, init=False)
class Choice:
    """One of a few values, in no particular order.

    Args:
        values: At least two different numbers, texts, booleans or ``None``.

    Raises:
        ValueError: If there are fewer than two values, equal ones, or values of another kind.

    Example:
        >>> 0.2 in Choice(0.1, 0.2), "cosine" in Choice("dot")
        Traceback (most recent call last):
        ValueError: a choice needs at least two values, got ['dot']
    """

    values: tuple[Value, ...]

    def __init__(self, *values: Value) -> None:
        if len(values) < 2:
            raise ValueError(f"a choice needs at least two values, got {list(values)}")
        for value in values:
            if not (value is None or isinstance(value, (bool, int, float, str))):
                raise ValueError(f"values must be numbers, texts, booleans or null, got {value!r}")
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"values must be finite, got {value}")
        if len({repr(value) for value in values}) < len(values):
            raise ValueError(f"values must differ, got {list(values)}")
        object.__setattr__(self, "values", values)

    def __contains__(self, value: object) -> bool:
        return any(
            value == known and isinstance(value, bool) == isinstance(known, bool) for known in self.values
        )

    def suggest(self, trial: Any, key: str) -> Value:
        """Draw through an Optuna trial."""
        value: Value = trial.suggest_categorical(key, list(self.values))
        return value

    def describe(self) -> list[Value]:
        """As in a YAML file."""
        return list(self.values)

    def ends(self) -> tuple[Value, ...]:
        """Values that must be valid settings."""
        return self.values


Range = Float | Int | Choice


@dataclass(frozen=True)
class SearchSpace:
    """Dotted settings and the range of each.

    Args:
        ranges: ``{"optim.lr": Float(1e-4, 1e-2, log=True), "dropout": Choice(0.1, 0.2)}``.
        trials: Settings of trials alone, where the user gives no others; the final runs go without them.

    Raises:
        ValueError: If there is nothing to search.

    Example:
        >>> space = SearchSpace({"num_layers": Int(1, 3), "dropout": Choice(0.1, 0.2)})
        >>> space.describe()
        {'num_layers': {'low': 1, 'high': 3}, 'dropout': [0.1, 0.2]}
    """

    ranges: Mapping[str, Range]
    trials: Mapping[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.ranges:
            raise ValueError("a search space needs at least one setting")
        object.__setattr__(self, "ranges", dict(self.ranges))

    @classmethod
    def read(cls, path: Path, config: RunConfig) -> SearchSpace:
        """The space in a YAML file: ``optim.lr: {low: 1e-4, high: 1e-2, log: true}``, ``dropout: [0.1, 0.2]``.

        Args:
            path: The file.
            config: Decides whether a range is of whole or real numbers.

        Raises:
            ConfigError: If the file cannot be read, or a range is none; one line per mistake.
        """
        present = decisive(config)
        ranges: dict[str, Range] = {}
        mistakes = []
        for key, given in yaml12.load(path).items():
            try:
                ranges[key] = _parse_range(given, isinstance(present.get(key), float))
            except (TypeError, ValueError) as error:
                mistakes.append(f"{path}: {key}: {error}")
        if not ranges and not mistakes:
            mistakes.append(f"{path}: no setting to search; write lines like 'dropout: [0.1, 0.2]'")
        if mistakes:
            raise ConfigError("\n".join(mistakes))
        return cls(ranges)

    def check(self, config: RunConfig) -> None:
        """Refuse keys that ``config`` does not have or that must not vary, and values out of bounds.

        Raises:
            ConfigError: One line per mistake.
        """
        present = decisive(config)
        values = config.model_dump()
        mistakes: list[str] = []
        for key, span in self.ranges.items():
            if key == "seed" or key.partition(".")[0] in COMMON:
                mistakes.append(
                    f"search space: '{key}' cannot be searched: trials that differ in it are not comparable"
                )
            elif key not in present:
                known = [name for name in present if name.partition(".")[0] not in COMMON]
                hint = suggest(key, known, f"choose from {', '.join(known)}")
                mistakes.append(f"search space: unknown setting '{key}'; {hint}")
            else:
                mistakes += _refused(config, values, key, span)
        if mistakes:
            raise ConfigError("\n".join(mistakes))

    def suggest(self, trial: Any) -> list[str]:
        """Draw every setting through an Optuna trial, as ``key=value`` words."""
        return [setting(key, span.suggest(trial, key)) for key, span in self.ranges.items()]

    def defaults(self, config: RunConfig) -> dict[str, Value]:
        """The settings ``config`` already has, as far as they lie in their ranges."""
        present = decisive(config)
        return {key: present[key] for key, span in self.ranges.items() if present.get(key, _NOTHING) in span}

    def describe(self) -> dict[str, Any]:
        """Plain values, in the form of the YAML file."""
        return {key: span.describe() for key, span in self.ranges.items()}

    def digest(self) -> str:
        """16 hex digits; equal for equal spaces, whatever the order of their settings."""
        text = json.dumps(self.describe(), sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


_NOTHING = object()


def setting(key: str, value: Value) -> str:
    """``key=value`` that is read back as the very same value.

    Example:
        >>> setting("optim.lr", 0.001), setting("name", "1"), setting("clip_norm", None)
        ('optim.lr=0.001', 'name="1"', 'clip_norm=null')
    """
    quoted = json.dumps(value)
    if isinstance(value, str) and value and override_or_none(key, value) == value:
        return f"{key}={value}"
    return f"{key}={quoted}"


def override_or_none(key: str, text: str) -> Value:
    """What ``key=text`` means, ``None`` where it means nothing."""
    try:
        values: Any = override_layer([f"{key}={text}"]).values
    except ConfigError:
        return None
    for part in key.split("."):
        values = values[part]
    return values  # type: ignore[no-any-return]


def _refused(config: RunConfig, values: dict[str, Any], key: str, span: Range) -> list[str]:
    mistakes = []
    for end in span.ends():
        layers = [
            Layer("settings", values),
            Layer("search space", override_layer([setting(key, end)]).values),
        ]
        try:
            resolve(type(config), layers)
        except ConfigError as error:
            mistakes.append(f"search space: {key}={end} is not possible: {error}")
    return mistakes


def _parse_range(given: Any, real: bool) -> Range:
    if isinstance(given, list):
        return Choice(*given)
    if not isinstance(given, dict):
        raise ValueError(f"expected {{low: ..., high: ...}} or a list of values, got {given!r}")
    unknown = sorted(set(given) - {"low", "high", "log"})
    if unknown or not {"low", "high"} <= set(given):
        raise ValueError(f"expected low, high and perhaps log, got {', '.join(map(str, given)) or 'nothing'}")
    low, high, log = given["low"], given["high"], given.get("log", False)
    if not isinstance(log, bool):
        raise ValueError(f"log must be true or false, got {log!r}")
    whole = isinstance(low, int) and isinstance(high, int) and not real
    return Int(low, high, log) if whole else Float(low, high, log)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_range(low: object, high: object, log: bool) -> None:
    for name, end in (("low", low), ("high", high)):
        if not _is_number(end) or not math.isfinite(end):  # type: ignore[arg-type]
            raise ValueError(f"{name} must be a finite number, got {end!r}")
    if not low < high:  # type: ignore[operator]
        raise ValueError(f"low must be below high, got {low} and {high}")
    if log and not low > 0:  # type: ignore[operator]
        raise ValueError(f"a logarithmic range must be positive, got low={low}")
