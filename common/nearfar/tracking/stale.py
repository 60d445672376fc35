"""Runs whose process was killed: nobody is left to say in the store how they ended."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

from nearfar.tracking.courier import REASON_TAG
from nearfar.tracking.store import Store

_PAGE = 200


def stale_runs(store: Store) -> list[Any]:
    """Runs that are RUNNING in the store though their process on this host has gone.

    Args:
        store: Opened store.

    Returns:
        MLflow runs; those of other hosts, of which nothing can be known here, are not among them.
    """
    return [run for run in _running(store) if _is_gone(run.data.tags)]


def close_stale_runs(store: Store) -> int:
    """End them as KILLED, with the reason in ``nearfar.status_reason``.

    Args:
        store: Opened store.

    Returns:
        How many there were.
    """
    runs = stale_runs(store)
    for run in runs:
        reason = f"stale: process {run.data.tags['nearfar.pid']} is gone"
        store.client.set_tag(run.info.run_id, REASON_TAG, reason)
        store.client.set_terminated(run.info.run_id, "KILLED")
    return len(runs)


def _running(store: Store) -> Iterator[Any]:
    experiments = [experiment.experiment_id for experiment in store.client.search_experiments()]
    host = socket.gethostname().replace("'", "")
    filters = f"attributes.status = 'RUNNING' AND tags.`nearfar.host` = '{host}'"
    token: str | None = None
    while experiments:
        page = store.client.search_runs(
            experiments, filter_string=filters, max_results=_PAGE, page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return


def _is_gone(tags: dict[str, str]) -> bool:
    from nearfar.tuning.owner import is_gone

    if not tags.get("nearfar.pid", "").isdigit():
        return False
    # Without a start time only a process id that nobody has says anything.
    owner = {name: tags.get(f"nearfar.{name}", "nan") for name in ("host", "pid", "pid_started")}
    return is_gone(owner)
