"""Two processes with uneven parts of a batch give the loss, the gradients and the memories of one with all of it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from nearfar.selectable import OBJECTIVES
from nearfar.testing.ranks import run_ranks

WORKER = Path(__file__).with_name("ranks_worker.py")


def _worker() -> Any:
    spec = importlib.util.spec_from_file_location("selectable_ranks_worker", WORKER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


worker = _worker()


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("ranks")
    run_ranks([str(WORKER), str(folder)], 2, folder)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_as_one_process(name: str, answers: list[Any]) -> None:
    alone = worker.computed(name, worker.whole(), None)
    parts = [answer[name] for answer in answers]
    for one in parts:
        torch.testing.assert_close(one["loss"], alone["loss"], rtol=1e-9, atol=1e-9)
        for key, value in alone["state"].items():
            torch.testing.assert_close(one["state"][key], value, rtol=1e-9, atol=1e-9)
    first = worker.ROWS[0]
    for key, expected in alone["rows"].items():
        if expected is None:
            assert all(one["rows"][key] is None for one in parts)
            continue
        for one, rows in zip(parts, (slice(0, first), slice(first, None)), strict=True):
            mine = worker.part(key, expected, rows)
            # Gradients are averaged over the processes afterwards.
            torch.testing.assert_close(one["rows"][key] / 2, mine, rtol=1e-8, atol=1e-10)
    for key, expected in alone["own"].items():
        found = [one["own"][key] for one in parts]
        mean = None if found[0] is None else (found[0] + found[1]) / 2
        torch.testing.assert_close(mean, expected, rtol=1e-8, atol=1e-10)
