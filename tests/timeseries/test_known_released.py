"""K7 and K8: the published program run again, 115 iterations on ETTh1 (12 minutes)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nearfar.pipelines.train import prepare
from nearfar.runtime import Runtime
from nearfar.timeseries import AutoTCL, AutoTCLConfig, ForecastDataset, forecast_scores
from nearfar.timeseries.inputs import forecast_inputs
from nearfar.timeseries.representations import forecast_representations
from nearfar.timeseries.task import SeriesTask
from nearfar.training import fit


@pytest.mark.slow
def test_the_released_variant_reaches_its_figures(
    shared_data: Path, cpu: Runtime, record_property: Callable[[str, object], None]
) -> None:
    words = ["data=etth1", f"data_dir={shared_data}", "variant=released", "seed=42", "device=cpu"]
    _, config, task = prepare("timeseries.autotcl", words)
    assert isinstance(task, SeriesTask)
    assert isinstance(task.dataset, ForecastDataset)
    assert isinstance(config, AutoTCLConfig)
    method = task.build(config)
    assert isinstance(method, AutoTCL)
    fit(method, task.batches(config, cpu), config=config, runtime=cpu, quiet=True)
    phi = forecast_representations(method.eval().trained, task.dataset, config)
    scores = forecast_scores(task.dataset, phi, probe="ts2vec", parts=("test",))["test"]
    mse, mae = (sum(getattr(s, name) for s in scores) / len(scores) for name in ("mse", "mae"))
    record_property("mse, mae", (mse, mae))
    assert mse == pytest.approx(0.0832, abs=0.006)
    assert mae == pytest.approx(0.2177, abs=0.01)
    assert method.augmenter is not None
    with torch.no_grad():
        inputs = forecast_inputs(task.dataset, config)[:, :8640].reshape(-1, 240, 8)
        drawn = method.augmenter(inputs, torch.Generator().manual_seed(0))
    record_property("keep, pi", (float(drawn.mask.mean()), float(drawn.pi.mean())))
    # All the closed form of its gate allows.
    assert 0.474 <= float(drawn.mask.mean()) <= 0.735
