"""The eight raw files of a citation graph, as Planetoid published them (Yang et al., ICML 2016)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.data.array_pickle import SparseRows, read_array_pickle
from nearfar.data.size_limit import check_claim
from nearfar.errors import DataError, first_line
from nearfar.saved import UNFIT

NUM_VALIDATION = 500


def read_planetoid(folder: Path, prefix: str) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Read them; nothing in the pickles is run (see :mod:`nearfar.data.array_pickle`).

    Nodes from 0 are those with features in ``allx``; those of ``tx`` follow, at the places that ``test.index`` gives
    them. A place that it leaves out, as three of CiteSeer's hundred, is a node without features, of class 0.

    Args:
        folder: With ``ind.<prefix>.x`` and the seven others.
        prefix: Name of the graph.

    Returns:
        Features ``(n, d)``, float32; edges ``(2, E)``, int64, sorted, none twice and none from a node to itself;
        classes ``(n,)``, int64; masks of the published training, validation and test nodes, bool, each ``(n,)``.

    Raises:
        DataError: If a file cannot be read, or they do not belong together.
    """
    files = {name: folder / f"ind.{prefix}.{name}" for name in ("tx", "allx", "y", "ty", "ally", "graph")}
    tx, allx, y, ty, ally = (_matrix(files[name]) for name in ("tx", "allx", "y", "ty", "ally"))
    graph = read_array_pickle(files["graph"], "latin1")
    places = _places(folder / f"ind.{prefix}.test.index")
    try:
        first, count = len(allx), int(places.max()) + 1
        if places.min() != first or len(set(places.tolist())) < len(places) or count != len(graph):
            raise DataError(f"{folder}: {len(graph)} nodes in graph, {first} in allx, {count} by test.index")
        x, classes = (_joined(files["allx"], *parts, places) for parts in ((allx, tx), (ally, ty)))
        masks = _masks(count, len(y), places)
        return x, _edges(graph, count), classes.argmax(1), masks
    # Whatever parts that do not fit together come to.
    except UNFIT as error:
        raise DataError(
            f"{folder}: the files ind.{prefix}.* do not belong together ({first_line(error)}); delete them and "
            "download them again"
        ) from error


def _matrix(path: Path) -> Tensor:
    found = read_array_pickle(path, "latin1")
    values = found.dense(path) if isinstance(found, SparseRows) else found
    if not isinstance(values, np.ndarray) or values.ndim != 2:
        raise DataError(f"{path}: a matrix expected, got {type(values).__name__}; download it again")
    return torch.from_numpy(values.astype(np.float32))


def _places(path: Path) -> NDArray[np.int64]:
    try:
        numbers = [int(line) for line in path.read_text(encoding="ascii").split()]
        places = np.array(numbers, dtype=np.int64)
    except (OSError, ValueError, OverflowError) as error:
        raise DataError(f"{path} is no list of nodes: {first_line(error)}; download it again") from None
    if not len(places):
        raise DataError(f"{path} is empty; download it again")
    return places


def _joined(path: Path, learnt: Tensor, tested: Tensor, places: NDArray[np.int64]) -> Tensor:
    """Rows of all nodes: those of ``tested`` lie in the order of their places."""
    count, width = int(places.max()) + 1, learnt.shape[1]
    check_claim(path, 4 * count * width, "a matrix of all nodes", "download the files again")
    rows = torch.zeros(count, width)
    rows[: len(learnt)] = learnt
    rows[torch.from_numpy(places)] = tested
    return rows


def _masks(count: int, num_train: int, places: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
    nodes = torch.arange(count)
    train, val = nodes < num_train, (nodes >= num_train) & (nodes < num_train + NUM_VALIDATION)
    test = torch.zeros(count, dtype=torch.bool)
    test[torch.from_numpy(places)] = True
    return train, val, test


def _edges(graph: Any, count: int) -> Tensor:
    sources = np.repeat(np.array(list(graph), dtype=np.int64), [len(targets) for targets in graph.values()])
    targets = np.array([target for some in graph.values() for target in some], dtype=np.int64)
    if (
        len(sources)
        and not 0 <= min(sources.min(), targets.min()) <= max(sources.max(), targets.max()) < count
    ):
        raise ValueError(f"an edge of a node outside 0 to {count - 1}")
    kept = np.unique((sources * count + targets)[sources != targets])
    return torch.from_numpy(np.stack([kept // count, kept % count]))
