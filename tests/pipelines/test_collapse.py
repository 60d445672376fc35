"""The monitor of representations: what it measures, and when it speaks up."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nearfar.pipelines.collapse import CollapseMonitor
from nearfar.testing import ToyContrast
from nearfar.tracking import NullRun


class Tagged(NullRun):
    def __init__(self) -> None:
        self.tags: dict[str, str] = {}

    def tag(self, tags: Any) -> None:
        self.tags |= tags


class Embeds:
    num_rows = 300

    def __init__(self, z: torch.Tensor) -> None:
        self.z = z

    def embed(self, method: Any, rows: Any) -> torch.Tensor:
        return self.z[torch.from_numpy(rows)]


def test_isotropic_rows_have_unit_spread_and_full_rank() -> None:
    z = torch.randn(300, 16, generator=torch.Generator().manual_seed(0))
    run = Tagged()
    values = CollapseMonitor(Embeds(z), run).measure(ToyContrast())  # type: ignore[arg-type]
    assert values["repr/std"] == pytest.approx(1, abs=0.05)
    assert values["repr/effective_rank"] > 14


def test_equal_rows_are_reported_after_three_looks(capsys: pytest.CaptureFixture[str]) -> None:
    run = Tagged()
    monitor = CollapseMonitor(Embeds(torch.ones(300, 16)), run)  # type: ignore[arg-type]
    for look in range(1, 4):
        values = monitor.measure(ToyContrast())
        assert values["repr/effective_rank"] == pytest.approx(1, abs=1e-3)
        assert values["repr/std"] == pytest.approx(0, abs=1e-3)
        assert ("nearfar.collapsed" in run.tags) == (look == 3)
    assert "collapsed" in capsys.readouterr().err
