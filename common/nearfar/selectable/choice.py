"""From a word, or a word with parameters, to the settings of an objective that a domain can use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from nearfar.config import suggest
from nearfar.selectable.offers import Offers
from nearfar.selectable.registry import ObjectiveEntry, known_objectives
from nearfar.selectable.settings import ObjectiveSettings


def read_objective(offers: Offers) -> Callable[[type[Any], Any], Any]:
    """A ``field_validator`` (mode ``before``) for the objective of a domain's methods.

    Args:
        offers: What the domain gives.

    Example:
        >>> from nearfar.selectable.offers import NEEDS
        >>> read = read_objective(Offers("graph", frozenset(), {need: "there is none" for need in NEEDS}))
        >>> read(object, "dcl")
        DCLSettings(name='dcl', temperature=0.1)
        >>> read(object, {"name": "dcl", "sigma": 1})
        Traceback (most recent call last):
        ValueError: sigma is no parameter of dcl but of dclw; dcl takes temperature
    """

    def read(cls: type[Any], given: Any) -> Any:  # noqa: ARG001 - as pydantic calls it
        if given is None:
            return None
        values = given.model_dump() if isinstance(given, ObjectiveSettings) else given
        if isinstance(values, str):
            values = {"name": values}
        entry = _entry(values, offers)
        refusal = offers.refusal(entry.needs)
        if refusal is not None:
            raise ValueError(f"{entry.name} cannot be had in {offers.domain}: {refusal}")
        return _settings(entry, values)

    return read


def _entry(values: Any, offers: Offers) -> ObjectiveEntry:
    if not isinstance(values, Mapping) or not isinstance(values.get("name"), str):
        raise ValueError("the name of an objective expected, for example objective=dcl")
    name, known = values["name"], known_objectives()
    if name not in known:
        usable = [entry.name for entry in known.values() if offers.refusal(entry.needs) is None]
        hint = suggest(str(name), known, f"{offers.domain} can have {', '.join(usable)}")
        raise ValueError(f"there is no objective {name!r}; {hint}")
    return known[name]


def _settings(entry: ObjectiveEntry, values: Mapping[str, Any]) -> ObjectiveSettings:
    own = [name for name in entry.settings.model_fields if name != "name"]
    takes = f"{entry.name} takes {', '.join(own) if own else 'no parameters'}"
    for key in values:
        if key == "name" or key in own:
            continue
        owners = [other.name for other in known_objectives().values() if key in other.settings.model_fields]
        if owners:
            raise ValueError(f"{key} is no parameter of {entry.name} but of {', '.join(owners)}; {takes}")
        raise ValueError(f"{key} is no parameter of {entry.name}; {suggest(key, own, takes)}")
    try:
        return entry.settings.model_validate(values)
    except ValidationError as error:
        told = [
            f"{'.'.join(map(str, detail['loc']))}: {detail['msg'].removeprefix('Value error, ')}, "
            f"got {detail['input']!r}"
            for detail in error.errors()
        ]
        raise ValueError("; ".join(told)) from None
