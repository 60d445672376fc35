"""F02: graphs in .npz files and in the raw files of Planetoid."""

from __future__ import annotations

import pickle
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("hypothesis")
from hypothesis import given
from hypothesis import strategies as st

from nearfar.graph.datasets import GraphDataset, load_dataset
from nearfar.graph.planetoid import read_planetoid
from nearfar.optional import installed

pytestmark = pytest.mark.row("F02")
N = 20


def check(found: GraphDataset | None) -> None:
    """What was read is whole."""
    if found is not None:
        assert found.x.isfinite().all()
        assert found.edge_index.numel() == 0 or 0 <= found.edge_index.min() <= found.edge_index.max() < len(
            found.x
        )
        assert 0 <= found.y.min() <= found.y.max() < len(found.x)
        assert found.train_mask.any()
        found.digest()


@pytest.mark.parametrize("masks", [False, True])
@given(data=st.data())
def test_npz(fuzz: Any, rng: np.random.Generator, masks: bool, data: st.DataObject) -> None:
    """Arrays of a ring."""
    nodes = np.arange(N)
    edges = np.stack([np.concatenate([nodes, (nodes + 1) % N]), np.concatenate([(nodes + 1) % N, nodes])])
    arrays: dict[str, Any] = {"x": np.eye(N, 4, dtype=np.float32) + 1, "edge_index": edges, "y": nodes % 3}
    if masks:
        arrays |= {f"{name}_mask": nodes % 3 == part for part, name in enumerate(("train", "val", "test"))}
    content = data.draw(fuzz.spoilt_npz(arrays))
    check(fuzz.read({"ring.npz": content}, lambda folder: load_dataset(str(folder / "ring.npz"))))


def planetoid_files() -> dict[str, bytes]:
    """A graph of 8 nodes: 2 to learn from, 5 with features in allx, 3 to test, in another order."""
    import scipy.sparse

    def one_hot(classes: list[int]) -> np.ndarray[Any, Any]:
        return np.eye(3, dtype=np.int32)[classes]

    graph: defaultdict[int, list[int]] = defaultdict(list)
    for node in range(8):
        graph[node] = [(node + 1) % 8, (node + 7) % 8, node, (node + 1) % 8]
    x = scipy.sparse.csr_matrix(np.eye(8, 4, dtype=np.float32) + np.eye(8, 4, 1, dtype=np.float32))
    content = {
        "x": x[:2],
        "tx": x[5:],
        "allx": x[:5],
        "y": one_hot([0, 1]),
        "ty": one_hot([2, 0, 1]),
        "ally": one_hot([0, 1, 2, 0, 1]),
        "graph": graph,
    }
    files = {f"ind.toy.{name}": pickle.dumps(value, protocol=2) for name, value in content.items()}
    return files | {"ind.toy.test.index": b"7\n5\n6\n"}


@pytest.mark.skipif(not installed("scipy"), reason="scipy is not installed")
@given(data=st.data())
def test_planetoid(fuzz: Any, data: st.DataObject) -> None:
    """One of the eight files is another; nothing in a pickle is run, whatever it names."""
    files = planetoid_files()
    name = data.draw(st.sampled_from(sorted(files)))
    files[name] = data.draw(fuzz.spoilt_bytes(files[name]))

    def read(folder: Path) -> Any:
        return read_planetoid(folder, "toy")

    found = fuzz.read(files, read, [*files, "ind.toy"])
    if found is not None:
        x, edges, y, masks = found
        assert x.dtype == torch.float32
        assert len(x) == len(y) == len(masks[0])
        assert edges.numel() == 0 or 0 <= edges.min() <= edges.max() < len(x)
