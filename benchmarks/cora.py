"""Does training on compactness pay? GRACE and POT on Cora: probe, certified nodes, size of the embeddings, five seeds.

Settings are those of the published program's README command; arms marked searched had theirs searched on validation, as
many trials each. POT is trained on the certified bound, on the published surrogate, or on the score of the view itself.

It goes on where it was stopped; see study.py.

    python benchmarks/cora.py --data-dir DIR [--arms grace certified ...] [--trials 8] [--seeds 5] [--table]

DIR holds Cora/raw/ind.cora.x and the others: Planetoid's, as torch_geometric.datasets.Planetoid keeps them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.study import Arm, Study, command_line
else:
    from study import Arm, Study, command_line  # this folder is first on the path of a script

POT: Mapping[str, Any] = {"kappa": {"low": 0.05, "high": 0.6}, "logit_scale": [1.0, "auto"]}
BASE: Mapping[str, Any] = {"temperature": {"low": 0.2, "high": 1.0}}


def pot(title: str, mode: str, *words: str, space: Mapping[str, Any] | None = None) -> Arm:
    """POT on one number called compactness."""
    return Arm(title, "graph.pot", (f"compactness.mode={mode}", *words), space or {})


STUDY = Study(
    name="cora",
    arms={
        "untrained": Arm("encoder as drawn", "graph.untrained"),
        "grace": Arm("GRACE", "graph.contrast"),
        "sampled": pot("POT, sampled", "sampled"),
        "surrogate": pot("POT, surrogate", "surrogate"),
        "certified": pot("POT, certified", "certified"),
        "surrogate_auto": pot("POT, surrogate, scale auto", "surrogate", "logit_scale=auto"),
        "certified_auto": pot("POT, certified, scale auto", "certified", "logit_scale=auto"),
        "grace_searched": Arm("GRACE, searched", "graph.contrast", space=BASE),
        "surrogate_searched": pot("POT, surrogate, searched", "surrogate", space=POT),
        "certified_searched": pot("POT, certified, searched", "certified", space=POT),
    },
    common={"data": "cora", "num_threads": 1, "tracking": {"log_model": False}},
    metric="val/f1_micro",
    columns=("f1_micro", "f1_macro", "certified_share_p10", "certified_share_p40", "z_norm"),
    digits=3,
)


def main() -> None:
    """Run what is missing and print the table."""
    about = (__doc__ or "").splitlines()[0]
    command_line(STUDY, about, "folder with Cora/raw, Planetoid's files", trials=8, seeds=5)
    print(STUDY.rows())


if __name__ == "__main__":
    main()
