"""Several seeds in several processes: stopped together, continued where each of them was."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nearfar.recsys.example import ring_sequences

pytestmark = pytest.mark.usefixtures("own_store")


@pytest.mark.slow
def test_a_group_stops_at_once_and_goes_on(tmp_path: Path) -> None:
    words = [
        *ring_sequences(tmp_path / "data"),
        "epochs=600",
        "selection.every=100",
        "selection.patience=null",
    ]
    command = [sys.executable, "-m", "nearfar.pipelines", "train", "recsys.sasrec", *words, "device=cpu"]
    command += ["tracking.enabled=false", "--seeds", "3", "--workers", "2", "--json", "-q"]
    straight = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=_new(tmp_path, "straight")
    )

    folder = _new(tmp_path, "stopped")
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=folder)
    while len(list(folder.glob("outputs/*/*/checkpoints/*.ckpt"))) < 3:
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    process.communicate(timeout=60)
    assert time.monotonic() - asked < 20
    assert process.returncode == 75
    states = [json.loads(path.read_text())["status"] for path in folder.glob("outputs/*/*/run.json")]
    assert "preempted" in states
    assert "running" not in states
    assert len(states) < 3, "the third seed should not have begun"

    again = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=True, cwd=folder)
    finished = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=True, cwd=folder)
    assert finished.stdout == again.stdout
    quality = [
        {name: value for name, value in json.loads(run.stdout)["metrics"].items() if name.startswith("test/")}
        for run in (straight, again)
    ]
    assert quality[0] == quality[1]
    assert quality[0]["test/ndcg_at_10_n"] == 3


def _new(folder: Path, name: str) -> Path:
    place = folder / name
    place.mkdir()
    return place
