"""The search behind the recipes: as many trials for every objective, the settings it has anyway first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import as_completed
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from nearfar.atomic import write_atomically
from nearfar.pipelines.objectives import recipes
from nearfar.pipelines.objectives.arenas import QUICK, Arena
from nearfar.pipelines.seeds import worker_pool
from nearfar.pipelines.tune import tune

DIGITS = 4  # of what is written down


def search(
    arenas: Sequence[Arena],
    *,
    trials: int,
    workers: int,
    rows: Sequence[str] | None = None,
    folder: Path = recipes.FOLDER,
    report: Callable[[str], None] = print,
) -> None:
    """Search what has no recipe yet; an interrupted search goes on where it was.

    Args:
        arenas: Domains.
        trials: Of every objective.
        workers: Processes, each with one thread.
        rows: Objectives; all by default.
        folder: Of the recipes.
        report: Told one line for every objective.

    Raises:
        NearfarError: The first error of any search.
    """
    found = {arena.domain: recipes.read(arena.domain, folder) for arena in arenas}
    wanted = [
        (arena, row)
        for arena in arenas
        for row in arena.rows
        if row not in found[arena.domain] and (rows is None or row in rows)
    ]
    with worker_pool(workers) as pool:
        futures = {pool.submit(partial(searched, arena, row, trials)): (arena, row) for arena, row in wanted}
        try:
            for number, future in enumerate(as_completed(futures), 1):
                arena, row = futures[future]
                best, value = future.result()
                known = found[arena.domain]
                known[row] = best
                recipes.write(
                    arena.domain, {name: known[name] for name in arena.rows if name in known}, folder
                )
                report(f"{number}/{len(wanted)} {arena.domain} {row}: {value:.4f} with {best}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def searched(arena: Arena, row: str, trials: int) -> tuple[dict[str, Any], float]:
    """The best settings of one objective in one domain, and their validation.

    Args:
        arena: The domain.
        row: An objective, or ``own``.
        trials: How many.
    """
    name = f"objectives.{arena.domain}.{row}"
    space = Path("outputs").absolute() / "objectives" / f"{name}.space.yaml"
    space.parent.mkdir(parents=True, exist_ok=True)
    described = {key: one.describe() for key, one in arena.space(row).items()}
    write_atomically(space, yaml.safe_dump(described))
    outcome = tune(
        arena.method,
        [*arena.settings(row), *arena.trials, *QUICK],
        trials=trials,
        trial_seeds=1,
        seeds=0,
        study=name,
        space_file=space,
        quiet=True,
    )
    return _rounded(outcome.best_params), outcome.best_value


def _rounded(params: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
        for key, value in params.items()
    }
