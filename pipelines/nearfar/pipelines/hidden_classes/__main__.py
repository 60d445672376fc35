"""``python -m nearfar.pipelines.hidden_classes``: train on merged classes, look for the ones inside them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from nearfar.errors import ConfigError, DataError, MissingDependencyError
from nearfar.messages import warn
from nearfar.optional import installed, missing
from nearfar.pipelines.hidden_classes.experiment import DomainResult, run_source
from nearfar.pipelines.hidden_classes.methods import METHODS, chosen
from nearfar.pipelines.hidden_classes.recording import record
from nearfar.pipelines.hidden_classes.sources import SOURCES, Pool
from nearfar.pipelines.hidden_classes.tables import markdown
from nearfar.pipelines.study_cli import (
    add_output_options,
    check_counts,
    check_known,
    check_place,
    exit_code,
    write_results,
)
from nearfar.pipelines.study_record import study_store
from nearfar.tracking import Store
from nearfar.training.progress import Progress

FIRST_SEED = 1000
"""By default; settings were chosen with seeds below."""


def compare(
    pools: Sequence[Pool],
    seeds: Sequence[int],
    names: Sequence[str] | None = None,
    *,
    store: Store | None = None,
    quiet: bool = False,
) -> list[DomainResult]:
    """All methods on all sources, with progress, each source recorded as soon as it is done.

    Args:
        pools: Of each source.
        seeds: Of rows, weights and training.
        names: Methods; all by default.
        store: Where to record; nowhere by default.
        quiet: No progress output.

    Raises:
        ConfigError: If a method is unknown or there is no seed.
        DataError: If a coarse class has no rows.
        StorageError: If a run cannot be created.
    """
    results = []
    total = len(chosen(names)) * len(seeds)
    for pool in pools:
        with Progress(total, f"hidden classes, {pool.domain}", quiet=quiet, line_seconds=10) as progress:
            results.append(run_source(pool, seeds, names, advance=progress.advance))
        if store is not None:
            record(store, results[-1])
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Command-line entry.

    Args:
        arguments: Words; those of the process by default.

    Returns:
        0, or the exit code of the error.
    """
    parser = argparse.ArgumentParser(prog="python -m nearfar.pipelines.hidden_classes", description=__doc__)
    parser.add_argument(
        "--data-dir", type=Path, default=Path(), help="folder of the data; what is not in it is skipped"
    )
    parser.add_argument("--domains", nargs="+", default=list(SOURCES), help=f"of {', '.join(SOURCES)}")
    parser.add_argument("--methods", nargs="+", help=f"of {', '.join(METHODS)}; all by default")
    parser.add_argument("--seeds", type=int, default=5, help="how many, of rows, weights and training")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED, help="others follow it one by one")
    add_output_options(parser)
    return exit_code(_run, parser, arguments)


def _run(given: argparse.Namespace) -> None:
    _refuse(given)
    store = None if given.no_tracking else study_store()
    pools, skipped = _collect(given)
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    results = compare(pools, seeds, given.methods, store=store, quiet=given.quiet)
    sys.stdout.write(markdown(results, skipped))
    write_results(given.out, {"domains": [result.to_dict() for result in results], "skipped": skipped})


def _refuse(given: argparse.Namespace) -> None:
    """Whatever can be refused is refused before anything is trained."""
    chosen(given.methods)
    check_known("domains", given.domains, SOURCES)
    check_counts(seeds=given.seeds)
    if given.first_seed < 0:
        raise ConfigError(f"first-seed: at least 0 expected, got {given.first_seed}")
    check_place(given.out)
    if not installed("sklearn"):
        raise missing("sklearn", "measuring hidden classes")


def _collect(given: argparse.Namespace) -> tuple[list[Pool], dict[str, str]]:
    """Rows of sources, and why other sources have none."""
    pools, skipped = [], {}
    for domain in dict.fromkeys(given.domains):
        try:
            pools.append(SOURCES[domain](given.data_dir))
        except (DataError, MissingDependencyError) as error:
            skipped[domain] = str(error)
            warn(f"{domain} is skipped: {error}")
    return pools, skipped


if __name__ == "__main__":
    sys.exit(main())
