"""Where the time of a training step goes: a trace for chrome://tracing or Perfetto, and the largest entries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from nearfar.errors import StorageError
from nearfar.pipelines.train import prepare
from nearfar.runtime import Runtime, isolated_rng
from nearfar.training.trainer import Trainer

WARM_UP = 3


def profile_steps(
    name: str,
    overrides: Sequence[str] = (),
    config_file: Path | None = None,
    *,
    steps: int = 10,
    trace: Path = Path("trace.json"),
) -> str:
    """Make some training steps under torch's profiler.

    Args:
        name: Registered method.
        overrides: ``a.b=c`` settings.
        config_file: YAML settings below the overrides.
        steps: Steps recorded, after three to warm up.
        trace: File for the trace.

    Returns:
        Table of the operations that took the most time.

    Raises:
        StorageError: If the trace cannot be written.
    """
    _, config, task = prepare(name, overrides, config_file)
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    runtime = Runtime.start(config.device)
    method = task.build(config).to(runtime.device)
    source = task.batches(config, runtime)
    trainer = Trainer.of(method, source, config, runtime)
    activities = [ProfilerActivity.CPU]
    if runtime.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with isolated_rng(runtime.device):
        for step in range(WARM_UP):
            trainer.step(source.batch(step))
        with profile(activities=activities, record_shapes=True, profile_memory=True) as profiler:
            for step in range(WARM_UP, WARM_UP + steps):
                with record_function("batch"):
                    batch = source.batch(step)
                with record_function("step"):
                    trainer.step(batch)
    try:
        trace.parent.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(trace))
    except OSError as error:
        raise StorageError(f"{trace} cannot be written: {error.strerror}") from error
    runtime.close()
    key = "self_cuda_time_total" if runtime.device.type == "cuda" else "self_cpu_time_total"
    return str(profiler.key_averages().table(sort_by=key, row_limit=15, max_name_column_width=40))
