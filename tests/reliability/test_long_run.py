"""A long run costs no more at its end than at its beginning."""

from __future__ import annotations

from pathlib import Path

import pytest

from nearfar.runtime import Runtime
from nearfar.testing import ToyConfig, ToyContrast, ToyViews
from nearfar.tracking import start_local_run
from nearfar.training import CheckpointStore, fit

psutil = pytest.importorskip("psutil", reason="psutil is not installed")


@pytest.mark.slow
@pytest.mark.row("S09")
def test_memory_and_open_files_stay_what_they_were(cpu: Runtime, tmp_path: Path) -> None:
    """Ten thousand steps with journal, checkpoints and validations."""
    process, samples = psutil.Process(), list[tuple[int, int]]()
    run = start_local_run(
        experiment="toy", name="toy", params={}, tags={}, outbox=tmp_path / "outbox.jsonl", warn=print
    )

    def observe(metrics: object, epoch: int) -> None:
        samples.append((process.memory_info().rss, process.num_fds()))

    fit(
        ToyContrast(),
        ToyViews(),
        config=ToyConfig(epochs=2000, device="cpu", selection={"every": 100}),
        runtime=cpu,
        log=run.log,
        validate=lambda: {"val/loss": 0.0},
        on_validation=observe,
        store=CheckpointStore(tmp_path / "checkpoints"),
        quiet=True,
    )
    warm = samples[4:]
    assert len(warm) >= 15
    assert warm[-1][0] < 1.05 * warm[0][0], [rss >> 20 for rss, _ in samples]
    assert {files for _, files in warm} == {warm[0][1]}
