"""How busy the machine is while a run trains, by MLflow's own collectors, for the page "System metrics"."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

from nearfar.optional import installed, require

FIRST_SECONDS = 2.0
EVERY_SECONDS = 10.0
PREFIX = "system/"
_COLLECTORS = ("cpu_monitor.CPUMonitor", "disk_monitor.DiskMonitor", "network_monitor.NetworkMonitor")


class SystemSampler:
    """Samples CPU, memory, disk, network and, where there is one, the GPU, until stopped.

    Args:
        record: Given names with the prefix ``system/``, and the number of the sample.
        step: Number of the first sample.
    """

    def __init__(self, record: Callable[[Mapping[str, float], int], None], step: int = 0) -> None:
        self._record, self._step = record, step
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="nearfar-system", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take no further sample."""
        self._stopping.set()

    def _work(self) -> None:
        if self._stopping.wait(FIRST_SECONDS):
            return
        with contextlib.suppress(Exception):  # nobody's training fails because of this
            collectors = _collectors()
            while True:
                values: dict[str, float] = {}
                for collector in collectors:
                    collector.collect_metrics()
                    values |= {PREFIX + name: value for name, value in collector.aggregate_metrics().items()}
                    collector.clear_metrics()
                self._record(values, self._step)
                self._step += 1
                if self._stopping.wait(EVERY_SECONDS):
                    return


def _collectors() -> list[Any]:
    feature = "sampling the machine"
    collectors = []
    for place in _COLLECTORS:
        module, _, name = place.partition(".")
        collectors.append(getattr(require(f"mlflow.system_metrics.metrics.{module}", feature), name)())
    if installed("pynvml"):
        with contextlib.suppress(Exception):  # no driver, no device
            collectors.append(require("mlflow.system_metrics.metrics.gpu_monitor", feature).GPUMonitor())
    return collectors
