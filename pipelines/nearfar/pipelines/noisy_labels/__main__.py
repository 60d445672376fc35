"""``python -m nearfar.pipelines.noisy_labels``: train representations, spoil labels, compare classifiers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from nearfar.errors import DataError, MissingDependencyError
from nearfar.messages import warn
from nearfar.pipelines.noisy_labels.baselines import available
from nearfar.pipelines.noisy_labels.experiment import DomainResult, Setting, run_domain
from nearfar.pipelines.noisy_labels.recording import record
from nearfar.pipelines.noisy_labels.representations import SOURCES, Representations, represent
from nearfar.pipelines.noisy_labels.tables import markdown
from nearfar.pipelines.study_cli import add_output_options, check_known, check_place, exit_code, write_results
from nearfar.pipelines.study_record import study_store
from nearfar.tracking import Store
from nearfar.training.progress import Progress


def compare(
    data: Sequence[Representations],
    setting: Setting,
    names: Sequence[str] | None = None,
    *,
    store: Store | None = None,
    quiet: bool = False,
) -> list[DomainResult]:
    """All baselines on all domains, with progress, each domain recorded as soon as it is done.

    Args:
        data: Of each domain.
        setting: What is done to labels.
        names: Baselines; all by default.
        store: Where to record; nowhere by default.
        quiet: No progress output.

    Raises:
        ConfigError: If a baseline is unknown.
        StorageError: If a run cannot be created.
    """
    results = []
    total = len(available(names)[0]) * 2 * setting.seeds
    for one in data:
        with Progress(total, f"noisy labels, {one.domain}", quiet=quiet, line_seconds=10) as progress:
            results.append(run_domain(one, setting, names, advance=progress.advance))
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
    parser = argparse.ArgumentParser(prog="python -m nearfar.pipelines.noisy_labels", description=__doc__)
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=Path(),
        help="folder of the data; MovieLens needs none, others are skipped",
    )
    parser.add_argument("--domains", nargs="+", default=list(SOURCES), help=f"of {', '.join(SOURCES)}")
    parser.add_argument("--methods", nargs="+", help="of the classifiers; all by default")
    parser.add_argument("--seeds", type=int, default=5, help="of subset, wrong labels and classifier")
    parser.add_argument("--noise", type=float, default=0.4, help="share of wrong labels")
    parser.add_argument("--ratio", type=float, default=10.0, help="of the largest class to the smallest")
    parser.add_argument("--representation-seed", type=int, default=0, help="of the training without labels")
    parser.add_argument(
        "--work-dir",
        type=Path,
        default=Path("outputs/noisy-labels"),
        help="where trainings are kept, and found again",
    )
    add_output_options(parser)
    return exit_code(_run, parser, arguments)


def _run(given: argparse.Namespace) -> None:
    setting = Setting(given.noise, given.ratio, given.seeds)
    # Whatever can be refused is refused before anything is trained.
    available(given.methods)
    check_known("domains", given.domains, SOURCES)
    check_place(given.out)
    store = None if given.no_tracking else study_store()
    data, skipped = _collect(given)
    results = compare(data, setting, given.methods, store=store, quiet=given.quiet)
    sys.stdout.write(markdown(results, skipped))
    write_results(given.out, {"domains": [result.to_dict() for result in results], "skipped": skipped})


def _collect(given: argparse.Namespace) -> tuple[list[Representations], dict[str, str]]:
    """Representations, and why other domains have none."""
    data, skipped = [], {}
    for domain in dict.fromkeys(given.domains):
        try:
            seed = given.representation_seed
            data.append(represent(domain, given.data_dir, given.work_dir, seed=seed, quiet=given.quiet))
        except (DataError, MissingDependencyError) as error:
            skipped[domain] = str(error)
            warn(f"{domain} is skipped: {error}")
    return data, skipped


if __name__ == "__main__":
    sys.exit(main())
