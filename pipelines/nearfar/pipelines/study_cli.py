"""What the command lines of experiments have in common: options, refusals before training, exit codes."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from nearfar.config import suggest
from nearfar.errors import ConfigError, NearfarError, StorageError
from nearfar.pipelines.publication import write_text


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """``--out``, ``--no-tracking`` and ``--quiet``.

    Args:
        parser: Of the experiment.
    """
    parser.add_argument("--out", type=Path, help="file for the results as JSON")
    parser.add_argument("--no-tracking", action="store_true", help="record nothing in MLflow")
    parser.add_argument("--quiet", action="store_true", help="no progress output")


def exit_code(
    run: Callable[[argparse.Namespace], None],
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
) -> int:
    """Run an experiment; 0, or the code of its error, which is told on standard error.

    Args:
        run: The experiment.
        parser: Of its options.
        arguments: Words; those of the process by default.
    """
    try:
        run(parser.parse_args(arguments))
    except NearfarError as error:
        sys.stderr.write(f"nearfar: error: {error}\n")
        return error.exit_code
    return 0


def check_known(field: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Refuse names nobody knows.

    Args:
        field: The option.
        names: Given.
        known: What there is.

    Raises:
        ConfigError: If one is unknown; names the nearest.
    """
    known = list(known)
    for name in names:
        if name not in known:
            otherwise = f"choose from {', '.join(known)}"
            raise ConfigError(f"{field}: {name!r} is unknown; {suggest(name, known, otherwise)}")


def check_counts(**counts: int) -> None:
    """Refuse counts below 1.

    Args:
        **counts: By option.

    Raises:
        ConfigError: If one is.
    """
    for field, count in counts.items():
        if count < 1:
            raise ConfigError(f"{field}: at least 1 expected, got {count}")


def check_place(path: Path | None) -> None:
    """Refuse a file whose folder is missing.

    Args:
        path: Where results are to go; ``None`` for nowhere.

    Raises:
        StorageError: If there is no such folder.
    """
    if path is not None and not path.absolute().parent.is_dir():
        raise StorageError(f"{path} cannot be written: there is no folder {path.absolute().parent}")


def write_results(path: Path | None, content: Any) -> None:
    """Results as JSON.

    Args:
        path: Where; ``None`` for nowhere.
        content: What JSON can hold.
    """
    if path is not None:
        write_text(path, json.dumps(content, indent=2) + "\n")
