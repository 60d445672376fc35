"""From ``data=<name or file>`` to a graph: citation graphs, two that need no download, a file of yours.

Cora, CiteSeer and PubMed with the public split are those of Planetoid (Yang et al., ICML 2016); everything else is
split at random, 10 % / 10 % / 80 %, as in GRACE (Zhu et al., 2020) and POT (Yu et al., NeurIPS 2023).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.data import content_digest
from nearfar.data.download import download
from nearfar.data.npz import read_npz
from nearfar.errors import DataError
from nearfar.graph.checks import (
    check_classes,
    check_edges,
    check_features,
    check_per_node,
    clean_edges,
    feature_remarks,
)
from nearfar.graph.planetoid import read_planetoid
from nearfar.graph.split import random_split
from nearfar.interop.recbole import packaged_dataset
from nearfar.optional import require
from nearfar.runtime import numpy_generator

MASKS = ("train_mask", "val_mask", "test_mask")


@dataclass(frozen=True, eq=False)
class GraphDataset:
    """One graph whose nodes have features and classes, checked.

    Attributes:
        name: Of the data set.
        source: Where it came from.
        x: Features, float32, shape ``(n, d)``.
        edge_index: Source and target of every edge, int64, shape ``(2, E)``, sorted by source, then target; an
            undirected edge is there in both directions.
        y: Classes from 0, int64, shape ``(n,)``.
        train_mask: Nodes a probe learns from, bool, shape ``(n,)``.
        val_mask: Nodes that select it, bool, shape ``(n,)``.
        test_mask: Nodes it is tested on, bool, shape ``(n,)``.
        warnings: What the checks found worth saying.

    Raises:
        DataError: If a part is not as described, masks overlap or one is empty.
    """

    name: str
    source: str
    x: Tensor
    edge_index: Tensor
    y: Tensor
    train_mask: Tensor
    val_mask: Tensor
    test_mask: Tensor
    warnings: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        """Check all of it once."""
        try:
            self._check()
        except DataError as error:
            raise DataError(f"{self.source}: {error}") from error

    @property
    def num_nodes(self) -> int:
        """Nodes, those without an edge included."""
        return len(self.x)

    @property
    def num_classes(self) -> int:
        """Classes, up to the largest one that occurs."""
        return int(self.y.max()) + 1

    def digest(self) -> str:
        """Fingerprint of the content: features, edges, classes and split."""
        parts = (self.x, self.edge_index, self.y, *(getattr(self, mask) for mask in MASKS))
        return content_digest(*(part.cpu().numpy() for part in parts))

    def _check(self) -> None:
        check_features(self.x)
        if self.x.layout != torch.strided or self.x.dtype != torch.float32:
            raise DataError(f"x: dense float32 expected, got {self.x.layout}, {self.x.dtype}; convert it")
        check_edges(self.edge_index, self.num_nodes)
        source, target = self.edge_index
        if not ((source[1:] - source[:-1]) * self.num_nodes + target[1:] > target[:-1]).all():
            raise DataError("edge_index: edges sorted by source, then target expected; see clean_edges")
        check_classes("y", self.y, self.num_nodes)
        masks = {name: getattr(self, name) for name in MASKS}
        for name, mask in masks.items():
            check_per_node(name, mask, torch.bool, self.num_nodes)
            if not mask.any():
                raise DataError(f"{name}: no node is in it; every part needs one at least")
        shared = torch.stack(list(masks.values())).sum(0) > 1
        if shared.any():
            node = int(shared.nonzero()[0])
            among = " and ".join(name for name, mask in masks.items() if mask[node])
            raise DataError(
                f"{among}: {int(shared.sum())} nodes are in both, the first is node {node}; make them disjoint"
            )
        trained = self.y[self.train_mask]
        if bool((trained == trained[0]).all()):
            raise DataError(
                f"y: all {len(trained)} training nodes are of class {int(trained[0])}, a probe learns nothing from "
                "them; train on more nodes or split anew"
            )


def load_dataset(
    data: str, data_dir: str | Path | None = None, *, split_seed: int = 0, normalize: bool = True
) -> GraphDataset:
    """Find, read and check a data set.

    Args:
        data: ``cora``, ``citeseer`` or ``pubmed`` (Planetoid's files and split); ``digits`` (scikit-learn's images,
            joined to those most like them); ``films`` (MovieLens 100k in RecBole's wheel, films joined to those that
            the same people rated); or a ``.npz`` file with ``x (n, d)``, ``edge_index (2, E)``, ``y (n,)`` and, all
            or none, ``train_mask``, ``val_mask`` and ``test_mask``, each ``(n,)``.
        data_dir: Folder to look in for files. Without it Planetoid's are looked for, and downloaded to,
            ``$NEARFAR_CACHE/planetoid``, by default ``~/.cache/nearfar/planetoid``.
        split_seed: Seed of the random split, where there is no other.
        normalize: Whether the smallest of all features is subtracted from them, and rows with a sum above one are
            divided by it.

    Raises:
        DataError: If nothing is found, or what is found cannot be used.
        MissingDependencyError: If scikit-learn or RecBole is needed and not installed.
    """
    name, data_dir = data.lower(), None if data_dir is None else Path(data_dir)
    if name in KNOWN_GRAPHS:
        read = _planetoid(KNOWN_GRAPHS[name], data_dir)
    elif name in EMBEDDED:
        read = EMBEDDED[name]()
    elif name.endswith(".npz"):
        read = _npz(Path(data) if data_dir is None else data_dir / data)
    else:
        known = ", ".join([*KNOWN_GRAPHS, *EMBEDDED])
        raise DataError(f"no data set '{data}'; known names: {known}; or the path of a .npz file")
    return _finish(read, split_seed, normalize)


@dataclass(frozen=True, eq=False)
class _Read:
    """What a file says, before edges are put right and a split is made."""

    name: str
    source: str
    x: Tensor
    edge_index: Tensor
    y: Tensor
    masks: tuple[Tensor, Tensor, Tensor] | None = None
    known: KnownGraph | None = None
    warnings: tuple[str, ...] = ()


def _finish(read: _Read, split_seed: int, normalize: bool) -> GraphDataset:
    try:
        check_features(read.x)
        edges, notes = clean_edges(read.edge_index, len(read.x))
        masks = read.masks or random_split(len(read.x), numpy_generator(split_seed, "split"))
    except DataError as error:
        raise DataError(f"{read.source}: {error}") from error
    x = normalized(read.x) if normalize else read.x
    made = GraphDataset(
        read.name,
        read.source,
        x,
        edges,
        read.y,
        *masks,
        (*read.warnings, *notes, *feature_remarks(read.x), *_unlearnt(read.y, masks[0])),
    )
    if read.known is not None:
        read.known.check(made)
    return made


def normalized(x: Tensor) -> Tensor:
    """Features from 0 with rows that sum to one, or to less; as torch_geometric's ``NormalizeFeatures``.

    Args:
        x: Shape ``(n, d)``; not changed.

    Returns:
        Shape ``(n, d)``.

    Example:
        >>> normalized(torch.tensor([[-1.0, 1.0], [3.0, 0.0], [-1.0, -0.5]])).tolist()
        [[0.0, 1.0], [0.800000011920929, 0.20000000298023224], [0.0, 0.5]]
    """
    x = x - x.min()
    return x / x.sum(dim=1, keepdim=True).clamp_min(1)


def _unlearnt(y: Tensor, train_mask: Tensor) -> tuple[str, ...]:
    # Classes or a mask that are wrong in themselves are reported by the data set.
    if y.is_floating_point() or train_mask.dtype != torch.bool or train_mask.shape != y.shape:
        return ()
    missing = sorted(set(y.tolist()) - set(y[train_mask].tolist()))
    some = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
    return (f"no training node is of class {some}: no probe can predict it",) if missing else ()


# Planetoid


@dataclass(frozen=True)
class KnownGraph:
    """What is in the files everybody has: broken or other ones are refused, not trained on.

    Attributes:
        name: As its authors write it.
        nodes: Nodes.
        edges: Directed edges, without repeated ones and self loops.
        features: Features of a node.
        classes: Classes.
    """

    name: str
    nodes: int
    edges: int
    features: int
    classes: int

    def check(self, found: GraphDataset) -> None:
        """Compare counts.

        Args:
            found: What was read.

        Raises:
            DataError: If one differs.
        """
        counts = (found.num_nodes, found.edge_index.shape[1], found.x.shape[1], found.num_classes)
        if counts != (self.nodes, self.edges, self.features, self.classes):
            raise DataError(
                f"{found.source} has {counts[0]} nodes, {counts[1]} directed edges, {counts[2]} features and "
                f"{counts[3]} classes, {self.name} has {self.nodes}, {self.edges}, {self.features} and {self.classes}: "
                "the files are damaged or others; download them again"
            )


KNOWN_GRAPHS = {
    "cora": KnownGraph("Cora", 2_708, 10_556, 1_433, 7),
    "citeseer": KnownGraph("CiteSeer", 3_327, 9_104, 3_703, 6),
    "pubmed": KnownGraph("PubMed", 19_717, 88_648, 500, 3),
}
PLANETOID_URL = "https://github.com/kimiyoung/planetoid/raw/master/data"
# SHA-256 of the files everybody has; those of the other graphs are known by their counts.
PLANETOID_DIGESTS = {
    "ind.cora.allx": "9419ba2f26f5c35243db64aba110e0f35a04851609e0dc5433450676ca6b8543",
    "ind.cora.ally": "2b998f5cc7fedc86e7f97ca2498f47a1ffc1462c29e2d578b23bf3f62b6e7d71",
    "ind.cora.graph": "58f13302f39dde8852dad6fe6d15b89b077b6d7f837626bce671ef80344b383d",
    "ind.cora.test.index": "297ce89af2b51a6a194181c7dbe1796c6a1cf9cd9349a88383b1b1e227867875",
    "ind.cora.tx": "b9afbaa4a400df991f6f02ef677e1e44da55ffc04801fd02f9e673987829226a",
    "ind.cora.ty": "41f5ac76596a1699cc33f53084a2419e92961c42bb75f36fc38e616d348532ad",
    "ind.cora.x": "23cfa55d91c6f624233f5eb7b6e3f141f1bd2b2ae39608a63cf5d084bb27baab",
    "ind.cora.y": "94465c14eb53e04ca262198dcbb2521ee8af60fb3f3d546cd6ca24a511b0e7d1",
}
PLANETOID_FILES = ("x", "tx", "allx", "y", "ty", "ally", "graph", "test.index")


def _planetoid(known: KnownGraph, data_dir: Path | None) -> _Read:
    prefix = known.name.lower()
    folder = _find_planetoid(known, data_dir)
    absent = [name for part in PLANETOID_FILES if not (folder / (name := f"ind.{prefix}.{part}")).is_file()]
    if absent:
        raise DataError(f"{folder} lacks {', '.join(absent)}; download the files of {known.name} again")
    x, edge_index, y, masks = read_planetoid(folder, prefix)
    return _Read(prefix, str(folder), x, edge_index, y, masks, known)


def _find_planetoid(known: KnownGraph, data_dir: Path | None) -> Path:
    """The folder with the raw files, downloaded where nobody says where they are."""
    name, wanted = known.name, f"ind.{known.name.lower()}.x"
    base = _cache() if data_dir is None else data_dir
    folders = [base / name / "raw", base / "planetoid" / name / "raw", base / "raw", base]
    for folder in folders:
        if (folder / wanted).is_file():
            return folder
    files = f"ind.{known.name.lower()}.{{{','.join(PLANETOID_FILES)}}}"
    if data_dir is not None:
        raise DataError(
            f"no {wanted} in {', '.join(map(str, folders))}; put {files} into the first of them, or leave data_dir out "
            "to download them"
        )
    try:
        # The one that says the data are there comes last.
        for part in (*PLANETOID_FILES[1:], PLANETOID_FILES[0]):
            file = f"ind.{name.lower()}.{part}"
            download(f"{PLANETOID_URL}/{file}", folders[0] / file, PLANETOID_DIGESTS.get(file))
    except DataError as error:
        raise DataError(
            f"{name} could not be downloaded ({error}); put {files} of https://github.com/kimiyoung/planetoid into "
            f"{folders[0]}, or say where they are: data_dir=<folder>"
        ) from error
    return folders[0]


def _cache() -> Path:
    named = os.environ.get("NEARFAR_CACHE")
    return (Path(named).expanduser() if named else Path.home() / ".cache" / "nearfar") / "planetoid"


# Data sets that come with a package


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


def _digits() -> _Read:
    """1,797 images of 8 x 8 pixels, each joined to the five most like it."""
    images = require("sklearn.datasets", "the data set digits").load_digits()
    pixels: NDArray[np.float64] = images.data
    return _Read(
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


def _films() -> _Read:
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
    return _Read("films", str(folder), torch.from_numpy(x).float(), edges, torch.tensor(classes))


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


EMBEDDED = {"digits": _digits, "films": _films}


# Files


def _npz(path: Path) -> _Read:
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    arrays = read_npz(path)
    wanted = ["x", "edge_index", "y", *(MASKS if any(mask in arrays for mask in MASKS) else ())]
    absent = [name for name in wanted if name not in arrays]
    if absent:
        raise DataError(f"{path} lacks {', '.join(absent)}; it has {', '.join(arrays) or 'no arrays'}")
    for name in wanted:
        if arrays[name].dtype.kind not in "biuf":
            raise DataError(f"{path}: {name}: numbers expected, got {arrays[name].dtype}")
    tensors = {name: torch.from_numpy(np.ascontiguousarray(arrays[name])) for name in wanted}
    y = tensors["y"]
    return _Read(
        path.stem,
        str(path),
        tensors["x"].float(),
        tensors["edge_index"],
        y if y.is_floating_point() else y.long(),
        (tensors["train_mask"], tensors["val_mask"], tensors["test_mask"]) if MASKS[0] in tensors else None,
        warnings=tuple(
            f"{name} is not used: edges have no weights or attributes here, every edge counts the same"
            for name in arrays
            if name.startswith("edge_") and name not in wanted
        ),
    )
