"""One search: what varies, what stays, and where it is kept. A process that works for it is handed this."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearfar.config import RunConfig, config_hash, decisive
from nearfar.messages import warn
from nearfar.pipelines.identity import process_tags
from nearfar.tracking import TrackedRun, experiment_name, open_store, start_run
from nearfar.tracking.names import slug
from nearfar.training import Task
from nearfar.tuning import SearchSpace, StudyPlan, Work, open_storage, pruner

__all__ = ["Search", "known_run"]

_RUN = "nearfar.run"


@dataclass(frozen=True)
class Search:
    """What is searched and how; what a worker process is handed.

    Attributes:
        method: Registered name.
        overrides: Settings of all trials, as ``key=value``.
        config_file: YAML settings below them.
        space: What varies.
        study: Name of the study.
        storage: Where it is kept; ``None`` for a journal below ``mlruns/optuna``.
        trials: Trials wanted.
        trial_seeds: Seeds of each trial.
        seeds: Seeds of the final runs; 0 for none.
        workers: Processes.
        quiet: No progress output.
    """

    method: str
    overrides: tuple[str, ...]
    config_file: Path | None
    space: SearchSpace
    study: str
    storage: str | None
    trials: int
    trial_seeds: int
    seeds: int
    workers: int
    quiet: bool

    def folder(self, task: Task) -> Path:
        """Where its files are.

        Args:
            task: What is learnt.
        """
        return Path("outputs").absolute() / slug(task.card.name) / f"tune-{slug(self.study)}"

    def tags(self, task: Task, kind: str) -> dict[str, str]:
        """Of a run that belongs to it.

        Args:
            task: What is learnt.
            kind: ``hpo`` for that above all trials, or ``trial``.
        """
        return {
            "nearfar.kind": kind,
            "nearfar.method": self.method,
            "nearfar.domain": task.domain,
            "nearfar.dataset": task.card.name,
            "nearfar.dataset_digest": task.card.digest,
            "nearfar.study": self.study,
        }

    def open(self, config: RunConfig, task: Task) -> Work:
        """The study, created or continued.

        Args:
            config: Settings all trials have.
            task: What is learnt.

        Raises:
            ConfigError: If it was begun with other settings, data or space.
            StorageError: If its storage cannot be used.
        """
        store = open_storage(self.storage, self.study)
        plan = StudyPlan(
            method=self.method,
            space=self.space.describe(),
            metric=config.selection.metric,
            mode=config.selection.mode,
            settings={key: value for key, value in decisive(config).items() if key not in self.space.ranges},
            config_hash=config_hash(config),
            data_digest=task.card.digest,
            seed=config.seed,
            trial_seeds=tuple(range(config.seed, config.seed + self.trial_seeds)),
        )
        with store.readable_errors(), store.lock():
            study = store.create_study(
                direction=plan.direction,
                metric=plan.metric,
                pruner=pruner(self.trials, config.epochs, self.trial_seeds),
            )
            plan.register(study)
            if not study.get_trials(deepcopy=False):  # the first are the settings one has without searching
                study.enqueue_trial(self.space.defaults(config))
        return Work(store, study, self.space, self.trials, config.seed)

    def begin(self, job: Work, config: RunConfig, task: Task) -> TrackedRun | None:
        """The MLflow run above all trials; held by the machine that began the study.

        Args:
            job: The study.
            config: Settings all trials have.
            task: What is learnt.
        """
        if not config.tracking.enabled:
            return None
        outbox = self.folder(task) / "study.jsonl"
        with job.store.lock():
            known = known_run(job.study)
            if known and not outbox.exists():
                return None
            run = start_run(
                open_store(config.tracking.uri),
                experiment=experiment_name(task.domain, task.card.name),
                name=f"hpo-{self.method}-{self.study}",
                params={
                    "trials": self.trials,
                    "trial_seeds": self.trial_seeds,
                    **{f"space.{key}": json.dumps(value) for key, value in self.space.describe().items()},
                    **{key: value for key, value in decisive(config).items() if key not in self.space.ranges},
                },
                tags={
                    **self.tags(task, "hpo"),
                    "nearfar.storage": job.store.place.shown(),
                    **process_tags(),
                },
                outbox=outbox,
                warn=warn,
                resume=bool(known),
            )
            job.study.set_user_attr(_RUN, {"reference": run.reference, "run_id": run.run_id})
        return run


def known_run(study: Any) -> dict[str, str]:
    """``reference`` and ``run_id`` of the MLflow run above all trials; empty where there is none.

    Args:
        study: Optuna's study.
    """
    kept: dict[str, str] = study.user_attrs.get(_RUN) or {}
    return kept
