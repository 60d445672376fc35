"""A trial of a search: training under some seeds, watched by the study, its value the mean of their validation."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from nearfar.config import RunConfig
from nearfar.messages import warn
from nearfar.pipelines.identity import process_tags
from nearfar.pipelines.search import Search, known_run
from nearfar.pipelines.train import train
from nearfar.tracking import TrackedRun, experiment_name, open_store, start_run
from nearfar.training import Task
from nearfar.tuning import Attempt, Work
from nearfar.tuning.space import setting

__all__ = ["Trials"]


@dataclass(frozen=True)
class Trials:
    """What a trial does, and what is said of it.

    Attributes:
        job: The study.
        search: What is searched.
        config: Settings all trials have.
        task: What is learnt.
    """

    job: Work
    search: Search
    config: RunConfig
    task: Task

    def value(self, attempt: Attempt) -> float:
        """Mean over the seeds of the best validation.

        Args:
            attempt: The trial's settings, and who is told how it stands.

        Raises:
            DivergedError: If the loss of a seed is no longer finite.
            PrunedError: If the study gives it up.
            PreemptedError: If a signal asked to stop.
        """
        metric = self.config.selection.metric
        folder = self.search.folder(self.task) / f"trial-{attempt.ordinal}"
        run = self._begin(attempt, folder)
        bests: list[float] = []
        try:
            for index in range(self.search.trial_seeds):
                seed = self.config.seed + index
                words = [
                    *(setting(key, value) for key, value in self.search.space.trials.items()),
                    *self.search.overrides,
                    *attempt.words,
                    f"seed={seed}",
                    f"output_dir={folder}/s{seed}",
                ]
                if self.search.workers > 1:
                    words.append("num_threads=1")
                outcome = train(
                    self.search.method,
                    words,
                    self.search.config_file,
                    resume="auto",
                    parent_run_id=run.reference if run is not None else None,
                    quiet=self.search.quiet or self.search.workers > 1,
                    test=False,
                    on_validation=self._observer(attempt, index, bests),
                )
                bests.append(outcome.metrics[metric])
        except BaseException as error:
            if run is not None:
                run.tag({"nearfar.trial_state": type(error).__name__})
                run.finish("KILLED", f"{type(error).__name__}: {error}")
            raise
        value = fmean(bests)
        if run is not None:
            run.log({metric: value}, 0)
            run.tag({"nearfar.trial_state": "COMPLETE"})
            run.finish("FINISHED")
        for checkpoints in folder.glob("s*/checkpoints"):  # made again from settings and seed if ever needed
            shutil.rmtree(checkpoints, ignore_errors=True)
        return value

    def _begin(self, attempt: Attempt, folder: Path) -> TrackedRun | None:
        if not self.config.tracking.enabled:
            return None
        above = known_run(self.job.study).get("reference")
        run = start_run(
            open_store(self.config.tracking.uri),
            experiment=experiment_name(self.task.domain, self.task.card.name),
            name=f"trial-{attempt.number}",
            params=dict(word.split("=", 1) for word in attempt.words),
            tags={
                **self.search.tags(self.task, "trial"),
                "nearfar.trial": str(attempt.number),
                **process_tags(),
            },
            outbox=folder / f"trial-{attempt.number}.jsonl",
            warn=warn,
            parent_run_id=above,
            system_metrics=False,
        )
        attempt.note("mlflow_run_id", run.run_id)
        return run

    def _observer(
        self, attempt: Attempt, index: int, bests: Sequence[float]
    ) -> Callable[[Mapping[str, float], int], None]:
        """Tells the study how the trial stands: seeds that are done, and the best of the current one."""
        better = max if self.config.selection.mode == "max" else min
        seen: list[float] = []

        def observe(metrics: Mapping[str, float], epoch: int) -> None:
            seen.append(metrics[self.config.selection.metric])
            attempt.report(fmean([*bests, better(seen)]), index * self.config.epochs + epoch)

        return observe

    def say(self, attempt: Attempt, state: str, value: float | None, reason: str | None) -> None:
        """One line a trial.

        Args:
            attempt: The trial.
            state: How it ended.
            value: Its value, if it came to its end.
            reason: Why it did not, if there is more to say than that others were better.
        """
        if self.search.quiet:
            return
        told = (
            f"{self.config.selection.metric} {value:.4f}"
            if value is not None
            else (reason or "behind the others")
        )
        place = f"trial {attempt.ordinal + 1}/{self.search.trials}"
        warn(f"{place} {state.lower()}: {told} ({', '.join(attempt.words)})")
