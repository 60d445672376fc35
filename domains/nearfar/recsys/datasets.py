"""From ``data=<name or path>`` to interactions: RecBole's packaged sets, a folder or a file of yours."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from nearfar.errors import ConfigError, DataError
from nearfar.interop.recbole import packaged_dataset
from nearfar.recsys.atomic import read_interactions, read_titles
from nearfar.recsys.config import ColumnsConfig
from nearfar.recsys.interactions import Duplicates, Interactions, Ties
from nearfar.recsys.sequences_file import read_sequences
from nearfar.recsys.tables import read_csv, read_parquet

PACKAGED = ("ml-100k",)
# In the order of preference where a name or a folder leaves it open.
SUFFIXES = (".inter", ".txt", ".parquet", ".csv", ".tsv")


@dataclass(frozen=True)
class KnownFile:
    """What is in a file everybody has: a truncated download is refused, not trained on.

    Attributes:
        events: Rows.
        users: Distinct users.
        items: Distinct items.
        sha256: First digits of the digest of the published file, where there is one.
    """

    events: int
    users: int
    items: int
    sha256: str | None = None


KNOWN_FILES = {
    "ml-100k.inter": KnownFile(100_000, 943, 1_682),
    "amazon-beauty.inter": KnownFile(198_502, 22_363, 12_101),
    "Beauty.txt": KnownFile(198_502, 22_363, 12_101, "226cce9c3105299c"),
    "Sports_and_Outdoors.txt": KnownFile(296_337, 35_598, 18_357, "2a095e0648872beb"),
    "Toys_and_Games.txt": KnownFile(167_597, 19_412, 11_924, "176c680c688d4975"),
    # A copy that lies in the repositories of other methods is cut off after 30,250 users.
    "Yelp.txt": KnownFile(316_354, 30_431, 20_033, "724b219106b81dd2"),
}


@dataclass(frozen=True)
class Dataset:
    """Interactions, where they came from, and titles of items where there are any."""

    name: str
    source: str
    interactions: Interactions
    titles: Mapping[str, str] = field(default_factory=dict)


def load_dataset(
    data: str,
    data_dir: str | Path | None = None,
    *,
    columns: ColumnsConfig | None = None,
    ties: Ties = "row",
    duplicates: Duplicates = "keep",
) -> Dataset:
    """Find and read a data set.

    Args:
        data: A name (``ml-100k`` comes with RecBole's wheel), or the path of a file or of a folder with one. The
            ending says what is in it: ``.inter`` (RecBole's atomic file), ``.txt`` (one line a user: its id and its
            items), ``.parquet``, ``.csv`` or ``.tsv``.
        data_dir: Folder to look in first, for the file or for a folder of the same name with the file.
        columns: Names of the columns, where there are any; ``user_id``, ``item_id`` and ``timestamp`` by default.
        ties: See :meth:`Interactions.from_columns`.
        duplicates: See :meth:`Interactions.from_columns`.

    Raises:
        DataError: If nothing is found, or what is found cannot be used.
        ConfigError: If columns are named for a file without any.
        MissingDependencyError: If RecBole is needed for a packaged set, or pyarrow for Parquet, and is not
            installed.
    """
    path, notes = _find(data, None if data_dir is None else Path(data_dir)), tuple[str, ...]()
    known = KNOWN_FILES.get(path.name)
    # A known file is counted as it is, before anything repeated is left out.
    interactions = _read(path, columns, ties, "keep" if known else duplicates)
    if known is not None:
        notes = _check(path, interactions, known)
        if duplicates != "keep":
            interactions = _read(path, columns, ties, duplicates)
    titles = path.with_suffix(".item")
    return Dataset(
        path.stem,
        str(path),
        replace(interactions, warnings=(*notes, *interactions.warnings)),
        read_titles(titles) if _has_titles(titles) else {},
    )


def _read(path: Path, columns: ColumnsConfig | None, ties: Ties, duplicates: Duplicates) -> Interactions:
    if path.suffix == ".txt":
        if columns is not None and columns != ColumnsConfig():
            raise ConfigError(f"columns: {path} has lines of items and no columns to name; leave columns out")
        return read_sequences(path, duplicates=duplicates)
    readers = {".inter": read_interactions, ".parquet": read_parquet, ".csv": read_csv, ".tsv": read_csv}
    if path.suffix not in readers:
        raise DataError(f"{path}: files that end in {', '.join(SUFFIXES)} are read; convert it or rename it")
    named = columns or ColumnsConfig()
    return readers[path.suffix](
        path, user=named.user, item=named.item, time=named.time, ties=ties, duplicates=duplicates
    )


def _check(path: Path, found: Interactions, known: KnownFile) -> tuple[str, ...]:
    """Nothing, or that the file differs from the published one in no way that counts show."""
    counts = (len(found.items), found.num_users, found.num_items)
    if counts != (known.events, known.users, known.items):
        raise DataError(
            f"{path} has {counts[0]} events of {counts[1]} users on {counts[2]} items, {path.stem} has {known.events}, "
            f"{known.users} and {known.items}: the file is truncated or another one; rename it if that is meant"
        )
    if known.sha256 is not None:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if not digest.startswith(known.sha256):
            return (f"has the counts of the published file, but not its SHA-256 ({known.sha256}...)",)
    return ()


def _find(data: str, data_dir: Path | None) -> Path:
    base = data_dir if data_dir is not None else Path()
    tried = [base / data]
    tried += [
        place.with_name(place.name + suffix)
        for suffix in SUFFIXES
        for place in (base / data, base / data / Path(data).name)
        if place.name
    ]
    for path in tried:
        if path.is_file():
            return path
    folder = base / data
    if folder.is_dir():
        return _only_file(folder)
    if data in PACKAGED and data_dir is None:
        return packaged_dataset(data) / f"{data}.inter"
    raise DataError(
        f"no data set '{data}' (looked for {base / data} and that with {', '.join(SUFFIXES)}, also in a folder of "
        f"that name); known names: {', '.join(PACKAGED)}"
    )


def _only_file(folder: Path) -> Path:
    for suffix in SUFFIXES:
        files = sorted(folder.glob(f"*{suffix}"))
        if len(files) == 1:
            return files[0]
        if files:
            raise DataError(f"{folder} holds {len(files)} {suffix} files; name the one to use: data=<path>")
    raise DataError(
        f"{folder} holds no file that ends in {', '.join(SUFFIXES)}; name the one to use: data=<path>"
    )


def _has_titles(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        header = {name.partition(":")[0] for name in file.readline().rstrip("\n").split("\t")}
    return {"item_id", "movie_title", "release_year"} <= header
