"""The losses of every method, as they were recorded: a change of arithmetic does not pass unnoticed.

``python tests/reliability/test_losses.py`` records them anew.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
import torch

from nearfar.pipelines.registry import methods
from nearfar.testing import Subject

STORED = Path(__file__).with_name("losses.json")
STEPS = 20


def losses() -> dict[str, list[float]]:
    """The first losses of every trained method on its example."""
    torch.set_num_threads(1)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, entry in methods().items():
            subject = Subject(entry, tuple(entry.load("example")(Path(folder) / name)))
            if subject.is_trained:
                found[name] = subject.losses(STEPS)
    return found


def platform() -> str:
    """Where bits are promised to be equal."""
    return f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"


@pytest.mark.row("D06")
def test_losses_are_those_recorded() -> None:
    stored, found = json.loads(STORED.read_text()), losses()
    assert found.keys() == stored["losses"].keys(), (
        "record the new method: python tests/reliability/test_losses.py"
    )
    for name, values in found.items():
        assert values == pytest.approx(stored["losses"][name], rel=1e-5), name


if __name__ == "__main__":
    STORED.write_text(json.dumps({"platform": platform(), "losses": losses()}, indent=1) + "\n")
