"""A stored model under a name that people load it by: a version in MLflow's registry, and an alias that moves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nearfar.errors import ConfigError, StorageError, first_line
from nearfar.tracking.store import Store

_REFUSED = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST"}
# MLflow's own rule, known before anything is registered: latest and v1 mean versions.
_ALIAS = re.compile(r"(?!(?i:latest|v\d+)$)[\w-]+")


@dataclass(frozen=True)
class Promotion:
    """What was promoted.

    Attributes:
        name: Of the registered model.
        version: The run's.
        alias: That now points to it.
        previous: Version it pointed to before, ``None`` when there was none.
        run_id: Of the run.
    """

    name: str
    version: int
    alias: str
    previous: int | None
    run_id: str

    @property
    def model_uri(self) -> str:
        """What loads it, whichever version the alias points to by then."""
        return f"models:/{self.name}@{self.alias}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"model_uri": self.model_uri}


def promote_model(
    store: Store, run_id: str, name: str, alias: str, tags: Mapping[str, str] | None = None
) -> Promotion:
    """Register a run's stored model under a name, unless it is, and point an alias at it; repeating changes nothing.

    Args:
        store: Where the run is; the registry is its own.
        run_id: The run.
        name: Of the registered model, created when new.
        alias: Such as ``champion``.
        tags: Of a new version.

    Raises:
        ConfigError: If the run has no model, or the registry refuses the name or the alias.
        StorageError: If the store does not answer.
    """
    if not _ALIAS.fullmatch(alias):
        raise ConfigError(
            f"alias: letters, digits, '_' and '-' expected, not 'latest' or a version such as v1; got '{alias}'"
        )
    try:
        model = _stored_model(store, run_id)
        with store.lock():
            _create(store, name)
            version = _version(store, name, run_id, model, tags or {})
            previous = _aliased(store, name, alias)
            if previous != version:
                store.client.set_registered_model_alias(name, alias, str(version))
    except (ConfigError, StorageError):
        raise
    except Exception as error:
        if getattr(error, "error_code", None) in _REFUSED:
            raise ConfigError(f"name: {store.uri} refuses '{name}': {first_line(error)}") from None
        raise StorageError(f"the tracking store {store.uri} does not answer: {first_line(error)}") from error
    return Promotion(name, version, alias, previous, run_id)


def _stored_model(store: Store, run_id: str) -> Any:
    client = store.client
    experiment = client.get_run(run_id).info.experiment_id
    found = client.search_logged_models([experiment], filter_string=f"source_run_id = '{run_id}'")
    ready = [model for model in found if str(model.status) == "READY"]
    if not ready:
        raise ConfigError(
            f"run {run_id} has no stored model; train with tracking.log_model=true, or send what is left of the run "
            "with: nearfar sync <its folder>"
        )
    if "MLmodel" not in {entry.path for entry in client.list_logged_model_artifacts(ready[0].model_id)}:
        raise ConfigError(f"the files of run {run_id}'s model are gone from {ready[0].artifact_location}")
    return ready[0]


def _create(store: Store, name: str) -> None:
    try:
        store.client.create_registered_model(name)
    except Exception as error:
        if getattr(error, "error_code", None) != "RESOURCE_ALREADY_EXISTS":
            raise


def _version(store: Store, name: str, run_id: str, model: Any, tags: Mapping[str, str]) -> int:
    known = store.client.search_model_versions(f"name = '{name}'")
    mine = [int(version.version) for version in known if version.run_id == run_id]
    if mine:
        return max(mine)
    # Its location rather than models:/<id>, which a database would look up in the store of MLflow's global address.
    made = store.client.create_model_version(
        name, model.artifact_location, run_id=run_id, model_id=model.model_id, tags=dict(tags)
    )
    return int(made.version)


def _aliased(store: Store, name: str, alias: str) -> int | None:
    aliases = store.client.get_registered_model(name).aliases
    return int(aliases[alias]) if alias in aliases else None
