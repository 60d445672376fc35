"""Cora, CiteSeer and PubMed: found or downloaded, and refused where they are not what everybody has."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from nearfar.data.download import download
from nearfar.errors import DataError
from nearfar.graph.planetoid import read_planetoid
from nearfar.graph.raw_graph import RawGraph


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

    def check(self, source: str, nodes: int, edges: int, features: int, classes: int) -> None:
        """Compare counts.

        Args:
            source: What was read.
            nodes: Nodes there.
            edges: Directed edges there.
            features: Features there.
            classes: Classes there.

        Raises:
            DataError: If one differs.
        """
        counts = (nodes, edges, features, classes)
        if counts != (self.nodes, self.edges, self.features, self.classes):
            raise DataError(
                f"{source} has {counts[0]} nodes, {counts[1]} directed edges, {counts[2]} features and "
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


def read_known(prefix: str, data_dir: Path | None) -> RawGraph:
    """One of :data:`KNOWN_GRAPHS`, downloaded where nobody says where it is.

    Args:
        prefix: ``cora``, ``citeseer`` or ``pubmed``.
        data_dir: Folder to look in; ``None`` for ``$NEARFAR_CACHE/planetoid``, by default
            ``~/.cache/nearfar/planetoid``.

    Raises:
        DataError: If files are missing and cannot be downloaded, or cannot be read.
    """
    known = KNOWN_GRAPHS[prefix]
    folder = _find(known, data_dir)
    absent = [name for part in PLANETOID_FILES if not (folder / (name := f"ind.{prefix}.{part}")).is_file()]
    if absent:
        raise DataError(f"{folder} lacks {', '.join(absent)}; download the files of {known.name} again")
    x, edge_index, y, masks = read_planetoid(folder, prefix)
    return RawGraph(prefix, str(folder), x, edge_index, y, masks)


def _find(known: KnownGraph, data_dir: Path | None) -> Path:
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
