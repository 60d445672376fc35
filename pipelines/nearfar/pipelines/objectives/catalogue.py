"""All objectives with what a reader wants to know before choosing one; importing this imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nearfar.pipelines.registry import methods
from nearfar.selectable import ObjectiveEntry, Offers, known_objectives


@dataclass(frozen=True)
class Parameter:
    """One parameter of an objective.

    Attributes:
        name: As in ``objective.<name>=``.
        default: Its value if not given.
        description: What it does.
    """

    name: str
    default: Any
    description: str


@dataclass(frozen=True)
class Listed:
    """One objective.

    Attributes:
        name: As in ``objective=<name>``.
        summary: One line.
        source: Paper.
        cost: How its time grows with N rows of d features.
        needs: What it wants to see beside two views.
        parameters: What can be set.
        domains: Those that can have it.
        methods: Registered names of the methods that can.
        refused: Why the other domains cannot, by domain.
    """

    name: str
    summary: str
    source: str
    cost: str
    needs: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    domains: tuple[str, ...]
    methods: tuple[str, ...]
    refused: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold."""
        return asdict(self)


def offers() -> dict[str, Offers]:
    """What the methods give that can be told an objective, by method."""
    return {name: entry.load("offers") for name, entry in methods().items() if entry.offers is not None}


def catalogue() -> list[Listed]:
    """All objectives, in the order of the registry."""
    known = offers()
    return [_listed(entry, known) for entry in known_objectives().values()]


def _listed(entry: ObjectiveEntry, known: Mapping[str, Offers]) -> Listed:
    refusals = {offer.domain: offer.refusal(entry.needs) for offer in known.values()}
    fields = {name: f for name, f in entry.settings.model_fields.items() if name != "name"}
    return Listed(
        entry.name,
        entry.summary,
        entry.source,
        entry.cost,
        tuple(sorted(entry.needs)),
        tuple(Parameter(name, f.default, f.description or "") for name, f in fields.items()),
        tuple(domain for domain, why in refusals.items() if why is None),
        tuple(name for name, offer in known.items() if offer.refusal(entry.needs) is None),
        {domain: why for domain, why in refusals.items() if why is not None},
    )
