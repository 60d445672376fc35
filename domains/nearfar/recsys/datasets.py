"""From ``data=<name or path>`` to interactions: RecBole's packaged sets, a folder or a file of yours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nearfar.errors import DataError
from nearfar.interop.recbole import packaged_dataset
from nearfar.recsys.atomic import read_interactions, read_titles
from nearfar.recsys.interactions import Duplicates, Interactions, Ties

PACKAGED = ("ml-100k",)

# Rows, users and items of files everybody has: a truncated download is refused, not trained on.
KNOWN_COUNTS = {"ml-100k": (100_000, 943, 1_682), "amazon-beauty": (198_502, 22_363, 12_101)}


@dataclass(frozen=True)
class Dataset:
    """Interactions, where they came from, and titles of items where there are any."""

    name: str
    source: str
    interactions: Interactions
    titles: Mapping[str, str] = field(default_factory=dict)


def load_dataset(
    data: str, data_dir: Path | None = None, *, ties: Ties = "row", duplicates: Duplicates = "keep"
) -> Dataset:
    """Find and read a data set.

    Args:
        data: A name (``ml-100k`` comes with RecBole's wheel), or the path of an ``.inter`` file or of a
            folder with one.
        data_dir: Folder that holds ``<data>/<data>.inter`` or ``<data>.inter``; looked at first.
        ties: See :meth:`Interactions.from_columns`.
        duplicates: See :meth:`Interactions.from_columns`.

    Raises:
        DataError: If nothing is found, or what is found cannot be used.
        MissingDependencyError: If the name is a packaged set and RecBole is not installed.
    """
    path = _find(data, data_dir)
    interactions = read_interactions(path, ties=ties, duplicates=duplicates)
    name = path.stem
    found = (len(interactions.items), interactions.num_users, interactions.num_items)
    expected = KNOWN_COUNTS.get(name, found)
    if found != expected:
        raise DataError(
            f"{path} has {found[0]} events of {found[1]} users on {found[2]} items, {name} has {expected[0]}, "
            f"{expected[1]} and {expected[2]}: the file is truncated or another one; rename it if that is meant"
        )
    titles = path.with_suffix(".item")
    return Dataset(name, str(path), interactions, read_titles(titles) if _has_titles(titles) else {})


def _find(data: str, data_dir: Path | None) -> Path:
    base = data_dir if data_dir is not None else Path()
    tried = [base / data, base / f"{data}.inter", base / data / f"{Path(data).name}.inter"]
    for path in tried:
        if path.is_file():
            return path
    folder = base / data
    if folder.is_dir():
        files = sorted(folder.glob("*.inter"))
        if len(files) == 1:
            return files[0]
        raise DataError(f"{folder} holds {len(files)} .inter files; name the one to use: data=<path>")
    if data in PACKAGED and data_dir is None:
        return packaged_dataset(data) / f"{data}.inter"
    places = ", ".join(map(str, tried))
    raise DataError(f"no data set '{data}' (looked for {places}); known names: {', '.join(PACKAGED)}")


def _has_titles(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        header = {name.partition(":")[0] for name in file.readline().rstrip("\n").split("\t")}
    return {"item_id", "movie_title", "release_year"} <= header
