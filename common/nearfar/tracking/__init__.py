"""Recording runs in MLflow without ever slowing or stopping the training that is recorded."""

from nearfar.tracking.champion import Promotion, promote_model
from nearfar.tracking.names import check_metric_names, experiment_name
from nearfar.tracking.redelivery import SyncReport, store_address, sync
from nearfar.tracking.run import LocalRun, NullRun, Run, TrackedRun, set_aside, start_local_run, start_run
from nearfar.tracking.stale import close_stale_runs, stale_runs
from nearfar.tracking.store import Store, default_uri, open_store

__all__ = [
    "LocalRun",
    "NullRun",
    "Promotion",
    "Run",
    "Store",
    "SyncReport",
    "TrackedRun",
    "check_metric_names",
    "close_stale_runs",
    "default_uri",
    "experiment_name",
    "open_store",
    "promote_model",
    "set_aside",
    "stale_runs",
    "start_local_run",
    "start_run",
    "store_address",
    "sync",
]
