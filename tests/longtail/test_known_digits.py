"""Known answers on superclass digits: what SBCL keeps of five digits that were one class, and SupCon does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfar.pipelines.registry import find
from nearfar.pipelines.settings import resolve_settings
from nearfar.runtime import Runtime
from nearfar.training import fit

pytestmark = pytest.mark.slow
SEEDS = range(3)


def trained(method: str, seed: int, folder: Path) -> dict[str, float]:
    """Metrics on the test part, with the settings that come with the data."""
    entry = find(f"longtail.{method}")
    words = ["data=superclass-digits", f"seed={seed}", "device=cpu", "selection.every=1000"]
    config = resolve_settings(entry, words, environment={})
    task, runtime = entry.load("task")(config, entry.load("method")), Runtime.start("cpu")
    made: Any = task.build(config)
    fit(made, task.batches(config, runtime), config=config, runtime=runtime, quiet=True)
    folder.mkdir()
    found: dict[str, float] = task.test(made.eval(), folder)
    return found


def test_subclasses_keep_what_a_class_is_made_of(tmp_path: Path) -> None:
    """Hidden digits found at .8 or above, far above SupCon; the probe of all ten better, classes no worse."""
    runs = {
        method: [trained(method, seed, tmp_path / f"{method}{seed}") for seed in SEEDS]
        for method in ("sbcl", "supcon")
    }

    def mean(method: str, metric: str) -> float:
        return float(np.mean([run[metric] for run in runs[method]]))

    assert mean("sbcl", "hidden_nmi_largest") >= 0.8
    assert mean("sbcl", "hidden_nmi_largest") >= mean("supcon", "hidden_nmi_largest") + 0.1
    assert mean("sbcl", "fine_probe") >= mean("supcon", "fine_probe") + 0.01
    assert mean("sbcl", "balanced_accuracy") >= mean("supcon", "balanced_accuracy") - 0.01
