"""Noisy, long-tailed labels on digits: RCAL part by part, next to what people use.

scikit-learn's digits, 120 of class 0 down to 12 (ratio 10) or 1 (ratio 100), 40 % of the labels wrong (imb), 50 clean
test images of every class; balanced accuracy, last epoch. Networks are trained through the pipeline, every arm from its
own start; linear classifiers get pixels, or the representations of stage one (the "contrast only" encoder before any
label), from the list that the experiment on other domains uses too.

It goes on where it was stopped; see study.py.

    python benchmarks/digits.py [--ratios 10 100] [--seeds 5] [--workers 2] [--train] [--table]

Without --train it only prints what is known. cleanlab and imbalanced-learn (extra ``bench``) have rows if installed.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from nearfar.adapters import representations
from nearfar.atomic import write_atomically
from nearfar.calibration.gaussians import inliers
from nearfar.calibration.rcal.config import RCALConfig
from nearfar.calibration.rcal.method import RCAL
from nearfar.calibration.task import CalibrationTask
from nearfar.classification.encoder import inputs_for
from nearfar.config import override_layer, resolve
from nearfar.labels import balanced_accuracy, head_classes, purity
from nearfar.pipelines.noisy_labels.baselines import CannotRunError, available
from nearfar.pipelines.seeds import summarise
from nearfar.runtime import Runtime
from nearfar.training import fit

if TYPE_CHECKING:
    from benchmarks.study import Arm, Study
else:
    from study import Arm, Study  # this folder is first on the path of a script

FIRST_SEED = 1000
ON_PIXELS = ("logistic", "balanced", "nearest-mean", "rcal-knn")
NO_GAUSSIANS, NO_PRICE, NO_MIXUP = "gaussians.enabled=false", "beta=0", "mixup=0"


def study(ratio: int) -> Study:
    """Networks at one ratio.

    Args:
        ratio: Largest class to smallest.
    """
    rcal, erm = "calibration.rcal", "calibration.erm"
    arms = {
        "erm": Arm("network, cross-entropy (ERM)", erm),
        "erm-low": Arm("ERM at the learning rates of RCAL", erm, ("optim.lr=0.01", "head_lr=0.1")),
        "mixup": Arm("ERM + mixup", erm, ("mixup=1", "optim.lr=0.1")),
        "balanced": Arm("balanced softmax + mixup", "calibration.balanced_softmax"),
        "contrast": Arm(
            "contrast, then cross-entropy",
            rcal,
            ("variant=paper", NO_GAUSSIANS, NO_PRICE, NO_MIXUP),
        ),
        "draws": Arm("+ Gaussians (LOF)", rcal, ("variant=paper", NO_PRICE, NO_MIXUP)),
        "price": Arm("+ price of drifting", rcal, ("variant=paper", NO_MIXUP)),
        "paper": Arm("+ mixup = RCAL, paper", rcal, ("variant=paper",)),
        "knn": Arm("RCAL, Gaussians on rows that neighbours agree on", rcal, ("real_rows=all",)),
        "plus": Arm("RCAL, all training on such rows (paper+)", rcal),
        "softmax": Arm(
            "no Gaussians: contrast, price, mixup, balanced softmax",
            rcal,
            ("variant=paper", NO_GAUSSIANS, "loss=balanced_softmax"),
        ),
    }
    common = {
        "data": "digits",
        "imbalance": {"ratio": ratio},
        "device": "cpu",
        "num_threads": 1,
        "selection": {"every": 1000},
        "tracking": {"enabled": False},
    }
    return Study(
        name=f"digits-ratio{ratio}",
        arms=arms,
        common=common,
        metric="val/balanced_accuracy",
        columns=("balanced_accuracy", "medium", "few"),
        first_seed=FIRST_SEED,
        digits=3,
    )


def linear(ratio: int, seeds: int, path: Path) -> dict[str, dict[str, list[float | None]]]:
    """Linear classifiers of pixels and of representations, and what filters keep; kept in a file.

    Args:
        ratio: Largest class to smallest.
        seeds: How many.
        path: Of the file.

    Returns:
        By kind of features, by name, one value a seed; ``None`` where a method cannot run.
    """
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        if str(seed) not in known:
            known[str(seed)] = _linear(ratio, seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps(known, indent=1) + "\n")
    gathered: dict[str, dict[str, list[float | None]]] = {}
    for found in known.values():
        for kind, values in found.items():
            for name, value in values.items():
                gathered.setdefault(kind, {}).setdefault(name, []).append(value)
    return gathered


def _linear(ratio: int, seed: int) -> dict[str, dict[str, float | None]]:
    words = [f"imbalance.ratio={ratio}", f"seed={seed}", "epochs=120", "pretrain.epochs=120", "device=cpu"]
    config = resolve(RCALConfig, [override_layer([*words, "selection.every=1000"])])
    task, runtime = CalibrationTask(config, RCAL), Runtime.start("cpu")
    method: Any = task.build(config)
    fit(method, task.batches(config, runtime), config=config, runtime=runtime, quiet=True)
    data, rows = task.dataset, task.training
    assert rows.true is not None
    z = representations(method.encoder, task.inputs)
    z_test = representations(method.encoder, inputs_for(data.x_test, data))
    pixels, pixels_test = data.x_train[rows.rows].flatten(1), data.x_test.flatten(1)
    given, y = rows.given.numpy(), data.y_test.numpy()
    names = [name for name in ON_PIXELS if name != "rcal-knn"]
    found = {
        "pixels": _scores(names, pixels.numpy(), given, pixels_test.numpy(), y, seed),
        "representations": _scores(None, z.numpy(), given, z_test.numpy(), y, seed),
        "purity": {},
    }
    counts = rows.counts(10)
    heads = set(np.asarray(head_classes(counts)).tolist())
    tail = [label for label in range(10) if label not in heads]
    for kind in ("none", "lof", "knn"):
        kept = inliers(z, rows.given, kind=kind)
        pure = purity(rows.true, rows.given, kept, subset=tail)
        found["purity"] |= {kind: pure.overall, f"{kind}-tail": pure.subset, f"{kind}-kept": pure.share_kept}
    return found


def _scores(
    names: list[str] | None,
    x: NDArray[Any],
    given: NDArray[np.int64],
    x_test: NDArray[Any],
    y: NDArray[np.int64],
    seed: int,
) -> dict[str, float | None]:
    baselines, notes = available(names)
    for note in notes:
        print(note)
    found: dict[str, float | None] = {}
    for baseline in baselines:
        try:
            found[baseline.title] = balanced_accuracy(y, baseline.fit_predict(x, given, x_test, seed))
        except CannotRunError:
            found[baseline.title] = None
    return found


def _told(values: list[float | None]) -> str:
    numbers = [value for value in values if value is not None]
    if len(numbers) < len(values):
        return f"cannot run ({len(values) - len(numbers)} of {len(values)} seeds)"
    mean, deviation = np.mean(numbers), np.std(numbers, ddof=1) if len(numbers) > 1 else 0.0
    return f"{mean:.3f} ± {deviation:.3f}"


def main() -> None:
    """Run what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ratios", nargs="+", type=int, default=[10, 100])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--train", action="store_true", help="run what is missing: half an hour")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for ratio in arguments.ratios:
        one = study(ratio)
        path = one.results / "linear.json"
        if arguments.train:
            one.run(list(one.arms), Path(), 0, arguments.seeds, arguments.workers)
        print(f"\ndigits, ratio {ratio}, 40 % wrong labels\n")
        if arguments.train or path.exists():
            gathered = linear(ratio, arguments.seeds if arguments.train else 0, path)
            print("| features | classifier | balanced accuracy |\n|--|--|--|")
            for kind in ("pixels", "representations"):
                for name, values in gathered[kind].items():
                    print(f"| {kind} | {name} | {_told(values)} |")
            print("\n| filter | kept | right labels | in the tail |\n|--|--|--|--|")
            for kind in ("none", "lof", "knn"):
                cells = [_told(gathered["purity"][f"{kind}{part}"]) for part in ("-kept", "", "-tail")]
                print(f"| {kind} | {' | '.join(cells)} |")
        print(f"\n{one.rows()}")
        told = {name: one.read(name).get("seeds", {}) for name in ("erm", "paper", "plus")}
        if all(told.values()):
            means = {
                name: summarise(list(runs.values()))["test/balanced_accuracy_mean"]
                for name, runs in told.items()
            }
            print(
                f"\nover ERM: RCAL as in the paper {100 * (means['paper'] - means['erm']):+.1f} points, "
                f"paper+ {100 * (means['plus'] - means['erm']):+.1f}"
            )


if __name__ == "__main__":
    main()
