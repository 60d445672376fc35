"""``python -m nearfar.pipelines.objectives``: every objective in every domain, tuned alike, over several seeds."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from nearfar.messages import warn
from nearfar.optional import installed
from nearfar.pipelines.objectives import recipes
from nearfar.pipelines.objectives.arenas import ARENAS, Arena
from nearfar.pipelines.objectives.comparison import ArenaResult, compare
from nearfar.pipelines.objectives.search import search
from nearfar.pipelines.objectives.tables import markdown
from nearfar.pipelines.study_cli import (
    add_output_options,
    check_counts,
    check_known,
    check_place,
    exit_code,
    write_results,
)
from nearfar.pipelines.study_record import record_study, study_store
from nearfar.selectable import known_objectives
from nearfar.tracking import Store


def main(arguments: Sequence[str] | None = None) -> int:
    """Command-line entry.

    Args:
        arguments: Words; those of the process by default.

    Returns:
        0, or the exit code of the error.
    """
    parser = argparse.ArgumentParser(prog="python -m nearfar.pipelines.objectives", description=__doc__)
    parser.add_argument("task", choices=("compare", "tune"), help="replay the recipes, or search them first")
    parser.add_argument("--domains", nargs="+", default=list(ARENAS), help=f"of {', '.join(ARENAS)}")
    parser.add_argument("--objectives", nargs="+", help="names; all by default")
    parser.add_argument("--seeds", type=int, default=3, help="compare: runs of every objective")
    parser.add_argument("--trials", type=int, default=6, help="tune: trials of every objective")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--recipes", type=Path, default=recipes.FOLDER, help="folder of the recipes")
    parser.add_argument("--plot", type=Path, help="compare: file for the picture")
    add_output_options(parser)
    return exit_code(_run, parser, arguments)


def _run(given: argparse.Namespace) -> None:
    arenas = _chosen(given)
    if given.task == "tune":
        search(
            arenas,
            trials=given.trials,
            workers=given.workers,
            rows=given.objectives,
            folder=given.recipes,
            report=(lambda line: None) if given.quiet else warn,  # noqa: ARG005
        )
        return
    searched = [arena for arena in arenas if recipes.read(arena.domain, given.recipes)]
    for arena in arenas:
        if arena not in searched:
            warn(f"{arena.domain} is skipped: nothing was searched there; make tune-objectives does")
    store = None if given.no_tracking or not searched else study_store()
    results = compare(
        searched,
        seeds=given.seeds,
        workers=given.workers,
        rows=given.objectives,
        folder=given.recipes,
        quiet=given.quiet,
    )
    report = markdown(results)
    sys.stdout.write(report)
    picture = _picture(results)
    write_results(given.out, {"domains": [result.to_dict() for result in results]})
    if given.plot is not None and picture is not None:
        given.plot.write_bytes(picture)
    if store is not None:
        record(store, results, report, picture)


def _chosen(given: argparse.Namespace) -> list[Arena]:
    """Whatever can be refused is refused before anything is trained."""
    check_known("domains", given.domains, ARENAS)
    check_known("objectives", given.objectives or [], known_objectives())
    check_counts(seeds=given.seeds, trials=given.trials, workers=given.workers)
    check_place(given.out)
    check_place(given.plot)
    return [ARENAS[name] for name in dict.fromkeys(given.domains)]


def _picture(results: Sequence[ArenaResult]) -> bytes | None:
    if not installed("matplotlib"):
        return None
    from nearfar.pipelines.objectives.plot import draw

    return draw(results)


def record(store: Store, results: Sequence[ArenaResult], report: str, picture: bytes | None) -> str | None:
    """One run with table, picture and all values.

    Args:
        store: Where.
        results: Of every domain.
        report: The table.
        picture: A PNG, where there is one.

    Returns:
        Id of the run, which is in the experiment ``nearfar/objectives/all``.

    Raises:
        StorageError: If the run cannot be created.
    """
    seeds = results[0].seeds
    return record_study(
        store,
        "objectives",
        f"{len(results)}-domains-{len(seeds)}-seeds",
        domain="all",
        data=", ".join(result.domain for result in results),
        digest="",
        params={
            "seeds": ", ".join(map(str, seeds)),
            **{f"{r.domain}.metric": r.metric for r in results},
            **{f"{r.domain}.own": r.own for r in results},
        },
        report=report,
        results={"domains": [result.to_dict() for result in results]},
        bars=picture,
        by_seed=[
            {f"test/{r.domain}/{row}": values[place] for r in results for row, values in r.values.items()}
            for place in range(len(seeds))
        ],
        over_seeds={
            key: value
            for r in results
            for row in r.values
            for key, value in (
                (f"test/{r.domain}/{row}_mean", r.mean(row)),
                (f"test/{r.domain}/{row}_std", r.std(row)),
            )
        },
    )


if __name__ == "__main__":
    sys.exit(main())
