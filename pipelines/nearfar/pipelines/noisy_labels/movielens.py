"""Classes of MovieLens' users and films, from the tables beside its interactions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from nearfar.errors import DataError

AGE_GROUPS = {"under 25": 25, "25 to 34": 35, "35 to 44": 45, "45 and over": 1000}
"""Names, and the age that each ends below."""


def age_groups(path: Path) -> dict[str, str]:
    """Age group by user.

    Args:
        path: ``ml-100k.user``.

    Raises:
        DataError: If the file cannot be read, lacks a column, or an age is no number.
    """
    groups = {}
    for user, age in _columns(path, "user_id", "age"):
        if not age.isdigit():
            raise DataError(f"{path}: age of user {user}: a number expected, got {age!r}")
        groups[user] = next(name for name, end in AGE_GROUPS.items() if int(age) < end)
    return groups


def single_genres(path: Path, least: int = 30) -> dict[str, str]:
    """Genre by film, of films with one genre only; the file lists several by alphabet, not by weight.

    Args:
        path: ``ml-100k.item``.
        least: Films that a genre has to have of these; films of others are left out.

    Raises:
        DataError: If the file cannot be read, or lacks a column.
    """
    found = {film: genre for film, genre in _columns(path, "item_id", "class") if len(genre.split()) == 1}
    counts = Counter(found.values())
    return {film: genre for film, genre in found.items() if counts[genre] >= least and genre != "unknown"}


def _columns(path: Path, *names: str) -> list[tuple[str, ...]]:
    """Some columns of an atomic file of RecBole, whose headings are ``name:type``."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    heading = [column.partition(":")[0] for column in lines[0].split("\t")] if lines else []
    absent = [name for name in names if name not in heading]
    if absent:
        raise DataError(f"{path}: column {absent[0]} expected, got {', '.join(heading) or 'an empty file'}")
    places = [heading.index(name) for name in names]
    rows = [line.split("\t") for line in lines[1:] if line.strip()]
    for number, row in enumerate(rows, 2):
        if len(row) <= max(places):
            raise DataError(f"{path}: line {number} has {len(row)} columns, {len(heading)} expected")
    return [tuple(row[place] for place in places) for row in rows]
