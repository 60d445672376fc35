"""Known answers on digits: what RCAL gains over cross-entropy, and which filter finds wrong labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nearfar.adapters import representations
from nearfar.calibration.gaussians import inliers
from nearfar.calibration.rcal.config import RCALConfig
from nearfar.calibration.rcal.method import RCAL
from nearfar.calibration.task import CalibrationTask
from nearfar.config import override_layer, resolve
from nearfar.labels import purity
from nearfar.runtime import Runtime
from nearfar.training import fit

pytestmark = pytest.mark.slow
SEEDS = range(4)
# Cross-entropy with the encoder, optimiser and rates of the second stage, and nothing else of RCAL.
ERM = (
    "epochs=100",
    "pretrain.epochs=0",
    "gaussians.enabled=false",
    "beta=0",
    "mixup=0",
    "real_rows=all",
)


def trained(seed: int, *words: str) -> tuple[CalibrationTask, Any]:
    config = resolve(
        RCALConfig, [override_layer([f"seed={seed}", "device=cpu", "selection.every=1000", *words])]
    )
    task, runtime = CalibrationTask(config, RCAL), Runtime.start("cpu")
    method = task.build(config)
    fit(method, task.batches(config, runtime), config=config, runtime=runtime, quiet=True)
    return task, method


@pytest.mark.parametrize(("ratio", "gap"), [(10, 0.12), (100, 0.08)])
def test_rcal_is_far_above_cross_entropy(ratio: int, gap: float) -> None:
    """Balanced accuracy on clean images, 40 % of the labels wrong, mean over seeds."""
    gains = []
    for seed in SEEDS:
        scores = []
        for words in ((), ERM):
            task, method = trained(seed, f"imbalance.ratio={ratio}", *words)
            scores.append(task.evaluate(method, "test")["balanced_accuracy"])
        gains.append(scores[0] - scores[1])
    assert np.mean(gains) >= gap, gains


def test_neighbours_find_wrong_labels_and_outlier_factors_do_not() -> None:
    """Right labels among those kept, of all classes; 60 % of them are right to begin with."""
    found: dict[str, list[float]] = {"knn": [], "lof": []}
    for seed in SEEDS:
        task, method = trained(seed, "epochs=60", "pretrain.epochs=60")
        z, rows = representations(method.encoder, task.inputs), task.training
        assert rows.true is not None
        for kind, values in found.items():
            pure = purity(rows.true, rows.given, inliers(z, rows.given, kind=kind)).overall
            assert pure is not None
            values.append(pure)
    assert np.mean(found["knn"]) >= 0.88, found
    assert np.mean(found["lof"]) <= 0.66, found
