"""Two graphs made of data that come with a package: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.graph.raw_graph import RawGraph
from nearfar.interop.recbole import packaged_dataset
from nearfar.optional import require


def nearest_neighbors(counts: NDArray[np.float64], k: int) -> Tensor:
    """Join every row to the ``k`` others of the largest cosine, in both directions; the first of equals.

    Args:
        counts: Integers from 0, of a few thousand rows, shape ``(n, d)``.
        k: Neighbours a row chooses, or all others if there are fewer; it may be chosen by more.

    Returns:
        Edges, int64, shape ``(2, E)``, sorted by source, then target.

    Example:
        >>> nearest_neighbors(np.array([[2.0, 0.0], [5.0, 1.0], [0.0, 3.0]]), k=1).tolist()
        [[0, 1, 1, 2], [1, 0, 2, 1]]
    """
    # Integers and one division: the squared cosine up to a factor of the row, and the same ties on every machine.
    squares = np.maximum((counts * counts).sum(1), 1)
    likeness = (counts @ counts.T) ** 2 / squares
    np.fill_diagonal(likeness, -1)
    chosen = np.argsort(-likeness, axis=1, kind="stable")[:, : min(k, len(counts) - 1)]
    joined = np.zeros(likeness.shape, dtype=bool)
    np.put_along_axis(joined, chosen, True, axis=1)
    return torch.from_numpy(np.stack(np.nonzero(joined | joined.T)))


def _digits() -> RawGraph:
    """1,797 images of 8 x 8 pixels, each joined to the five most like it."""
    images = require("sklearn.datasets", "the data set digits").load_digits()
    pixels: NDArray[np.float64] = images.data
    return RawGraph(
        "digits",
        "scikit-learn",
        torch.from_numpy(pixels / 16).float(),
        nearest_neighbors(pixels, 5),
        torch.from_numpy(images.target).long(),
    )


# Films listed under exactly one of them are kept: the other genres go with one of these more often than not.
KINDS = ("Action", "Children's", "Comedy", "Drama")
FEWEST_RATINGS = 5
FILM_NEIGHBORS = 10
FIRST_YEARS = (1940, 1950, 1960, 1970, 1980, 1990, 1994, 1996)
FIRST_AGES = (18, 25, 35, 45, 50, 56)


def _films() -> RawGraph:
    """Films of MovieLens 100k, each joined to the ten that most of the same people rated.

    The class is the one of four kinds a film is listed under; features are its years and what people of every age,
    gender and occupation thought of it.
    """
    folder = packaged_dataset("ml-100k")
    ratings, films, people = (_table(folder / f"ml-100k.{kind}") for kind in ("inter", "item", "user"))
    person = {name: place for place, name in enumerate(people["user_id"])}
    film = {name: place for place, name in enumerate(films["item_id"])}
    stars = np.zeros((len(film), len(person)))
    places = [film[name] for name in ratings["item_id"]], [person[name] for name in ratings["user_id"]]
    stars[places] = np.asarray(ratings["rating"], dtype=float)

    kinds = [[kind for kind in KINDS if kind in text.split(" ")] for text in films["class"]]
    kept = np.array([len(kind) == 1 for kind in kinds]) & ((stars > 0).sum(1) >= FEWEST_RATINGS)
    classes = [KINDS.index(kinds[place][0]) for place in np.flatnonzero(kept)]
    years = np.array([int(text) if text.isdecimal() else FIRST_YEARS[-1] for text in films["release_year"]])
    x = np.concatenate(
        [_one_hot(np.digitize(years, FIRST_YEARS))[kept], _opinions(stars[kept], people)], axis=1
    )
    edges = nearest_neighbors((stars[kept] > 0).astype(float), FILM_NEIGHBORS)
    return RawGraph("films", str(folder), torch.from_numpy(x).float(), edges, torch.tensor(classes))


def _opinions(stars: NDArray[np.float64], people: Mapping[str, list[str]]) -> NDArray[np.float64]:
    """Who rated every film, how they liked it, and how many gave one star to five; all in [0, 1]."""
    occupations = np.unique(people["occupation"], return_inverse=True)[1]
    ages = np.digitize(np.asarray(people["age"], dtype=int), FIRST_AGES)
    women = np.asarray(people["gender"]) == "F"
    groups = np.concatenate([_one_hot(group) for group in (occupations, women.astype(int), ages)], axis=1)
    given = (stars > 0).astype(float)
    total = given.sum(1, keepdims=True)
    counts = given @ groups
    liked = stars @ groups / np.maximum(counts, 1) / 5
    shares = [(stars == value).sum(1, keepdims=True) / total for value in range(1, 6)]
    return np.concatenate([counts / total, liked, *shares], axis=1)


def _one_hot(values: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.eye(int(values.max()) + 1)[values]


def _table(path: Path) -> dict[str, list[str]]:
    """Columns of an atomic file by name, as text."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    names = [name.partition(":")[0] for name in lines[0].split("\t")]
    return dict(
        zip(names, map(list, zip(*(line.split("\t") for line in lines[1:]), strict=True)), strict=True)
    )


PACKAGED = {"digits": _digits, "films": _films}
