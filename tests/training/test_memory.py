"""Out of memory: the same loss in smaller pieces, and a useful answer when there are none left."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from nearfar.errors import OutOfMemoryError
from nearfar.objectives import contrast
from nearfar.objectives.logsumexp import small_tiles
from nearfar.runtime import Runtime
from nearfar.testing import ToyConfig, ToyContrast, ToyRows, ToyViews
from nearfar.training import CheckpointStore, StepContext, StepOutput, fit
from nearfar.training.memory import LADDER, is_out_of_memory, ladder

WORKER = Path(__file__).with_name("memory_worker.py")


def run(folder: Path, spare: int) -> dict[str, Any]:
    folder.mkdir()
    answer = subprocess.run(
        [sys.executable, WORKER, str(folder), str(spare)], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    result: dict[str, Any] = json.loads(answer.stdout)
    return result | {"said": answer.stderr}


@pytest.mark.row("S05")
@pytest.mark.skipif(sys.platform != "linux", reason="ceilings on address space are Linux's")
def test_below_a_ceiling_the_loss_is_the_same(tmp_path: Path) -> None:
    """S05: where the dense logits do not fit, tiles do."""
    free, tight = run(tmp_path / "free", 0), run(tmp_path / "tight", 450)
    assert free["level"] == 0
    assert tight["level"] > 0
    assert len(tight["losses"]) == 2
    assert tight["losses"] == pytest.approx(free["losses"], abs=1e-6)
    assert "the same loss in smaller pieces" in tight["said"]


@pytest.mark.row("S06")
@pytest.mark.skipif(sys.platform != "linux", reason="ceilings on address space are Linux's")
def test_where_nothing_fits_the_answer_names_a_setting(tmp_path: Path) -> None:
    """S06."""
    none = run(tmp_path / "none", 3)
    assert "does not fit in memory" in none["error"]
    assert "lower toy.rows" in none["error"]
    assert not [name for name in none["files"] if "tmp" in name]


class Hungry(ToyContrast):
    """Runs out of memory until its batch is cut into so many chunks."""

    needed, asked = 16, 0

    def step(self, batch: ToyRows, ctx: StepContext) -> StepOutput:
        Hungry.asked += 1
        if ctx.step >= 2 and ctx.chunks < self.needed:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes")
        return super().step(batch, ctx)


@pytest.mark.parametrize("needed", [4, 16])
def test_the_ladder_is_climbed_as_far_as_needed(cpu: Runtime, tmp_path: Path, needed: int) -> None:
    method, losses = Hungry(), dict[int, float]()
    method.needed = needed
    straight, expected = ToyContrast(), dict[int, float]()
    config = ToyConfig(epochs=2, device="cpu")
    for model, log, folder in ((method, losses, "a"), (straight, expected, "b")):
        fit(
            model,
            ToyViews(),
            config=config,
            runtime=cpu,
            log=lambda metrics, step, log=log: log.update({step: metrics["train/loss"]}),  # type: ignore[misc]
            store=CheckpointStore(tmp_path / folder),
            quiet=True,
        )
    assert losses == pytest.approx(expected, abs=1e-6)
    store = CheckpointStore(tmp_path / "a")
    assert LADDER[store.load(store.steps()[-1]).memory_level].chunks == needed


def test_no_chunks_for_methods_that_cannot_be_cut(cpu: Runtime, tmp_path: Path) -> None:
    method = Hungry()
    method.chunkable = False  # type: ignore[misc]
    config = ToyConfig(epochs=2, device="cpu")
    with pytest.raises(OutOfMemoryError, match=r"step 2 does not fit.*lower the batch size of the method"):
        fit(method, ToyViews(), config=config, runtime=cpu, store=CheckpointStore(tmp_path), quiet=True)
    assert all(plan.chunks == 1 for plan in ladder(chunkable=False))


def test_other_errors_are_not_taken_for_it(cpu: Runtime, tmp_path: Path) -> None:
    class Broken(ToyContrast):
        def step(self, batch: ToyRows, ctx: StepContext) -> StepOutput:
            raise RuntimeError("shapes do not match")

    config = ToyConfig(epochs=1, device="cpu")
    with pytest.raises(RuntimeError, match="shapes do not match"):
        fit(Broken(), ToyViews(), config=config, runtime=cpu, store=CheckpointStore(tmp_path), quiet=True)
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))


@pytest.mark.parametrize("backend", ["dense", "tiled", "auto"])
def test_small_tiles_change_no_value(backend: Any) -> None:
    rng = torch.Generator().manual_seed(0)
    q, k = (torch.randn(300, 5, generator=rng, dtype=torch.float64) for _ in range(2))
    expected = contrast(q, k, backend=backend)
    with small_tiles(64):
        assert contrast(q, k, backend=backend).item() == pytest.approx(expected.item(), rel=1e-12)
