"""A study: arms that train the same way, some searched before they are measured, under seeds no search has used.

What is done is written to benchmarks/results/<name> and not done again: <arm>.json for searches and runs that ended,
<arm>.journal for the trials of a search. Within one checkout an interrupted trial or run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from nearfar.atomic import write_atomically
from nearfar.pipelines.seeds import Job, run_jobs, summarise
from nearfar.pipelines.train import Outcome
from nearfar.pipelines.tune import tune
from nearfar.runtime import resolve_device
from nearfar.tuning.space import setting


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
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Study:
    """Arms and what they share.

    Attributes:
        name: Folder of its results.
        arms: Rows of its table, by name.
        common: Settings of every arm.
        metric: What its searches compare, on validation.
        columns: Metrics of the table, on test where they do not say.
        first_seed: Of the runs that are reported; trials use seed 0.
        digits: Decimals in the table.
        keep: Told arm, seed and outcome of a run that ended, for what it leaves besides metrics.
    """

    name: str
    arms: Mapping[str, Arm]
    common: Mapping[str, Any]
    metric: str
    columns: Sequence[str]
    first_seed: int = 1000
    digits: int = 4
    keep: Callable[[str, int, Outcome], None] | None = None

    @property
    def results(self) -> Path:
        """Where they are."""
        return Path(__file__).with_name("results") / self.name

    def read(self, arm: str) -> dict[str, Any]:
        """What is known of an arm; empty if nothing."""
        path = self.results / f"{arm}.json"
        known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return known

    def write(self, arm: str, known: Mapping[str, Any]) -> None:
        """Keep it."""
        self.results.mkdir(parents=True, exist_ok=True)
        write_atomically(self.results / f"{arm}.json", json.dumps(known, indent=1) + "\n")

    def run(self, arms: Sequence[str], data_dir: Path, trials: int, seeds: int, workers: int) -> None:
        """Do what is missing of these arms, those others build on first."""
        for name in sorted(arms, key=lambda name: len(self.arms[name].after)):
            self._search(name, data_dir, trials, workers)
            self._measure(name, data_dir, seeds, workers)

    def rows(self) -> str:
        """What is known of all arms, as Markdown: mean and standard deviation over seeds."""
        head = ["", "seeds", *self.columns]
        lines = ["| " + " | ".join(head) + " |", "|" + "--|" * len(head)]
        for name, arm in self.arms.items():
            runs = list(self.read(name).get("seeds", {}).values())
            if runs:
                told = summarise(runs)
                keys = [c if "/" in c else f"test/{c}" for c in self.columns]
                pairs = [(told[f"{key}_mean"], told[f"{key}_std"]) for key in keys]
                cells = [f"{mean:.{self.digits}f} ± {std:.{self.digits}f}" for mean, std in pairs]
                lines.append("| " + " | ".join([arm.title, str(len(runs)), *cells]) + " |")
        return "\n".join(lines)

    def _settings_file(self, name: str, content: Mapping[str, Any]) -> Path:
        """A YAML file below the outputs."""
        path = Path("outputs") / self.name / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(dict(content)), encoding="utf-8")
        return path.absolute()

    def _words(self, name: str, data_dir: Path) -> tuple[str, ...]:
        """Settings of an arm before its own search."""
        arm = self.arms[name]
        words = [f"data_dir={data_dir}", *arm.words]
        for other in arm.after:
            found = self.read(other).get("search")
            if found is None:
                raise SystemExit(f"{name} uses what is found for {other}; run that arm first")
            words += [setting(key, value) for key, value in found["params"].items()]
        return tuple(words)

    def _search(self, name: str, data_dir: Path, trials: int, workers: int) -> None:
        """Search an arm's settings, unless that was done."""
        arm, known = self.arms[name], self.read(name)
        if not arm.space or "search" in known:
            return
        self.results.mkdir(parents=True, exist_ok=True)
        outcome = tune(
            arm.method,
            self._words(name, data_dir),
            self._settings_file("common.yaml", self.common),
            trials=trials,
            trial_seeds=1,
            seeds=0,
            workers=workers,
            study=f"{self.name}-{name}",
            storage=str(self.results / f"{name}.journal"),
            space_file=self._settings_file(f"{name}-space.yaml", arm.space),
        )
        known["search"] = {
            "params": outcome.best_params,
            self.metric: outcome.best_value,
            "trials": outcome.trials,
            "space": dict(arm.space),
        }
        self.write(name, known)

    def _measure(self, name: str, data_dir: Path, seeds: int, workers: int) -> None:
        """Train an arm with its settings under new seeds, unless that was done."""
        arm, known = self.arms[name], self.read(name)
        done = known.setdefault("seeds", {})
        wanted = [seed for seed in range(self.first_seed, self.first_seed + seeds) if str(seed) not in done]
        words = self._words(name, data_dir)
        words += tuple(setting(k, v) for k, v in known.get("search", {}).get("params", {}).items())
        file = self._settings_file("common.yaml", self.common)
        jobs = [Job(arm.method, (*words, f"seed={seed}"), file) for seed in wanted]
        for seed, group in zip(wanted, run_jobs(jobs, workers=workers, resume="auto"), strict=True):
            (outcome,) = group.outcomes
            done[str(seed)] = outcome.metrics
            if self.keep is not None:
                self.keep(name, seed, outcome)
        known |= {
            "method": arm.method,
            "settings": [word for word in words if not word.startswith("data_dir=")],
            "common": dict(self.common),
            "environment": {
                "torch": torch.__version__,
                "machine": platform.machine(),
                "device": _name_of(self.common.get("device", "auto")),
                "capability": torch.backends.cpu.get_cpu_capability(),
                "threads": 1,
            },
        }
        self.write(name, known)


def _name_of(device: str) -> str:
    """What a GPU is called, and ``cpu`` for any other device."""
    return torch.cuda.get_device_name() if resolve_device(device).type == "cuda" else "cpu"


def command_line(study: Study, about: str, data_dir: str, *, trials: int, seeds: int) -> None:
    """Run what is missing of a study as the command line says.

    Args:
        study: It.
        about: One line.
        data_dir: What the folder of that name has to hold.
        trials: Of each search, unless said otherwise.
        seeds: Of each arm, unless said otherwise.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--data-dir", type=Path, help=data_dir)
    parser.add_argument("--arms", nargs="+", choices=list(study.arms), default=list(study.arms))
    parser.add_argument("--trials", type=int, default=trials, help="of each search")
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--table", action="store_true", help="only print what is known")
    arguments = parser.parse_args()
    if arguments.data_dir is None and not arguments.table:
        print(f"{study.name}: nothing is trained without --data-dir ({data_dir}); what is known:\n")
    elif not arguments.table:
        study.run(
            arguments.arms,
            arguments.data_dir.absolute(),
            arguments.trials,
            arguments.seeds,
            arguments.workers,
        )
