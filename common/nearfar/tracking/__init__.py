"""Recording runs in MLflow without ever slowing or stopping the training that is recorded."""

from nearfar.tracking.names import check_metric_names, experiment_name
from nearfar.tracking.run import NullRun, Run, TrackedRun, start_run
from nearfar.tracking.store import Store, default_uri, open_store

__all__ = [
    "NullRun",
    "Run",
    "Store",
    "TrackedRun",
    "check_metric_names",
    "default_uri",
    "experiment_name",
    "open_store",
    "start_run",
]
