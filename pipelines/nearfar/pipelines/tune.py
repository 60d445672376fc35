"""A search for better settings of one method: who runs its trials, and the honest end.

Trials are compared on validation only, each as the mean over several seeds. What is reported at the end is
measured on test with seeds no trial has used, beside the settings one would have had without searching.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from nearfar.atomic import write_atomically
from nearfar.config import RunConfig, config_hash, decisive
from nearfar.errors import ConfigError, NearfarError
from nearfar.interruption import Interruption
from nearfar.pipelines.registry import find
from nearfar.pipelines.search import Search, known_run
from nearfar.pipelines.seeds import Group, Job, run_jobs
from nearfar.pipelines.settings import resolve_settings
from nearfar.pipelines.study_plots import draw_study
from nearfar.pipelines.train import prepare
from nearfar.pipelines.trials import Trials
from nearfar.registry import MethodEntry
from nearfar.tracking import TrackedRun, open_store
from nearfar.tracking.names import slug
from nearfar.tuning import (
    SearchSpace,
    Work,
    check_place,
    find_place,
    once,
    run_crew,
    work,
)
from nearfar.tuning.claims import last_attempts
from nearfar.tuning.space import setting

__all__ = ["TuneOutcome", "tune"]

RESULT = "nearfar.result"  # what the study keeps of the honest end
FINAL_SEEDS = 1000  # the first seed of the final runs is this much above those of the trials


@dataclass(frozen=True)
class TuneOutcome:
    """What a finished search reports.

    Attributes:
        study: Its name.
        best_value: Validation metric of the best trial, mean over its seeds.
        best_params: Settings of the best trial.
        trials: Trials by how they ended; one that was cut short and repeated, by how its last attempt did.
        run_id: MLflow run of the search.
        metrics: Test metrics of the best settings, ``<metric>_mean``, ``_std`` and ``_n``.
        default_metrics: The same of the settings without the search, under the same seeds.
        runs: MLflow ids of both groups (of the runs themselves for a single seed).
        recipe: The best settings as a YAML file.
    """

    study: str
    best_value: float
    best_params: dict[str, Any]
    trials: dict[str, int]
    run_id: str | None
    metrics: dict[str, float]
    default_metrics: dict[str, float]
    runs: list[str]
    recipe: str

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))


def tune(
    method: str,
    overrides: Sequence[str] = (),
    config_file: Path | None = None,
    *,
    trials: int = 20,
    trial_seeds: int = 3,
    seeds: int = 5,
    workers: int = 1,
    study: str | None = None,
    storage: str | None = None,
    space_file: Path | None = None,
    quiet: bool = False,
) -> TuneOutcome:
    """Search, then measure what was found; the same call goes on with a search that was interrupted.

    Args:
        method: Registered name.
        overrides: ``a.b=c`` settings of all trials; ``seed`` decides what is tried.
        config_file: YAML settings below the overrides.
        trials: Trials wanted, in all processes and machines together.
        trial_seeds: Seeds of each trial.
        seeds: Seeds of the final runs on test, none of them used by a trial; 0 ends with the search.
        workers: Processes here.
        study: Name of the study; by default made of method, data and search space.
        storage: ``postgresql://...`` for several machines; a journal file below ``mlruns/optuna`` by default.
        space_file: YAML search space instead of the method's own.
        quiet: No progress output.

    Returns:
        Best settings, and their test metrics beside those without the search.

    Raises:
        ConfigError: If a setting, the space or the storage is wrong, or the study was begun with something else.
        DataError: If the data cannot be used.
        StorageError: If the study or the tracking store cannot be used.
        PreemptedError: If a signal asked to stop; the same call goes on.
        NearfarError: If no trial came to its end, or too many failed.
    """
    entry, config, task = prepare(method, overrides, config_file)
    space = _space(entry, config, space_file, overrides)
    name = study or f"{method}.{slug(task.card.name)}.{space.digest()[:8]}"
    search = Search(
        method,
        tuple(overrides),
        config_file,
        space,
        name,
        storage,
        trials,
        trial_seeds,
        seeds,
        workers,
        quiet,
    )
    tracking_uri = open_store(config.tracking.uri).uri if config.tracking.enabled else None
    check_place(find_place(storage, name), tracking_uri, workers)
    with Interruption() as stop:
        job = search.open(config, task)
        folder = search.folder(task)
        parent = search.begin(job, config, task)
        try:
            _run_trials(job, search, stop)
            outcome = _finish(job, search, config, folder, parent, stop)
        except BaseException as error:
            if parent is not None:
                parent.finish("KILLED", f"the search ended early: {error}")
            raise
        if parent is not None:
            parent.finish("FINISHED")
        return outcome


def _space(entry: MethodEntry, config: RunConfig, file: Path | None, overrides: Sequence[str]) -> SearchSpace:
    """The method's own space, or that of a file, checked against the settings."""
    own: SearchSpace | None = entry.load("space") if file is None or entry.space is not None else None
    space = own if file is None else SearchSpace.read(file, config)
    assert space is not None
    if own is not None:
        space = replace(space, trials=_of_trials(own, entry, config))
    space.check(config)
    fixed = [word.partition("=")[0] for word in overrides]
    both = [key for key in space.ranges if key in fixed]
    if both:
        raise ConfigError(
            f"{both[0]}: given as a setting and searched as well; leave it out here, or out of the space (--space FILE)"
        )
    if config.output_dir is not None:
        raise ConfigError("output_dir: a search makes a folder for each trial below outputs/; leave it out")
    return space


def _of_trials(space: SearchSpace, entry: MethodEntry, config: RunConfig) -> dict[str, Any]:
    """Settings that trials alone have, without those the user has given another value."""
    usual = decisive(resolve_settings(entry, [setting("data", config.data)], environment={}))
    given = decisive(config)
    return {key: value for key, value in space.trials.items() if given[key] == usual[key]}


def _run_trials(job: Work, search: Search, stop: Interruption) -> None:
    if search.workers > 1 and not job.progress()[1]:
        run_crew(_worker, search, num_workers=search.workers, stop=stop, progress=job.progress)
    _worker(stop, search)  # nothing is left for this one, unless it is the only one


def _worker(stop: Interruption, search: Search) -> None:
    """Run trials of the study in this process until all are done."""
    _, config, task = prepare(search.method, search.overrides, search.config_file)
    job = search.open(config, task)
    trials = Trials(job, search, config, task)
    work(job, trials.value, stop, trials.say)


def _finish(
    job: Work,
    search: Search,
    config: RunConfig,
    folder: Path,
    parent: TrackedRun | None,
    stop: Interruption,
) -> TuneOutcome:
    """Measure the best settings and the usual ones on test, once for the whole study; show the search."""
    study = job.study
    states = [trial.state.name for trial in last_attempts(study.get_trials(deepcopy=False))]
    if "COMPLETE" not in states:
        raise NearfarError(f"study '{search.study}': no trial came to its end; see their reasons in MLflow")
    best = study.best_trial
    words = [setting(key, value) for key, value in best.params.items()]

    def measure() -> dict[str, Any]:
        if search.seeds == 0:
            return {"metrics": {}, "default_metrics": {}, "runs": []}
        first = f"seed={FINAL_SEEDS + config.seed}"
        jobs = [
            Job(search.method, (*search.overrides, *extra, first), search.config_file, search.seeds)
            for extra in (words, ())
        ]
        entry = find(search.method)
        hashes = [config_hash(resolve_settings(entry, job.overrides, job.config_file)) for job in jobs]
        if hashes[0] == hashes[1]:  # nothing better was found than what one has anyway
            jobs = jobs[:1]
        above = known_run(study).get("reference")
        groups = run_jobs(
            jobs, workers=search.workers, resume="auto", parent_run_id=above, quiet=search.quiet
        )
        tuned, usual = groups[0], groups[-1]
        return {
            "metrics": _quality(tuned),
            "default_metrics": _quality(usual),
            "runs": [group.run_id for group in groups if group.run_id is not None],
        }

    found = once(job.store, study, RESULT, f"trial {best.number}, {search.seeds} seeds", measure, stop)
    recipe = folder / "best.yaml"
    recipe.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(recipe, yaml.safe_dump(_nested(best.params), sort_keys=False))
    if parent is not None:
        parent.artifact(recipe)
        for path in draw_study(study, folder):
            parent.artifact(path, "plots")
        parent.log({config.selection.metric: float(best.value), **found["metrics"]}, 0)
    return TuneOutcome(
        study=search.study,
        best_value=float(best.value),
        best_params=dict(best.params),
        trials={state.lower(): states.count(state) for state in sorted(set(states))},
        run_id=parent.run_id if parent is not None else known_run(study).get("run_id"),
        recipe=str(recipe),
        **found,
    )


def _quality(group: Group) -> dict[str, float]:
    return {name: value for name, value in group.summary().items() if name.startswith("test/")}


def _nested(params: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as a settings file has them."""
    nested: dict[str, Any] = {}
    for key, value in params.items():
        *path, last = key.split(".")
        place = nested
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    return nested
