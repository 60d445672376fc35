"""SBCL on two processes is SBCL on one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from nearfar.testing.ranks import run_ranks

WORKER = Path(__file__).with_name("sbcl_worker.py")


def test_two_processes_equal_one(tmp_path: Path) -> None:
    """Within the batch and with a queue: equal subclasses, weights to round-off, and both processes have the same."""
    alone = subprocess.run(
        [sys.executable, str(WORKER)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    expected = json.loads(alone.stdout)
    for output in run_ranks([str(WORKER)], 2, tmp_path):
        for found, wanted in zip(json.loads(output), expected, strict=True):
            assert found["subclasses"] == wanted["subclasses"]
            assert len(set(found["subclasses"])) == 5 + 1 + 1
            for name in ("temperatures", "weights"):
                np.testing.assert_allclose(found[name], wanted[name], atol=1e-6)
