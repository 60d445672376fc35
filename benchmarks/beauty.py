"""Do MCLRec's augmenters matter? Recommenders on Amazon Beauty, equal updates, several seeds, both protocols.

Every arm gets the same number of encoder updates. The regularisation is searched once, for plain cross-entropy;
uniformity and MCLRec search their own terms on top of it, and frozen augmenters get what was found for learned ones, so
if anything the comparison of the two favours the learned. All on validation NDCG@10, seen items kept, one seed.
Reported are test metrics of seeds no trial has used. A last arm, out of competition, trains nearly twice as long.

It goes on where it was stopped; see study.py.

    python benchmarks/beauty.py --data-dir DIR [--arms ce ce_tuned ...] [--trials 8] [--seeds 3] [--table]

DIR holds amazon-beauty/amazon-beauty.inter, 22,363 users, RecBole's format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfar.pipelines.train import Outcome
from nearfar.recsys.bootstrap import paired_bootstrap
from nearfar.recsys.ranking import FILTERED
from nearfar.recsys.ranks import FILE, TestRanks

if TYPE_CHECKING:
    from benchmarks.study import Arm, Study, command_line
else:
    from study import Arm, Study, command_line  # this folder is first on the path of a script

DATA = "amazon-beauty"

# 514 updates an epoch, as many as batches of 256 prefixes give; 7,710 in all.
COMMON: Mapping[str, Any] = {
    "data": DATA,
    "epochs": 15,
    "targets_per_batch": 256,
    "dropout": 0.5,
    "attention_dropout": 0.5,
    "num_threads": 1,
    "optim": {"name": "adamw", "lr": 1e-3, "weight_decay": 0.0, "schedule": "constant"},
    "selection": {"patience": None, "every": 3},
    "tracking": {"log_model": False},
}
REGULARISATION: Mapping[str, Any] = {
    "optim.lr": {"low": 5e-4, "high": 3e-3, "log": True},
    "optim.weight_decay": {"low": 0.0, "high": 1.0},
    "optim.schedule": ["constant", "cosine"],
    "dropout": {"low": 0.3, "high": 0.7},
    "attention_dropout": {"low": 0.1, "high": 0.7},
    "softmax.label_smoothing": {"low": 0.0, "high": 0.2},
}
WEIGHT: Mapping[str, Any] = {"low": 1e-3, "high": 0.5, "log": True}
ROWS: Sequence[int] = (64, 128)


ARMS: Mapping[str, Arm] = {
    "ce": Arm("SASRec, cross-entropy", "recsys.sasrec"),
    "ce_tuned": Arm("SASRec, cross-entropy, tuned", "recsys.sasrec", space=REGULARISATION),
    "spread": Arm(
        "+ uniformity only",
        "recsys.mclrec",
        ("contrast.form=spread",),
        {"contrast.weight": WEIGHT, "contrast.rows": list(ROWS)},
        after=("ce_tuned",),
    ),
    "frozen": Arm(
        "MCLRec, frozen augmenters",
        "recsys.mclrec",
        ("augmenters.kind=frozen",),
        after=("ce_tuned", "mclrec"),
    ),
    "mclrec": Arm(
        "MCLRec",
        "recsys.mclrec",
        space={"contrast.weight": WEIGHT, "augmenters.weight": WEIGHT, "contrast.rows": list(ROWS)},
        after=("ce_tuned",),
    ),
    # 14,906 updates.
    "ce_long": Arm(
        "SASRec, cross-entropy, tuned, 29 epochs", "recsys.sasrec", ("epochs=29",), after=("ce_tuned",)
    ),
}
COMPARED = (
    ("ce_tuned", "ce"),
    ("spread", "ce_tuned"),
    ("frozen", "ce_tuned"),
    ("mclrec", "ce_tuned"),
    ("mclrec", "frozen"),
    ("ce_long", "ce_tuned"),
)


def keep_ranks(name: str, seed: int, outcome: Outcome) -> None:
    """Keep the rank of every user's test item."""
    kept = STUDY.results / "ranks" / f"{name}-{seed}.npz"
    kept.parent.mkdir(parents=True, exist_ok=True)
    TestRanks.read(Path(outcome.output_dir) / FILE).write(kept)


STUDY = Study(
    name="beauty",
    arms=ARMS,
    common=COMMON,
    metric="val/ndcg_at_10",
    columns=("hr_at_10", "ndcg_at_10", "hr_at_10_filtered", "ndcg_at_10_filtered"),
    keep=keep_ranks,
)


def differences() -> str:
    """Of arms and those they are compared with, over users."""
    lines = []
    for told, protocol in (("seen items kept", ""), ("filtered", FILTERED)):
        lines += ["", f"NDCG@10, {told}: difference, 95 % over users, p"]
        for name, other in COMPARED:
            ranks, others = _ranks(name, protocol), _ranks(other, protocol)
            if ranks is not None and others is not None:
                found = paired_bootstrap(ranks, others)
                figures = (
                    f"{found.mean:+.4f} ({found.low:+.4f} to {found.high:+.4f}), p = {found.p_value:.4f}"
                )
                lines.append(f"{ARMS[name].title} - {ARMS[other].title}: {figures}")
    return "\n".join(lines)


def _ranks(name: str, protocol: str) -> np.ndarray | None:
    """Test ranks of all seeds, shape ``(S, U)``."""
    files = sorted((STUDY.results / "ranks").glob(f"{name}-[0-9]*.npz"))
    return np.stack([TestRanks.read(file).ranks[protocol] for file in files]) if files else None


def main() -> None:
    """Run what is missing and print the table."""
    about = (__doc__ or "").splitlines()[0]
    command_line(STUDY, about, "folder with amazon-beauty/amazon-beauty.inter", trials=8, seeds=3)
    print(STUDY.rows())
    print(differences())


if __name__ == "__main__":
    main()
