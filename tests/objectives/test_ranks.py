"""Two processes with half a batch each (and not the same half) give what one process gives for all of it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

WORKER = Path(__file__).with_name("ranks_worker.py")


def load_worker() -> Any:
    spec = importlib.util.spec_from_file_location("ranks_worker", WORKER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["ranks_worker"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


worker = load_worker()


SPREADS = [pytest.param(name, marks=[pytest.mark.slow] if name == "four" else []) for name in worker.SPREADS]


@pytest.fixture(scope="module", params=SPREADS)
def spread(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, list[Any]]:
    """Size of the whole batch, and what every process found."""
    sizes, folder = worker.SPREADS[request.param], tmp_path_factory.mktemp("ranks")
    command = [sys.executable, str(WORKER), request.param]
    processes = [
        subprocess.Popen([*command, str(rank), str(folder)], stderr=subprocess.PIPE)
        for rank in range(len(sizes))
    ]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
    return sum(sizes), [torch.load(folder / f"{rank}.pt") for rank in range(len(sizes))]


@pytest.mark.parametrize("name", worker.CASES)
def test_loss_and_gradient_are_those_of_the_concatenated_batch(
    name: str, spread: tuple[int, list[Any]]
) -> None:
    total, results = spread
    loss, gradient = worker.evaluate(worker.CASES[name], *worker.batch(total))
    for cases, _ in results:
        torch.testing.assert_close(cases[name][0], loss, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(cases[name][1], gradient, atol=1e-5, rtol=1e-5)


def test_what_means_one_process_is_refused(spread: tuple[int, list[Any]]) -> None:
    for _, refusals in spread[1]:
        if not refusals:
            pytest.skip("a process with one row refuses before it has spoken to the others")
        assert "positives: 'paired', ('paired', P), labels or Soft expected with group=" in refusals["next"]
        assert "a weight matrix" in refusals["matrix"]
        assert "denominator: Mask cannot be spread" in refusals["mask"]
