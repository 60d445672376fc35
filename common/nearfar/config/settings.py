"""The base of every config model, and the three things done with one: hash, flatten, print."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError


class Settings(BaseModel):
    """Frozen settings that refuse unknown keys, non-finite numbers and booleans given for numbers."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True, ser_json_inf_nan="strings"
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_groups(cls, values: Any) -> Any:
        # A group given in part keeps the rest of *this* model's default for it, which may differ from
        # the defaults of the group's own class.
        if not isinstance(values, Mapping):
            return values
        filled = dict(values)
        for name, field in cls.model_fields.items():
            given = filled.get(name)
            if isinstance(field.default, Settings) and isinstance(given, Mapping):
                filled[name] = {**dict(field.default), **given}
        return filled

    @model_validator(mode="before")
    @classmethod
    def _refuse_booleans_for_numbers(cls, values: Any) -> Any:
        # pydantic would read `epochs: true` as 1.
        if isinstance(values, Mapping):
            for name, value in values.items():
                field = cls.model_fields.get(str(name))
                if isinstance(value, bool) and field is not None and not _accepts_bool(field.annotation):
                    raise PydanticCustomError("boolean_given", "{name}", {"name": name, "value": value})
        return values


def _accepts_bool(annotation: Any) -> bool:
    return annotation in (bool, Any) or any(_accepts_bool(part) for part in get_args(annotation))


def flatten(values: Settings | Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as ``{"optim.lr": 0.001, ...}`` in declaration order.

    Example:
        >>> flatten({"optim": {"lr": 0.001}, "epochs": 3})
        {'optim.lr': 0.001, 'epochs': 3}
    """
    if isinstance(values, Settings):
        values = values.model_dump(mode="json")
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def canonical_json(settings: Settings) -> str:
    """JSON with sorted keys and no white space: equal settings give equal text."""
    return json.dumps(settings.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))


# Where a run reads, writes and computes, and what it says meanwhile, does not change what it computes. (Another
# thread count may change the last bits; it is recorded beside the hash, not in it.)
PLACES = frozenset(
    {
        "checkpoint",
        "data_dir",
        "device",
        "loader_workers",
        "log_every",
        "num_threads",
        "output_dir",
        "tracking",
    }
)


def decisive(settings: Settings) -> dict[str, Any]:
    """The settings that decide what is computed, flat: all but the seed and the places."""
    values = settings.model_dump(mode="json")
    return flatten({key: value for key, value in values.items() if key not in PLACES and key != "seed"})


def config_hash(settings: Settings) -> str:
    """16 hex digits that name an experiment; runs of it differ by seed, and by where they read, write and run."""
    text = json.dumps(decisive(settings), sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
