"""The same settings under several seeds: one group run with mean and standard deviation over its members."""

from __future__ import annotations

import math
import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing.queues import Queue
from multiprocessing.synchronize import RLock
from pathlib import Path

from nearfar.config import RunConfig, config_hash
from nearfar.errors import ConfigError, NearfarError, PreemptedError
from nearfar.interruption import Interruption
from nearfar.messages import warn
from nearfar.pipelines.identity import process_tags, run_params, variant
from nearfar.pipelines.mean_std import mean_std
from nearfar.pipelines.registry import find
from nearfar.pipelines.settings import resolve_settings
from nearfar.pipelines.train import Outcome, Resume, prepare, train
from nearfar.processes import follow_parent
from nearfar.runtime import is_main_process
from nearfar.tracking import TrackedRun, experiment_name, open_store, set_aside, start_run
from nearfar.tracking.names import slug
from nearfar.training.progress import share_terminal

__all__ = ["Group", "Job", "run_jobs", "summarise", "worker_pool"]


@dataclass(frozen=True)
class Job:
    """One method, its settings and the seeds to run it with."""

    name: str
    overrides: tuple[str, ...] = ()
    config_file: Path | None = None
    seeds: int = 1


@dataclass(frozen=True)
class Group:
    """The finished runs of one job.

    Attributes:
        job: What was run.
        run_id: MLflow run of the group, ``None`` when not tracked.
        outcomes: One per seed, in order of the seeds.
    """

    job: Job
    run_id: str | None
    outcomes: tuple[Outcome, ...]

    def summary(self) -> dict[str, float]:
        """``<metric>_mean``, ``_std`` (n - 1) and ``_n`` of every metric all runs have."""
        return summarise([outcome.metrics for outcome in self.outcomes])

    def outcome(self) -> Outcome:
        """What is reported: the one run as it is, several by their summary and common folder."""
        if len(self.outcomes) == 1:
            return self.outcomes[0]
        return Outcome(self.run_id, self.summary(), str(Path(self.outcomes[0].output_dir).parent))


def summarise(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean, sample standard deviation and count per metric.

    Example:
        >>> summarise([{"test/hr": 0.0}, {"test/hr": 1.0}])["test/hr_mean"]
        0.5
    """
    summary: dict[str, float] = {}
    for name in sorted(set.intersection(*(set(row) for row in rows))):
        over = mean_std([row[name] for row in rows])
        assert over is not None
        summary |= over.metrics(name)
    return summary


def run_jobs(
    jobs: Sequence[Job],
    *,
    workers: int = 1,
    resume: Resume = "no",
    parent_run_id: str | None = None,
    quiet: bool = False,
    report: Callable[[str], None] = warn,
) -> list[Group]:
    """Run every seed of every job, several at a time, each process with one thread.

    Args:
        jobs: What to run.
        workers: Processes; 1 runs here, with a progress bar.
        resume: As of :func:`nearfar.pipelines.train.train`. Of several runs, those that had not begun are started.
        parent_run_id: MLflow run above the groups.
        quiet: No progress output.
        report: Told one line per finished run.

    Returns:
        One group per job, in order.

    Raises:
        ConfigError: If workers are asked for in a process of torchrun.
        NearfarError: The first error of any run; runs not yet begun are dropped.
    """
    quiet = quiet or not is_main_process()
    if workers > 1 and "RANK" in os.environ:
        raise ConfigError(
            f"workers: {workers} given, but torchrun has already started the processes; leave it at 1"
        )
    configs = [resolve_settings(find(job.name), job.overrides, job.config_file) for job in jobs]
    if sum(job.seeds for job in jobs) > 1 and resume == "yes":
        resume = "auto"
    parents = [
        _start_group(job, config, resume, parent_run_id) for job, config in zip(jobs, configs, strict=True)
    ]
    above = [parent.reference if parent else parent_run_id for parent in parents]
    try:
        done = _run_all(
            jobs, configs, partial(train, resume=resume, quiet=quiet), above, workers, quiet, report
        )
    except BaseException as error:
        stopped = isinstance(error, (PreemptedError, KeyboardInterrupt))
        for parent in parents:
            if parent is not None:
                parent.finish("KILLED" if stopped else "FAILED", f"a member ended early: {error}")
        raise
    groups = []
    for job, parent, outcomes in zip(jobs, parents, done, strict=True):
        group = Group(job, parent.run_id if parent else outcomes[0].run_id, tuple(outcomes))
        if parent is not None:
            parent.log(group.summary(), 0)
            parent.finish("FINISHED")
        groups.append(group)
    return groups


def _run_all(
    jobs: Sequence[Job],
    configs: Sequence[RunConfig],
    train_one: Callable[..., Outcome],
    parents: Sequence[str | None],
    workers: int,
    quiet: bool,
    report: Callable[[str], None],
) -> list[list[Outcome]]:
    tasks = [
        (index, config.seed + offset)
        for index, (job, config) in enumerate(zip(jobs, configs, strict=True))
        for offset in range(job.seeds)
    ]
    done: dict[tuple[int, int], Outcome] = {}

    def work(index: int, seed: int) -> partial[Outcome]:
        job = jobs[index]
        words = [*job.overrides, f"seed={seed}"]
        if job.seeds > 1 and configs[index].output_dir is not None:
            words.append(f"output_dir={configs[index].output_dir}/s{seed}")
        if workers > 1:
            words.append("num_threads=1")
        return partial(train_one, job.name, words, job.config_file, parent_run_id=parents[index])

    def finished(index: int, seed: int, outcome: Outcome) -> None:
        done[index, seed] = outcome
        if len(tasks) > 1 and not quiet:
            metric = configs[index].selection.metric.replace("val/", "test/")
            report(
                f"{len(done)}/{len(tasks)} {jobs[index].name} seed {seed}: "
                f"{metric} {outcome.metrics.get(metric, math.nan):.4f}, {outcome.metrics['perf/fit_seconds']:.0f} s"
            )

    if workers == 1:
        for index, seed in tasks:
            finished(index, seed, work(index, seed)())
    else:
        with (
            Interruption() as interruption,
            worker_pool(workers) as pool,
        ):  # a signal here goes to the workers as well
            futures: dict[Future[Outcome], tuple[int, int]] = {
                pool.submit(_run_in_worker, work(*task)): task for task in tasks
            }
            try:
                for future in as_completed(futures):
                    finished(*futures[future], future.result())
            except BaseException as error:
                pool.shutdown(wait=False, cancel_futures=True)
                if isinstance(error, BrokenProcessPool):
                    raise _worker_died(interruption.reason) from None
                raise
    return [[done[task] for task in tasks if task[0] == index] for index in range(len(jobs))]


_stopped: list[PreemptedError] = []  # of this worker process


def _run_in_worker(work: Callable[[], Outcome]) -> Outcome:
    # The pool hands out one task more than it has workers: the next one must not begin after the signal.
    if _stopped:
        raise _stopped[0]
    try:
        return work()
    except PreemptedError as error:
        _stopped.append(error)
        raise


def _worker_died(reason: str | None) -> NearfarError:
    if reason is not None:
        return PreemptedError(f"stopped ({reason}); the same command with --resume goes on from there")
    return NearfarError(
        "a worker process died (killed, or out of memory); --resume goes on from the last checkpoints"
    )


def worker_pool(workers: int) -> ProcessPoolExecutor:
    """Processes that end with this one and share its terminal.

    Args:
        workers: How many.
    """
    context = multiprocessing.get_context("spawn")  # fork would copy a torch that already has threads
    lines: Queue[int] = context.Queue()
    for line in range(workers):
        lines.put(line)
    return ProcessPoolExecutor(
        workers, mp_context=context, initializer=_begin_worker, initargs=(lines, context.RLock())
    )


def _begin_worker(lines: Queue[int], lock: RLock) -> None:
    follow_parent()
    share_terminal(lines, lock)


def _start_group(job: Job, config: RunConfig, resume: Resume, parent_run_id: str | None) -> TrackedRun | None:
    """The parent run of several seeds; one seed needs none."""
    if job.seeds == 1 or not config.tracking.enabled or not is_main_process():
        return None
    entry, _, task = prepare(job.name, job.overrides, job.config_file)
    digest = config_hash(config)
    name = f"{job.name}-{digest[:6]}"
    outbox = Path("outputs").absolute() / slug(task.card.name) / f"{name}.group.jsonl"
    if resume == "no":
        set_aside(outbox, warn)
        outbox.unlink(missing_ok=True)
    return start_run(
        open_store(config.tracking.uri),
        experiment=experiment_name(entry.domain, task.card.name),
        name=name,
        params={k: v for k, v in run_params(config, task).items() if k != "seed"} | {"seeds": job.seeds},
        tags={
            "nearfar.kind": "group",
            "nearfar.method": job.name,
            "nearfar.domain": entry.domain,
            "nearfar.dataset": task.card.name,
            "nearfar.dataset_digest": task.card.digest,
            "nearfar.variant": variant(entry, config),
            "nearfar.config_hash": digest,
            **process_tags(),
        },
        outbox=outbox,
        warn=warn,
        parent_run_id=parent_run_id,
        resume=resume != "no",
    )
