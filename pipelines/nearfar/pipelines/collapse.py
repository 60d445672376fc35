"""Whether representations still tell rows apart, looked at with every validation."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F

from nearfar.messages import warn
from nearfar.objectives.statistics import effective_rank
from nearfar.runtime import numpy_generator
from nearfar.tracking import Run
from nearfar.training import Method, Task

ROWS = 256
COLLAPSED, TIMES = 1.5, 3


class CollapseMonitor:
    """Logs spread and effective rank of some rows; tags a run whose rows have become one.

    Args:
        task: Gives the representations.
        run: Receives the tag.
    """

    def __init__(self, task: Task, run: Run) -> None:
        self._task, self._run, self._times = task, run, 0
        count = min(ROWS, task.num_rows)
        self._rows = np.sort(numpy_generator(0, "monitor").choice(task.num_rows, count, replace=False))

    def measure(self, method: Method) -> dict[str, float]:
        """``repr/std``, 1 for isotropic representations and 0 for equal ones, and ``repr/effective_rank``.

        Args:
            method: In evaluation mode; one without training is not looked at.
        """
        if not method.updates(0):
            return {}
        z = F.normalize(self._task.embed(method, self._rows).float().flatten(1), dim=1)
        rank = float(effective_rank(z))
        self._times = self._times + 1 if rank < COLLAPSED else 0
        if self._times == TIMES:
            self._run.tag({"nearfar.collapsed": "true"})
            warn(
                f"representations have collapsed: effective rank {rank:.2f} of {z.shape[1]} "
                f"at {TIMES} validations running"
            )
        return {"repr/std": float(z.std(0).mean()) * z.shape[1] ** 0.5, "repr/effective_rank": rank}
