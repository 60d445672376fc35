"""The loop on a GPU: no waiting inside a step, exact repeats, checkpoints that travel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from nearfar.pipelines.registry import methods
from nearfar.pipelines.settings import resolve_settings
from nearfar.runtime import Runtime, to_device
from nearfar.testing import ToyConfig, ToyContrast, ToyViews
from nearfar.training import CheckpointStore, Trainer, fit

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
TRAINED = [
    name for name in methods() if name not in ("recsys.popularity", "graph.untrained", "timeseries.untrained")
]


@pytest.mark.parametrize("name", TRAINED)
def test_no_step_waits_for_the_device(name: str, tmp_path: Path) -> None:
    """G04: CUDA itself refuses every synchronisation while the steps are made."""
    entry = methods()[name]
    config = resolve_settings(entry, [*entry.load("example")(tmp_path), "device=cuda"], environment={})
    runtime = Runtime.start("cuda")
    task = entry.load("task")(config, entry.load("method"))
    source = task.batches(config, runtime)
    trainer = Trainer.of(task.build(config).to(runtime.device), source, config, runtime)
    batches = [to_device(source.batch(step), runtime.device) for step in range(6)]
    trainer.step(batches[0])  # warms up
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in batches[1:]:
            trainer.step(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert trainer.buffer.flush()["train/loss"] > 0


@pytest.mark.parametrize("name", TRAINED)
def test_float32_agrees_with_float64_on_the_cpu(name: str, tmp_path: Path) -> None:
    """G02: loss of the first step without dropout."""
    entry = methods()[name]
    words = entry.load("example")(tmp_path)
    words += [f"{key}=0" for key in entry.load("config").model_fields if "dropout" in key]
    config = resolve_settings(entry, words, environment={})
    task = entry.load("task")(config, entry.load("method"))
    losses = {}
    for device, dtype in (("cuda", torch.float32), ("cpu", torch.float64)):
        runtime = Runtime.start(device)
        method = task.build(config).to(runtime.device, dtype)
        batch = to_device(task.batches(config, runtime).batch(0), runtime.device)
        trainer = Trainer.of(method, task.batches(config, runtime), config, runtime)
        losses[device] = float(method.step(batch, trainer.context()).loss.detach())
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=1e-4)


def run(folder: Path, device: str, **options: Any) -> ToyContrast:
    config = ToyConfig(epochs=4, device=device, deterministic=True)
    runtime = Runtime.start(device, deterministic=True)
    method = ToyContrast().to(runtime.device)
    store = CheckpointStore(folder)
    fit(method, ToyViews(), config=config, runtime=runtime, store=store, quiet=True, **options)
    runtime.close()
    return method


def test_two_runs_are_equal(tmp_path: Path) -> None:
    """G03."""
    one, two = run(tmp_path / "a", "cuda").state_dict(), run(tmp_path / "b", "cuda").state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_checkpoint_goes_to_the_cpu_and_back(tmp_path: Path) -> None:
    """G05."""
    there = run(tmp_path, "cuda")
    here = run(tmp_path, "cpu", resume=True)
    for name, value in there.state_dict().items():
        assert (value.cpu().float() - here.state_dict()[name].float()).abs().max() < 1e-5
