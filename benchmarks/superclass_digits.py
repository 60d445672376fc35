"""What representations keep of classes that were merged: SBCL part by part, next to what people use.

scikit-learn's digits. Superclasses: five digits of 80 images each are one class, two of 40 another, the rest (20, 12
and 12 images) are classes of their own; trained on these five classes, measured by the ten digits. Long tail: all ten
digits, 120 images of the first down to 1 of the last, where no class has anything inside it.

It goes on where it was stopped; see study.py.

    python benchmarks/superclass_digits.py [--studies superclass long-tail] [--seeds 5] [--workers 2] [--train]

Without --train it only prints what is known.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nearfar.pipelines.significance import paired_difference

if TYPE_CHECKING:
    from benchmarks.study import Arm, Study
else:
    from study import Arm, Study  # this folder is first on the path of a script

SBCL, SUPCON = "longtail.sbcl", "longtail.supcon"
FIRST_SEED = (
    2000  # settings were chosen on seeds from 100, by images that are neither trained on nor in the test part
)
COMMON = {
    "device": "cpu",
    "num_threads": 1,
    "selection": {"every": 1000},
    "tracking": {"enabled": False},
}
BASELINES = {
    "untrained": Arm("encoder as drawn", SUPCON, ("epochs=0",)),
    "cross-entropy": Arm("cross-entropy", "longtail.cross_entropy"),
    "balanced": Arm("balanced softmax", "longtail.balanced_softmax"),
    "simclr": Arm("SimCLR, no labels", "longtail.simclr"),
    "supcon": Arm("SupCon", SUPCON),
}
# Parts are changed one at a time.
PARTS = {
    "sbcl": Arm("SBCL", SBCL),
    "paper": Arm("tau_2 of the paper", SBCL, ("class_temperature.kind=paper",)),
    "fixed": Arm("one tau_2 for all classes (.2)", SBCL, ("class_temperature.kind=fixed",)),
    "plain": Arm("plain k-means", SBCL, ("subclasses.clustering=plain",)),
    "ceil": Arm("subclasses of at most M", SBCL, ("subclasses.rounding=ceil",)),
    "once": Arm("clustered once", SBCL, ("subclasses.every=1000",)),
    "cold": Arm("every clustering from new seeds", SBCL, ("subclasses.warm_start=false",)),
    "no-warmup": Arm("no warm-up", SBCL, ("warmup_epochs=0",)),
    "simclr-warmup": Arm("warm-up without labels", SBCL, ("warmup_loss=simclr",)),
    "no-classes": Arm("subclasses alone (beta = 0)", SBCL, ("beta=0",)),
    "classes": Arm("beta = 1", SBCL, ("beta=1",)),
    "groups": Arm("batches of 16 subclasses", SBCL, ("groups=16",)),
    "queue": Arm("negatives from a queue of 512", SBCL, ("queue.size=512",)),
    "code": Arm("released code (variant=code)", SBCL, ("variant=code",)),
}
HEADS = ("crt", "ldam_drw", "balanced_softmax", "logit_adjustment", "nearest_mean")


def superclass() -> Study:
    """Merged digits."""
    supcon = {"supcon-05": Arm("SupCon at temperature .05", SUPCON, ("temperature=0.05",))}
    return Study(
        name="superclass-digits",
        arms={**BASELINES, **supcon, **PARTS},
        common={**COMMON, "data": "superclass-digits"},
        metric="val/balanced_accuracy",
        columns=("hidden_nmi_largest", "hidden_nmi_test", "fine_probe", "balanced_accuracy", "few"),
        first_seed=FIRST_SEED,
        digits=3,
    )


def long_tail() -> Study:
    """Ten digits, ratio 100."""
    heads = {kind: Arm(f"SBCL, then {kind}", SBCL, (f"head.kind={kind}",)) for kind in HEADS}
    shared = ("warmup_epochs=4", "subclasses.every=4", "dim=32")
    arms = {**BASELINES, "sbcl": Arm("SBCL, paper", SBCL), "code": PARTS["code"], **heads}
    return Study(
        name="digits-long-tail",
        arms={
            name: Arm(arm.title, arm.method, (*(shared if arm.method == SBCL else ()), *arm.words))
            for name, arm in arms.items()
        },
        common={**COMMON, "data": "digits", "imbalance": {"ratio": 100}},
        metric="val/balanced_accuracy",
        columns=("balanced_accuracy", "many", "medium", "few"),
        first_seed=FIRST_SEED,
        digits=3,
    )


STUDIES = {"superclass": superclass, "long-tail": long_tail}


def differences(study: Study, arm: str, other: str, columns: Sequence[str]) -> str:
    """One arm minus another, paired by seed.

    Args:
        study: They are of it.
        arm: First one.
        other: Second one.
        columns: Of the table.
    """
    mine, theirs = (study.read(name).get("seeds", {}) for name in (arm, other))
    seeds = [seed for seed in mine if seed in theirs]
    told = []
    for column in columns if seeds else ():
        values = [[runs[seed][f"test/{column}"] for seed in seeds] for runs in (mine, theirs)]
        found = paired_difference(*values)
        if found is not None:
            p = "" if found.p_value is None else f" (p = {found.p_value:.2g})"
            told.append(f"{column} {100 * found.mean:+.1f} points{p}")
    return f"{arm} over {other}, {len(seeds)} seeds: {', '.join(told)}" if told else ""


def main() -> None:
    """Run what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--studies", nargs="+", choices=list(STUDIES), default=list(STUDIES))
    parser.add_argument("--arms", nargs="+", help="some of them; all by default")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--train", action="store_true", help="run what is missing: half an hour")
    arguments = parser.parse_args()
    for name in arguments.studies:
        study = STUDIES[name]()
        if arguments.train:
            arms = [arm for arm in study.arms if arguments.arms is None or arm in arguments.arms]
            study.run(arms, Path(), 0, arguments.seeds, arguments.workers)
        print(f"\n{study.name}\n\n{study.rows()}\n")
        for other in ("supcon", "supcon-05", "simclr", "balanced"):
            if other in study.arms:
                print(differences(study, "sbcl", other, study.columns))


if __name__ == "__main__":
    main()
