"""Which settings a run has: method defaults < published < recipe < user file < environment < command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nearfar.config import Layer, RunConfig, environment_layer, file_layer, merge, override_layer, resolve
from nearfar.errors import ConfigError
from nearfar.pipelines.recipes import recipe_layer
from nearfar.registry import MethodEntry


def resolve_settings(
    entry: MethodEntry,
    overrides: Sequence[str] = (),
    config_file: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> RunConfig:
    """The validated config of a run.

    Args:
        entry: The method.
        overrides: ``a.b=c`` words.
        config_file: YAML file of the user.
        environment: Variables; the process environment by default.

    Raises:
        ConfigError: One line per problem.
    """
    config_class: type[RunConfig] = entry.load("config")
    layers = [
        *([file_layer(config_file)] if config_file else []),
        environment_layer(environment),
        override_layer(overrides),
    ]
    given: dict[str, Any] = {"data": config_class.model_fields["data"].default}
    for layer in layers:
        given = merge(given, layer.values)
    if "objective" in given and entry.offers is None:
        raise ConfigError(
            f"objective: {entry.name} contrasts no views, so there is nothing to choose; nearfar objectives lists the "
            "methods that do"
        )
    below = [recipe_layer(entry.name, str(given["data"]))]
    if entry.published is not None:
        below.insert(0, Layer("published settings", entry.load("published")(given)))
    return resolve(config_class, [*filter(None, below), *layers])
