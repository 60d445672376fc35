"""Do MCLRec's augmenters matter? Recommenders on Amazon Beauty, equal updates, several seeds, both protocols.

Every arm gets the same number of encoder updates. The regularisation is searched once, for plain cross-entropy;
uniformity and MCLRec search their own terms on top of it, and frozen augmenters get what was found for learned ones, so
if anything the comparison of the two favours the learned. All on validation NDCG@10, seen items kept, one seed.
Reported are test metrics of seeds no trial has used. A last arm, out of competition, trains nearly twice as long.

What is done is written to benchmarks/results/beauty and not done again: <arm>.json for searches and runs that ended,
<arm>.journal for the trials of a search. Within one checkout an interrupted trial or run goes on where it was.

    python benchmarks/beauty.py --data-dir DIR [--arms ce ce_tuned ...] [--trials 8] [--seeds 3] [--table]

DIR holds amazon-beauty/amazon-beauty.inter, 22,363 users, RecBole's format.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from nearfar.atomic import write_atomically
from nearfar.pipelines.seeds import Job, run_jobs, summarise
from nearfar.pipelines.tune import tune
from nearfar.recsys.bootstrap import paired_bootstrap
from nearfar.recsys.ranking import FILTERED
from nearfar.recsys.ranks import FILE, TestRanks
from nearfar.tuning.space import setting

RESULTS = Path(__file__).with_name("results") / "beauty"
DATA = "amazon-beauty"
FIRST_SEED = 1000  # of the final runs; trials use seed 0
COLUMNS = ("hr_at_10", "ndcg_at_10", "hr_at_10_filtered", "ndcg_at_10_filtered")

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


@dataclass(frozen=True)
class Arm:
    """One row of the table.

    Attributes:
        title: Its name there.
        method: Registered name.
        words: Settings that make it what it is.
        space: What is searched for it; empty for nothing.
        after: Arms whose searches it builds on.
    """

    title: str
    method: str
    words: tuple[str, ...] = ()
    space: Mapping[str, Any] = field(default_factory=dict)
    after: tuple[str, ...] = ("ce_tuned",)


ARMS: Mapping[str, Arm] = {
    "ce": Arm("SASRec, cross-entropy", "recsys.sasrec", after=()),
    "ce_tuned": Arm("SASRec, cross-entropy, tuned", "recsys.sasrec", space=REGULARISATION, after=()),
    "spread": Arm(
        "+ uniformity only",
        "recsys.mclrec",
        ("contrast.objective=spread",),
        {"contrast.weight": WEIGHT, "contrast.rows": list(ROWS)},
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
    ),
    # 14,906 updates.
    "ce_long": Arm("SASRec, cross-entropy, tuned, 29 epochs", "recsys.sasrec", ("epochs=29",)),
}
COMPARED = (
    ("ce_tuned", "ce"),
    ("spread", "ce_tuned"),
    ("frozen", "ce_tuned"),
    ("mclrec", "ce_tuned"),
    ("mclrec", "frozen"),
    ("ce_long", "ce_tuned"),
)


def read(name: str) -> dict[str, Any]:
    """What is known of an arm; empty if nothing."""
    path = RESULTS / f"{name}.json"
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return known


def write(name: str, known: Mapping[str, Any]) -> None:
    """Keep it."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    write_atomically(RESULTS / f"{name}.json", json.dumps(known, indent=1) + "\n")


def settings_file(name: str, content: Mapping[str, Any]) -> Path:
    """A YAML file below the outputs."""
    path = Path("outputs") / "beauty" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(dict(content)), encoding="utf-8")
    return path.absolute()


def words_of(name: str, data_dir: Path) -> tuple[str, ...]:
    """Settings of an arm before its own search."""
    arm = ARMS[name]
    words = [f"data_dir={data_dir}", *arm.words]
    for other in arm.after:
        found = read(other).get("search")
        if found is None:
            raise SystemExit(f"{name} uses what is found for {other}; run that arm first")
        words += [setting(key, value) for key, value in found["params"].items()]
    return tuple(words)


def search(name: str, data_dir: Path, trials: int) -> None:
    """Search an arm's settings, unless that was done."""
    arm, known = ARMS[name], read(name)
    if not arm.space or "search" in known:
        return
    RESULTS.mkdir(parents=True, exist_ok=True)
    outcome = tune(
        arm.method,
        words_of(name, data_dir),
        settings_file("common.yaml", COMMON),
        trials=trials,
        trial_seeds=1,
        seeds=0,
        study=f"beauty-{name}",
        storage=str(RESULTS / f"{name}.journal"),
        space_file=settings_file(f"{name}-space.yaml", arm.space),
    )
    known["search"] = {
        "params": outcome.best_params,
        "val/ndcg_at_10": outcome.best_value,
        "trials": outcome.trials,
        "space": dict(arm.space),
    }
    write(name, known)


def measure(name: str, data_dir: Path, seeds: int, workers: int) -> None:
    """Train an arm with its settings under new seeds, unless that was done."""
    arm, known = ARMS[name], read(name)
    done = known.setdefault("seeds", {})
    wanted = [seed for seed in range(FIRST_SEED, FIRST_SEED + seeds) if str(seed) not in done]
    words = words_of(name, data_dir)
    words += tuple(setting(k, v) for k, v in known.get("search", {}).get("params", {}).items())
    file = settings_file("common.yaml", COMMON)
    jobs = [Job(arm.method, (*words, f"seed={seed}"), file) for seed in wanted]
    for seed, group in zip(wanted, run_jobs(jobs, workers=workers, resume="auto"), strict=True):
        (outcome,) = group.outcomes
        known["seeds"][str(seed)] = outcome.metrics
        ranks = Path(outcome.output_dir) / FILE
        kept = RESULTS / "ranks" / f"{name}-{seed}.npz"
        kept.parent.mkdir(parents=True, exist_ok=True)
        TestRanks.read(ranks).write(kept)
    known |= {
        "method": arm.method,
        "settings": [word for word in words if not word.startswith("data_dir=")],
        "common": dict(COMMON),
        "environment": {
            "torch": torch.__version__,
            "machine": platform.machine(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "threads": 1,
        },
    }
    write(name, known)


def table() -> str:
    """What is known of all arms, as Markdown: mean and standard deviation over seeds, and differences over users."""
    head = ["", "seeds", *COLUMNS]
    lines = ["| " + " | ".join(head) + " |", "|" + "--|" * len(head)]
    for name, arm in ARMS.items():
        runs = list(read(name).get("seeds", {}).values())
        if runs:
            summary = summarise(runs)
            cells = [f"{summary[f'test/{c}_mean']:.4f} ± {summary[f'test/{c}_std']:.4f}" for c in COLUMNS]
            lines.append("| " + " | ".join([arm.title, str(len(runs)), *cells]) + " |")
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
    files = sorted((RESULTS / "ranks").glob(f"{name}-[0-9]*.npz"))
    return np.stack([TestRanks.read(file).ranks[protocol] for file in files]) if files else None


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path, help="folder with amazon-beauty/amazon-beauty.inter")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--trials", type=int, default=8, help="of each search; 20 at most are meant")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--table", action="store_true", help="only print what is known")
    arguments = parser.parse_args()
    if not arguments.table:
        if arguments.data_dir is None:
            parser.error("--data-dir is needed to train")
        for name in sorted(arguments.arms, key=lambda name: len(ARMS[name].after)):
            search(name, arguments.data_dir.absolute(), arguments.trials)
            measure(name, arguments.data_dir.absolute(), arguments.seeds, arguments.workers)
    print(table())


if __name__ == "__main__":
    main()
