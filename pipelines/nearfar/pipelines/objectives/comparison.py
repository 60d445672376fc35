"""What every objective comes to in every domain, over several seeds, beside the method's own loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from nearfar.errors import ConfigError
from nearfar.messages import warn
from nearfar.pipelines.mean_std import MeanStd, mean_std
from nearfar.pipelines.objectives import recipes
from nearfar.pipelines.objectives.arenas import OWN, QUICK, UNTRAINED, Arena
from nearfar.pipelines.seeds import Job, run_jobs

FIRST_SEED = 1000
"""Searches have used seeds below."""


@dataclass(frozen=True)
class ArenaResult:
    """One domain.

    Attributes:
        domain: Its name.
        title: What is measured.
        own: What its own loss is called.
        metric: Reported.
        seeds: Of the runs.
        values: By row, one for every seed.
        seconds: Mean time of a run's training, by row.
    """

    domain: str
    title: str
    own: str
    metric: str
    seeds: tuple[int, ...]
    values: Mapping[str, tuple[float, ...]]
    seconds: Mapping[str, float] = field(default_factory=dict)

    def over(self, row: str) -> MeanStd:
        """What its seeds come to."""
        found = mean_std(self.values[row])
        assert found is not None
        return found

    def mean(self, row: str) -> float:
        """Over seeds."""
        return self.over(row).mean

    def std(self, row: str) -> float:
        """Sample deviation over seeds; 0 for one."""
        return self.over(row).std

    def rank(self, row: str) -> float:
        """Place by mean among the objectives and the own loss, 1 the best; equals share theirs."""
        mine = self.mean(row)
        others = [self.mean(other) for other in self.values if other not in (row, UNTRAINED)]
        return 1 + sum(other > mine for other in others) + sum(other == mine for other in others) / 2

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold."""
        return asdict(self)


def compare(
    arenas: Sequence[Arena],
    *,
    seeds: int,
    workers: int,
    rows: Sequence[str] | None = None,
    folder: Path = recipes.FOLDER,
    quiet: bool = False,
    report: Callable[[str], None] = warn,
) -> list[ArenaResult]:
    """Train all of them with their recipes.

    Args:
        arenas: Domains.
        seeds: Runs of each, from ``FIRST_SEED`` on.
        workers: Processes, each with one thread.
        rows: Objectives; all by default. The own loss and no training are always among them.
        folder: Of the recipes.
        quiet: No progress output.
        report: Told one line for every run; standard error by default.

    Raises:
        ConfigError: If an objective has no recipe.
        NearfarError: The first error of any run.
    """
    if not arenas:
        raise ConfigError("domains: at least one expected, got none")
    jobs: dict[tuple[str, str], Job] = {}
    for arena in arenas:
        found = recipes.read(arena.domain, folder)
        for row in (UNTRAINED, *arena.rows):
            if rows is not None and row not in (OWN, UNTRAINED, *rows):
                continue
            if row not in found and row != UNTRAINED:
                raise ConfigError(
                    f"objectives: nothing was searched for {row} in {arena.domain}; make tune-objectives does"
                )
            tuned = recipes.words(found.get(row, {}))
            place = f"output_dir=outputs/objectives/{arena.domain}/{row}"
            words = (*arena.settings(row), *tuned, *QUICK, f"seed={FIRST_SEED}", place)
            jobs[arena.domain, row] = Job(arena.method, words, None, seeds)
    groups = run_jobs(list(jobs.values()), workers=workers, quiet=quiet, report=report)
    outcomes = {key: group.outcomes for key, group in zip(jobs, groups, strict=True)}
    return [_result(arena, seeds, outcomes) for arena in arenas]


def _result(arena: Arena, seeds: int, outcomes: Mapping[tuple[str, str], Sequence[Any]]) -> ArenaResult:
    mine = {row: found for (domain, row), found in outcomes.items() if domain == arena.domain}
    return ArenaResult(
        arena.domain,
        arena.title,
        arena.own,
        arena.metric,
        tuple(range(FIRST_SEED, FIRST_SEED + seeds)),
        {row: tuple(one.metrics[arena.metric] for one in found) for row, found in mine.items()},
        {row: fmean(one.metrics["perf/fit_seconds"] for one in found) for row, found in mine.items()},
    )
