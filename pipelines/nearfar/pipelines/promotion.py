"""A trained run's model becomes the one that is served: the champion of its data."""

from __future__ import annotations

from pathlib import Path

from nearfar.errors import ConfigError
from nearfar.pipelines.records import Record, open_recorded, read_records
from nearfar.tracking import Promotion, Store, promote_model, store_address

__all__ = ["promote"]


def promote(
    target: str, *, name: str | None = None, alias: str = "champion", uri: str | None = None
) -> tuple[Promotion, Store]:
    """Register the model of a finished run and point an alias at it.

    Args:
        target: The run's output folder or its MLflow id; a group of one run will do.
        name: Of the registered model; by default that of the experiment, so that the methods of one data set
            compete for one alias.
        alias: That is moved.
        uri: Store to look in; by default the one a folder was recorded in, else that of training.

    Returns:
        What was promoted, and the store.

    Raises:
        ConfigError: If there is no such run, it has not finished, has no model, stands for several, or the registry
            refuses the name or the alias.
        StorageError: If the store does not answer.
    """
    folder = Path(target).expanduser()
    store = open_recorded(uri or (store_address(folder) if folder.is_dir() else None))
    record = _only(target, [record for pool in read_records(store, [target]) for record in pool.records])
    tags = {
        "nearfar.method": record.method,
        "nearfar.variant": record.variant,
        "nearfar.seed": str(record.seed),
        "nearfar.dataset": record.dataset,
        "nearfar.dataset_digest": record.digest,
    }
    name = name or record.experiment.replace("/", "-")
    return promote_model(store, record.run_id, name, alias, tags), store


def _only(target: str, records: list[Record]) -> Record:
    if len(records) > 1:
        runs = [f"{r.run_id} ({r.method}, seed {r.seed})" for r in records[:6]]
        more = f" and {len(records) - 6} more" if len(records) > 6 else ""
        raise ConfigError(f"{target} stands for {len(records)} runs; promote one: {', '.join(runs)}{more}")
    return records[0]
