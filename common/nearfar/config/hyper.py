"""Settings of an estimator as keyword arguments: flat, nested, dotted or with double underscores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, reduce
from typing import Any, Generic, TypeVar

from nearfar.config.layers import Layer, merge, resolve
from nearfar.config.settings import Settings, flatten
from nearfar.errors import ConfigError

ConfigT = TypeVar("ConfigT", bound=Settings)


@dataclass(frozen=True)
class HyperParameters(Generic[ConfigT]):
    """How keyword arguments become settings.

    Attributes:
        config_class: The settings.
        owner: Name of the estimator, for messages.
        elsewhere: Settings that are said in its methods, and where.
        fixed: Settings nobody gives, nested.

    Example:
        >>> from nearfar.config import RunConfig
        >>> hyper = HyperParameters(RunConfig, "Estimator", {"data": "give the data to fit"}, {"data": "-"})
        >>> hyper.dotted({"epochs": 5, "optim__lr": 0.1, "selection": {"every": 8}})
        {'epochs': 5, 'optim.lr': 0.1, 'selection.every': 8}
        >>> hyper.config({"optim.lr": 0.01}).optim.lr
        0.01
    """

    config_class: type[ConfigT]
    owner: str
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def dotted(self, hyper: Mapping[str, Any]) -> dict[str, Any]:
        """Keyword arguments as dotted names.

        Args:
            hyper: As people write them.

        Raises:
            ConfigError: If one is said elsewhere.
        """
        given = flatten({name.replace("__", "."): value for name, value in hyper.items()})
        for name in given:
            advice = self.elsewhere.get(name.partition(".")[0])
            if advice is not None:
                raise ConfigError(f"{name}: no setting of the estimator; {advice}")
        return given

    def config(self, hyper: Mapping[str, Any]) -> ConfigT:
        """Validated settings from dotted names.

        Args:
            hyper: As of :meth:`dotted`.

        Raises:
            ConfigError: If one is unknown or out of bounds.
        """
        nested = [reduce(lambda value, p: {p: value}, reversed(n.split(".")), v) for n, v in hyper.items()]
        return resolve(self.config_class, [Layer(self.owner, reduce(merge, [dict(self.fixed), *nested]))])

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """Dotted names of what can be set, and defaults; the same objects every time, as scikit-learn wants it."""
        settings = flatten(self.config({}))
        return {n: v for n, v in settings.items() if n.partition(".")[0] not in self.elsewhere}
