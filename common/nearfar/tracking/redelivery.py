"""Delivering afterwards what a run could not: the same journal, the same courier."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nearfar.atomic import write_atomically
from nearfar.config import environment_layer
from nearfar.errors import ConfigError, StorageError, first_line
from nearfar.redaction import BLANK, redacted
from nearfar.tracking.courier import TRIES, Courier
from nearfar.tracking.journal import header, operations
from nearfar.tracking.store import URI_VARIABLE, default_uri, open_store

OUTBOX = "outbox.jsonl"
PAUSE_SECONDS = 1.0


@dataclass(frozen=True)
class SyncReport:
    """What one delivery came to.

    Attributes:
        delivered: Operations sent now.
        left: Operations the store did not take.
        run_id: The run in the store; ``None`` when not even that was possible.
        reason: Why some are left.
    """

    delivered: int
    left: int
    run_id: str | None
    reason: str | None = None


def sync(place: Path, warn: Callable[[str], None], uri: str | None = None) -> SyncReport:
    """Deliver the rest of a journal; doing it again changes nothing.

    Args:
        place: Folder of a run, or a journal.
        warn: Told about files that are gone and values the store refuses.
        uri: Send all of it to this store instead of the run's own.

    Returns:
        The report; the run's id is added to ``run.json`` where it is missing there.

    Raises:
        ConfigError: If there is no journal, or it names no store and none is given.
        StorageError: If a local store cannot be used.
    """
    path = place / OUTBOX if place.is_dir() else place
    created = header(path)
    if created is None:
        raise ConfigError(f"{place} holds no journal of a run ({OUTBOX})")
    address = uri or store_address(path)
    if address is None:
        raise ConfigError(
            f"{place} was not tracked (tracking.enabled=false); --to names a store to send it to"
        )
    courier = Courier(open_store(address), path, warn)
    delivered, reason = 0, None
    for attempt in range(TRIES):
        before = courier.offset
        try:
            courier.deliver()
            reason = None
        except Exception as error:  # a client raises what it likes
            reason = first_line(error)
        delivered += sum(1 for _ in operations(path, before, courier.offset))
        if reason is None or attempt == TRIES - 1:
            break
        time.sleep(PAUSE_SECONDS)
    if courier.run_id is not None:
        _write_run_id(path.with_name("run.json"), courier.run_id)
    return SyncReport(delivered, courier.left(), courier.run_id, reason)


def _whole(address: str) -> str:
    """An address with the password that a journal does not keep.

    Raises:
        ConfigError: If the settings do not have it either.
    """
    if BLANK not in address:
        return address
    given = environment_layer().values.get("tracking", {}).get("uri") or default_uri()
    if redacted(given) != address:
        raise ConfigError(
            f"{address} is known without its password only; give all of it: --to, {URI_VARIABLE} or "
            "NEARFAR_TRACKING__URI"
        )
    return str(given)


def store_address(place: Path) -> str | None:
    """Where a run was recorded: the store of the last delivery, which may not be the one the run began with.

    Args:
        place: Folder of a run, or a journal.

    Returns:
        Address, with the password of the settings where it has one; ``None`` when there is no journal or it was never
        sent anywhere.

    Raises:
        ConfigError: If the address has a password that the settings do not name.
    """
    path = place / OUTBOX if place.is_dir() else place
    created = header(path)
    address = None if created is None else _last_uri(path) or created["uri"]
    return None if address is None else _whole(str(address))


def _last_uri(path: Path) -> str | None:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        return str(json.loads(path.with_suffix(".sent").read_text(encoding="utf-8"))["uri"])
    return None


def _write_run_id(path: Path, run_id: str) -> None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(record, dict) and record.get("run_id") is None:
            write_atomically(path, json.dumps(record | {"run_id": run_id}, indent=2))
    except FileNotFoundError:
        return
    except (ValueError, RecursionError):
        raise StorageError(f"{path} is not JSON; the run is {run_id}") from None
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}; the run is {run_id}") from None
