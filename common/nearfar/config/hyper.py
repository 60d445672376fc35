"""Settings of an estimator as keyword arguments: flat, nested, dotted or with double underscores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, reduce
from typing import Any, ClassVar, Generic, Self, TypeVar

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


class Adjustable(Generic[ConfigT]):
    """What every estimator with settings has, as scikit-learn knows it.

    Args:
        **hyper: Settings: flat, nested, dotted or with double underscores.

    Attributes:
        hyper: How they are read; given by the subclass.

    Raises:
        ConfigError: If a setting is unknown (names the nearest one) or out of bounds.
    """

    hyper: ClassVar[HyperParameters[Any]]

    def __init__(self, **hyper: Any) -> None:
        self._hyper: dict[str, Any] = {}
        self.set_params(**hyper)

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self._hyper.items())
        return f"{type(self).__name__}({given})"

    @property
    def config(self) -> ConfigT:
        """All settings, those not given at their defaults."""
        settings: ConfigT = self.hyper.config(self._hyper)
        return settings

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002 - scikit-learn asks for it
        """All settings by dotted name.

        Args:
            deep: Of no effect.
        """
        return {**self.hyper.defaults, **self._hyper}

    def set_params(self, **hyper: Any) -> Self:
        """Change settings; they count from the next ``fit`` on.

        Args:
            **hyper: As of the class.

        Raises:
            ConfigError: If a setting is unknown or out of bounds; nothing is changed then.
        """
        given = self.hyper.dotted(hyper)
        # A group given anew as a whole leaves nothing of what was said of its parts.
        kept = {n: v for n, v in self._hyper.items() if not any(n.startswith(f"{group}.") for group in given)}
        changed = {**kept, **given}
        self.hyper.config(changed)
        self._hyper = changed
        return self
