"""From ``data=<name or file>`` to a graph: citation graphs, two that need no download, a file of yours.

Cora, CiteSeer and PubMed with the public split are those of Planetoid (Yang et al., ICML 2016); everything else is
split at random, 10 % / 10 % / 80 %, as in GRACE (Zhu et al., 2020) and POT (Yu et al., NeurIPS 2023).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nearfar.data import content_digest
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
from nearfar.graph.citation_graphs import KNOWN_GRAPHS, read_known
from nearfar.graph.packaged_graphs import PACKAGED
from nearfar.graph.raw_graph import RawGraph
from nearfar.graph.split import random_split
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
        read = read_known(name, data_dir)
    elif name in PACKAGED:
        read = PACKAGED[name]()
    elif name.endswith(".npz"):
        read = _npz(Path(data) if data_dir is None else data_dir / data)
    else:
        known = ", ".join([*KNOWN_GRAPHS, *PACKAGED])
        raise DataError(f"no data set '{data}'; known names: {known}; or the path of a .npz file")
    made = _finish(read, split_seed, normalize)
    if name in KNOWN_GRAPHS:
        counts = made.num_nodes, made.edge_index.shape[1], made.x.shape[1], made.num_classes
        KNOWN_GRAPHS[name].check(made.source, *counts)
    return made


def _npz(path: Path) -> RawGraph:
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
    return RawGraph(
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


def _finish(read: RawGraph, split_seed: int, normalize: bool) -> GraphDataset:
    try:
        check_features(read.x)
        edges, notes = clean_edges(read.edge_index, len(read.x))
        masks = read.masks or random_split(len(read.x), numpy_generator(split_seed, "split"))
    except DataError as error:
        raise DataError(f"{read.source}: {error}") from error
    x = normalized(read.x) if normalize else read.x
    return GraphDataset(
        read.name,
        read.source,
        x,
        edges,
        read.y,
        *masks,
        (*read.warnings, *notes, *feature_remarks(read.x), *_unlearnt(read.y, masks[0])),
    )


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
