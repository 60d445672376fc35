"""Objectives on a GPU: the CPU's numbers, no waiting inside a step, memory of a tile of pairs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nearfar.pipelines.objectives.arenas import ARENAS
from nearfar.pipelines.registry import find
from nearfar.pipelines.settings import resolve_settings
from nearfar.runtime import Runtime, to_device
from nearfar.selectable import OBJECTIVES
from nearfar.testing.view_batches import SMALL, built, fields, step
from nearfar.training import Trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
METHODS = tuple(arena.method for arena in ARENAS.values())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_numbers_of_the_cpu(name: str) -> None:
    expected = fields(64, 32)
    here, there = built(name, 64, 32), built(name, 64, 32).cuda()
    for seed in range(3):
        loss, gradients = step(here, expected, seed)
        found, others = step(there, {key: x.cuda() for key, x in expected.items()}, seed)
        torch.testing.assert_close(found.cpu(), loss, rtol=1e-6, atol=1e-8)
        for key, gradient in gradients.items():
            other = others[key]
            assert (other is None) == (gradient is None)
            if other is not None:
                torch.testing.assert_close(other.cpu(), gradient, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_no_step_waits(name: str) -> None:
    objective = built(name, 48, 32, torch.float32).cuda()
    given = {key: x.cuda() for key, x in fields(48, 32, torch.float32).items()}
    for seed in range(4):  # memories fill, stages end
        step(objective, given, seed)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for seed in range(4, 6):
            step(objective, given, seed)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", [name for name, entry in OBJECTIVES.items() if "N^2" in entry.cost])
def test_memory_of_a_tile(name: str) -> None:
    """Peak of forward and backward, half of one matrix of float32 logits; most need a tenth of that."""
    count, dim = 16_384, 64
    objective = built(name, count, dim, torch.float32, small=False).cuda()
    given = {key: x.cuda() for key, x in fields(count, dim, torch.float32).items()}
    step(objective, given, 0)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step(objective, given, 1)
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() - before
    assert peak < 2 * count * count, f"{name}: {peak / 1e6:.0f} MB"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "objective",
    [
        "infonce",
        "moco",
        "byol",
        "beclr",
        "symile",
        "one_to_k",
        "cwcl",
        "debcse",
        "multistage",
        "negclip",
        "coact",
    ],
)
def test_no_step_of_a_domain_waits(method: str, objective: str, tmp_path: Path) -> None:
    entry = find(method)
    if entry.load("offers").refusal(OBJECTIVES[objective].needs) is not None:
        pytest.skip(f"{method} cannot have {objective}")
    words = [*entry.load("example")(tmp_path), f"objective={objective}", "device=cuda"]
    words += [f"objective.{key}={value}" for key, value in SMALL.get(objective, {}).items()]
    config = resolve_settings(entry, words, environment={})
    runtime = Runtime.start("cuda")
    task = entry.load("task")(config, entry.load("method"))
    source = task.batches(config, runtime)
    trainer = Trainer.of(task.build(config).to(runtime.device), source, config, runtime)
    batches = [to_device(source.batch(number), runtime.device) for number in range(9)]
    for batch in batches[:6]:
        trainer.step(batch)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in batches[6:]:
            trainer.step(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
