"""The loop on a GPU: no waiting inside a step, exact repeats, checkpoints that travel."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch

from nearfar.pipelines.registry import methods
from nearfar.pipelines.settings import resolve_settings
from nearfar.pipelines.train import train
from nearfar.runtime import Runtime, to_device
from nearfar.testing import ToyConfig, ToyContrast, ToyViews
from nearfar.training import CheckpointStore, Trainer, fit

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
Tensors: TypeAlias = dict[str, torch.Tensor]
TRAINED = [
    name for name in methods() if name not in ("recsys.popularity", "graph.untrained", "timeseries.untrained")
]


@pytest.mark.row("G04")
@pytest.mark.parametrize("name", TRAINED)
def test_no_step_waits_for_the_device(name: str, tmp_path: Path) -> None:
    """G04: CUDA itself refuses every synchronisation while the steps are made."""
    entry = methods()[name]
    config = resolve_settings(entry, [*entry.load("example")(tmp_path), "device=cuda"], environment={})
    runtime = Runtime.start("cuda")
    task = entry.load("task")(config, entry.load("method"))
    source = task.batches(config, runtime)
    trainer = Trainer.of(task.build(config).to(runtime.device), source, config, runtime)
    batches = [to_device(source.batch(step), runtime.device) for step in range(9)]
    for batch in batches[:3]:  # warms up; what is done once, such as calibrating, may look at values
        trainer.step(batch)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in batches[3:]:
            trainer.step(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert trainer.buffer.flush()["train/loss"] > 0


def first_step(
    name: str, folder: Path, device: str, dtype: torch.dtype, *words: str
) -> tuple[float, Tensors]:
    """Loss of the first step without dropout, and its gradients, in float64 on the CPU."""
    entry = methods()[name]
    words = (*entry.load("example")(folder), *words)
    words += tuple(f"{key}=0" for key in entry.load("config").model_fields if "dropout" in key)
    config = resolve_settings(entry, list(words), environment={})
    task = entry.load("task")(config, entry.load("method"))
    runtime = Runtime.start(device)
    method = task.build(config).to(runtime.device, dtype)
    source = task.batches(config, runtime)
    trainer = Trainer.of(method, source, config, runtime)
    batch = to_device(source.batch(0), runtime.device)
    loss = 0.0
    with trainer._numerics():
        for update in method.train().updates(0):
            output = update.compute(batch, trainer.context())
            if not output.descended:
                with torch.autocast(device, enabled=False):
                    output.loss.backward()
            loss += float(output.loss.detach())
    return loss, {k: p.grad.double().cpu() for k, p in method.named_parameters() if p.grad is not None}


@pytest.mark.row("G01")
@pytest.mark.parametrize("name", TRAINED)
def test_float64_agrees_with_the_cpu(name: str, tmp_path: Path) -> None:
    """G01."""
    there, to_there = first_step(name, tmp_path, "cuda", torch.float64)
    here, to_here = first_step(name, tmp_path, "cpu", torch.float64)
    assert there == pytest.approx(here, rel=1e-9)
    assert to_there.keys() == to_here.keys()
    scale = max(float(gradient.norm()) for gradient in to_here.values())
    for key, gradient in to_here.items():
        assert (to_there[key] - gradient).norm() <= 1e-7 * max(float(gradient.norm()), 1e-3 * scale), key


@pytest.mark.row("G02")
@pytest.mark.parametrize("name", TRAINED)
def test_float32_agrees_with_float64_on_the_cpu(name: str, tmp_path: Path) -> None:
    """G02."""
    there, _ = first_step(name, tmp_path, "cuda", torch.float32)
    here, _ = first_step(name, tmp_path, "cpu", torch.float64)
    assert there == pytest.approx(here, rel=1e-4)


@pytest.mark.row("G02")
@pytest.mark.parametrize("name", TRAINED)
def test_bf16_agrees_roughly(name: str, tmp_path: Path) -> None:
    """G02: under autocast."""
    there, gradients = first_step(name, tmp_path, "cuda", torch.float32, "precision=bf16")
    here, _ = first_step(name, tmp_path, "cpu", torch.float64)
    assert there == pytest.approx(here, rel=3e-2)
    assert all(bool(gradient.isfinite().all()) for gradient in gradients.values())


@pytest.mark.row("G03")
@pytest.mark.parametrize("name", TRAINED)
def test_whole_runs_repeat(name: str, tmp_path: Path) -> None:
    """G03: training, selection and the final test, twice."""
    words = [*methods()[name].load("example")(tmp_path), "device=cuda", "deterministic=true"]
    words += ["epochs=2", "tracking.enabled=false"]
    one, two = (
        train(name, [*words, f"output_dir={tmp_path / run}"], quiet=True).metrics for run in ("one", "two")
    )
    measured = [key for key in one if not key.startswith("perf/")]
    assert measured
    assert {key: one[key] for key in measured} == {key: two[key] for key in measured}


def run(folder: Path, device: str, **options: Any) -> ToyContrast:
    config = ToyConfig(epochs=4, device=device, deterministic=True)
    runtime = Runtime.start(device, deterministic=True)
    method = ToyContrast().to(runtime.device)
    store = CheckpointStore(folder)
    fit(method, ToyViews(), config=config, runtime=runtime, store=store, quiet=True, **options)
    runtime.close()
    return method


@pytest.mark.row("G03")
def test_two_runs_are_equal(tmp_path: Path) -> None:
    """G03."""
    one, two = run(tmp_path / "a", "cuda").state_dict(), run(tmp_path / "b", "cuda").state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.row("G05")
def test_a_checkpoint_goes_to_the_cpu_and_back(tmp_path: Path) -> None:
    """G05."""
    there = run(tmp_path, "cuda")
    here = run(tmp_path, "cpu", resume=True)
    for name, value in there.state_dict().items():
        assert (value.cpu().float() - here.state_dict()[name].float()).abs().max() < 1e-5
