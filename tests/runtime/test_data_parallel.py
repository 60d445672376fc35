"""Two processes train what one would: same losses on the same global batches, for every registered method."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nearfar.pipelines.registry import methods
from nearfar.testing.ranks import run_ranks

WORKER = str(Path(__file__).with_name("data_parallel_worker.py"))


# As their examples have them, and forms that no example has.
NAMES = [*methods(), "timeseries.autotcl contrast.form=pooled augmenter.divergence=mmd"]


@pytest.fixture(scope="module")
def trajectories(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, list[float]]]]:
    """Losses by number of processes, as each of them reports them."""
    folder = tmp_path_factory.mktemp("ranks")
    return {
        size: [json.loads(out) for out in run_ranks([WORKER, str(folder), *NAMES], size, folder)]
        for size in (1, 2)
    }


@pytest.mark.row("R05")
def test_two_processes_equal_one(trajectories: dict[int, list[dict[str, list[float]]]]) -> None:
    """R05: float64 with uneven shares, a queue and a momentum encoder; and every registered method in float32."""
    (one,), two = trajectories[1], trajectories[2]
    assert two[0] == two[1], "all processes log the loss of the whole batch"
    assert set(one) == {
        "toy",
        *(
            name
            for name in NAMES
            if name not in ("recsys.popularity", "graph.untrained", "timeseries.untrained")
        ),
    }
    for name, expected in one.items():
        assert len(expected) == 20
        worst = np.abs(np.array(two[0][name]) - np.array(expected)).max()
        assert worst < (1e-12 if name == "toy" else 1e-5), f"{name}: {worst}"
        assert np.ptp(expected) > 1e-3, "a loss that does not move proves nothing"
