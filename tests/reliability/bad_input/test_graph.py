"""B01: graphs that must be refused, or of which something must be said (reliability.md, 4.5).

=====================================  ==========================================================================
case                                   where
=====================================  ==========================================================================
id = N, negative, int32, float         here, through a file, the bounds, certificates and budgets
(E, 2) for (2, E); 1-D                 here; also tests/graph/test_checks.py
no edges, isolated nodes               here: allowed, said
no nodes, no features                  here
self loops, duplicates                 a file: put right and counted (tests/graph/test_datasets.py); bounds: here
directed                               here: said by a file; refused where directions are dropped together
NaN, infinite, huge features           here
zero rows, constant rows               here: said
rows of x and nodes                    here
labels out of range, of another type   here
masks empty, overlapping, of numbers   here
edge weights                           files have none: said; encoders of yours (NodeRepresentation): here
edges of views                         here
=====================================  ==========================================================================
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nearfar.adapters import NodeInputs
from nearfar.adapters.nodes import NodeRepresentation
from nearfar.errors import ConfigError
from nearfar.graph import AugmentationBudget, NodeCompactness, certify
from nearfar.graph.bounds.encoder import TwoLayers
from nearfar.graph.datasets import GraphDataset, load_dataset
from nearfar.graph.linear_probe import linear_probe
from nearfar.graph.logistic_probe import logistic_probe
from nearfar.graph.split import random_split
from nearfar.optional import installed
from nearfar.runtime import numpy_generator

N = 12
RING = np.stack([np.arange(N), (np.arange(N) + 1) % N])
EDGES = np.concatenate([RING, RING[::-1]], axis=1)
X = numpy_generator(0, "features").normal(size=(N, 4))
Y = np.arange(N) % 3
TRAIN = np.arange(N) < 4

# Counted apart: what is refused, and what is odd and follows a policy.
refused_case = pytest.mark.row("B01", bad_inputs=1)
odd_case = pytest.mark.row("B01", odd_inputs=1)
with_sklearn = pytest.mark.skipif(not installed("sklearn"), reason="scikit-learn is not installed")
with_pyg = pytest.mark.skipif(not installed("torch_geometric"), reason="torch_geometric is not installed")


def changed(array: NDArray[Any], place: tuple[int, ...], value: float) -> NDArray[Any]:
    copy = array.copy()
    copy[place] = value
    return copy


def written(folder: Path, **changes: Any) -> Path:
    """A graph in a file, some of its arrays replaced or, with None, left out."""
    places = np.arange(N)
    masks = {"train_mask": TRAIN, "val_mask": (places >= 4) & (places < 8), "test_mask": places >= 8}
    arrays: dict[str, Any] = {"x": X, "edge_index": EDGES, "y": Y, **masks, **changes}
    path = folder / "ring.npz"
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def edges(*pairs: tuple[int, int]) -> NDArray[np.int64]:
    return np.array(pairs, dtype=np.int64).T


NONE = np.zeros(N, dtype=bool)
FILES: list[tuple[str, dict[str, Any], str, str, str]] = [
    (
        "id-N",
        {"edge_index": edges((0, 1), (0, N))},
        "edge_index",
        "edge 1 is 0 -> 12",
        "number the nodes from 0",
    ),
    (
        "negative-id",
        {"edge_index": edges((-1, 0))},
        "edge_index",
        "edge 0 is -1 -> 0",
        "number the nodes from 0",
    ),
    ("int32-ids", {"edge_index": EDGES.astype(np.int32)}, "edge_index", "int32", r"edge_index.long\(\)"),
    ("float-ids", {"edge_index": EDGES.astype(float)}, "edge_index", "float64", r"edge_index.long\(\)"),
    ("unsigned-ids", {"edge_index": EDGES.astype(np.uint64)}, "edge_index", "uint64", r"edge_index.long\(\)"),
    ("pairs-by-row", {"edge_index": EDGES.T}, "edge_index", r"\(24, 2\)", "transpose it"),
    ("flat-edges", {"edge_index": np.arange(4)}, "edge_index", r"\(4,\)", "two rows"),
    (
        "no-nodes",
        {"x": np.zeros((0, 4)), "edge_index": EDGES[:, :0]},
        "x",
        r"\(0, 4\)",
        "give one row a node",
    ),
    ("no-features", {"x": X[:, :0]}, "x", r"\(12, 0\)", "one feature at least"),
    ("flat-features", {"x": X[:, 0]}, "x", r"\(12,\)", "reshape it"),
    ("nan-feature", {"x": changed(X, (3, 1), np.nan)}, "x", "nan in row 3, column 1", "nan_to_num"),
    ("infinite-feature", {"x": changed(X, (3, 1), -np.inf)}, "x", "-inf in row 3, column 1", "nan_to_num"),
    ("huge-feature", {"x": changed(X, (3, 1), 1e38)}, "x", "1e|9.99.*in row 3, column 1", "power of ten"),
    ("text-features", {"x": X.astype(str)}, "x", "<U", "numbers expected"),
    ("too-few-rows", {"x": X[:5]}, "edge_index", "edge 4 is 4 -> 5", "correct num_nodes"),
    ("too-many-rows", {"x": np.concatenate([X, X])}, "y", r"of \(12,\)", r"shape \(24,\) expected"),
    ("negative-class", {"y": Y - 1}, "y", "class -1 of node 0", "number the classes from 0"),
    ("class-beyond-nodes", {"y": Y * 10**9}, "y", "class 1000000000 of node 1", "number the classes from 0"),
    ("fractional-classes", {"y": Y + 0.5}, "y", "float64", "its class as an integer"),
    ("nan-class", {"y": np.where(Y == 0, np.nan, Y)}, "y", "float64", "its class as an integer"),
    ("text-classes", {"y": np.array(list("abc"))[Y]}, "y", "<U1", "numbers expected"),
    ("classes-by-column", {"y": Y[:, None]}, "y", r"\(12, 1\)", r"shape \(12,\) expected"),
    (
        "one-class-to-learn",
        {"y": np.where(TRAIN, 0, Y)},
        "y",
        "all 4 .* of class 0",
        "more nodes or split anew",
    ),
    ("empty-mask", {"train_mask": NONE}, "train_mask", "no node", "needs one at least"),
    ("overlapping-masks", {"test_mask": TRAIN}, "train_mask and test_mask", "node 0", "make them disjoint"),
    ("mask-of-numbers", {"val_mask": TRAIN.astype(int)}, "val_mask", "int64", "True or False"),
    ("mask-of-ids", {"val_mask": np.array([4, 5])}, "val_mask", r"\(2,\)", "True or False"),
    ("mask-left-out", {"val_mask": None}, "val_mask", "it has x", "lacks val_mask"),
]


@pytest.mark.parametrize(
    ("changes", "field", "value", "fix"), [pytest.param(*case[1:], id=case[0]) for case in FILES]
)
@refused_case
def test_a_file(
    changes: dict[str, Any], field: str, value: str, fix: str, refuses: Any, tmp_path: Path
) -> None:
    path = written(tmp_path, **changes)
    with refuses(rf"ring.npz:? .*\b{field}", value, fix):
        load_dataset(str(path))


SAID: list[tuple[str, dict[str, Any], str]] = [
    ("no-edges", {"edge_index": EDGES[:, :0]}, "12 of 12 nodes have no edge"),
    ("isolated-nodes", {"edge_index": edges((0, 1), (1, 0))}, "10 of 12 nodes have no edge"),
    ("self-loop", {"edge_index": np.concatenate([EDGES, edges((1, 1))], 1)}, "1 self loop was left out"),
    (
        "duplicates",
        {"edge_index": np.concatenate([EDGES, EDGES[:, :2]], 1)},
        "2 duplicate edges were left out",
    ),
    ("directed", {"edge_index": RING}, "12 of 12 edges have no opposite; they are kept as directed"),
    ("zero-row", {"x": changed(X, (5,), 0.0)}, "x: 1 of 12 rows is all zeros, the first is row 5"),
    (
        "constant-row",
        {"x": changed(X, (5,), 3.0)},
        "x: 1 of 12 rows is one number throughout, the first is row 5",
    ),
    ("equal-features", {"x": np.tile(X[:1], (N, 1))}, "x: all nodes have the same features"),
    ("class-not-learnt", {"y": np.where(TRAIN, Y % 2, 2)}, "no training node is of class 2"),
    ("negative-weights", {"edge_weight": -np.ones(24)}, "edge_weight is not used"),
    ("nan-weights", {"edge_weight": np.full(24, np.nan)}, "edge_weight is not used"),
]


@pytest.mark.parametrize(("changes", "said"), [pytest.param(*case[1:], id=case[0]) for case in SAID])
@odd_case
def test_a_file_of_which_something_is_said(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    data = load_dataset(str(written(tmp_path, **changes)))
    assert any(said in warning for warning in data.warnings), data.warnings
    assert bool(data.x.isfinite().all())


def test_a_file_of_which_nothing_is_said(tmp_path: Path) -> None:
    assert load_dataset(str(written(tmp_path))).warnings == ()


@pytest.mark.parametrize(
    ("changes", "words", "code", "told"),
    [
        pytest.param({"edge_index": edges((0, N))}, [], 3, "edge_index: edge 0 is 0 -> 12", id="data"),
        pytest.param({"x": changed(X, (3, 1), np.nan)}, [], 3, "x: nan in row 3, column 1", id="nan"),
        pytest.param({"y": np.where(TRAIN, 0, Y)}, [], 3, "y: all 4 training nodes", id="one-class"),
        pytest.param(
            {}, ["optim.lr=.nan"], 2, "optim.lr: Input should be a finite number, got nan", id="setting"
        ),
    ],
)
@refused_case
def test_a_command(
    changes: dict[str, Any], words: list[str], code: int, told: str, command: Any, tmp_path: Path
) -> None:
    path = written(tmp_path, **changes)
    assert told in command(["train", "graph.contrast", f"data={path}", "device=cpu", *words], code)


# Tensors given to functions


class Graph:
    """What ``certify`` takes."""

    def __init__(self, x: Tensor, edge_index: Tensor) -> None:
        self.x, self.edge_index = x, edge_index


def layers() -> TwoLayers:
    rng = torch.Generator().manual_seed(0)
    sizes = ((4, 8), (8, 3))
    return TwoLayers.of([(torch.randn(size, generator=rng), torch.zeros(size[1])) for size in sizes], 0.0)


def compactness(x: Any, edge_index: Tensor, **more: Any) -> Tensor:
    from torch_geometric.nn import GCN

    module = NodeCompactness(
        GCN(4, 8, num_layers=2, out_channels=3), more.pop("budget", None), more.pop("mode", "certified")
    )
    found: Tensor = module(x, edge_index, more.pop("z_other", torch.ones(N, 3)), **more)
    return found


x, ring = torch.from_numpy(X).float(), torch.from_numpy(EDGES)
MATRICES: list[tuple[str, Tensor, str, str]] = [
    ("id-N", torch.tensor([[0], [N]]), "edge 0 is 0 -> 12", "number the nodes from 0"),
    ("negative-id", torch.tensor([[0], [-1]]), "edge 0 is 0 -> -1", "number the nodes from 0"),
    ("int32-ids", ring.int(), "int32", r"edge_index.long\(\)"),
    ("float-ids", ring.float(), "float32", r"edge_index.long\(\)"),
    ("bool-ids", ring.bool(), "bool", r"edge_index.long\(\)"),
    ("pairs-by-row", ring.t(), r"\(24, 2\)", "transpose it"),
    ("flat", torch.arange(4), r"\(4,\)", "two rows"),
]


@pytest.mark.parametrize(
    ("edge_index", "value", "fix"), [pytest.param(*case[1:], id=case[0]) for case in MATRICES]
)
@pytest.mark.parametrize(
    "entrance", ["certify", "expected", "quantile", "fixed", pytest.param("module", marks=with_pyg)]
)
@refused_case
def test_edges_given_to_bounds(entrance: Any, edge_index: Tensor, value: str, fix: str, refuses: Any) -> None:
    with refuses("edge_index", value, fix):
        if entrance == "certify":
            certify(layers(), Graph(x, edge_index), samples=1)
        elif entrance == "module":
            compactness(x, edge_index)
        else:
            AugmentationBudget(0.4, entrance).of(edge_index, N)


LOOPS = torch.cat([ring, torch.tensor([[1], [1]])], 1)
TWICE = torch.cat([ring, ring[:, :1]], 1)


@pytest.mark.parametrize(
    ("edge_index", "value", "fix"),
    [
        pytest.param(LOOPS, r"edge 24 \(1 -> 1\)", "remove_self_loops", id="self-loop"),
        pytest.param(TWICE, "0 -> 1, which is there 2 times", "coalesce", id="duplicate"),
    ],
)
@refused_case
def test_bounds_are_of_simple_graphs(edge_index: Tensor, value: str, fix: str, refuses: Any) -> None:
    with refuses("edge_index", value, fix):
        certify(layers(), Graph(x, edge_index), samples=1)


@refused_case
def test_directed_where_directions_go_together(refuses: Any) -> None:
    budget = AugmentationBudget(0.4, directed=False)
    with refuses("edge_index", "directed=False", "to_undirected"):
        certify(layers(), Graph(x, torch.from_numpy(RING)), budget=budget)


BAD_X: list[tuple[str, Any, str, str]] = [
    ("nan", torch.from_numpy(changed(X, (3, 1), np.nan)), "nan in row 3, column 1", "nan_to_num"),
    ("infinite", torch.from_numpy(changed(X, (3, 1), np.inf)), "inf in row 3, column 1", "nan_to_num"),
    ("huge", torch.from_numpy(changed(X, (3, 1), 1e30)), "1e[+]30 in row 3, column 1", "power of ten"),
    ("integers", x.long(), "int64", r"x.float\(\)"),
    ("flat", x[:, 0], r"\(12,\)", "reshape it"),
    ("no-nodes", x[:0], r"\(0, 4\)", "one row a node"),
    ("width", x[:, :2], "4 features expected by layer 1", "build the encoder|like those of the training"),
    ("none-at-all", None, "NoneType", "give every node features"),
]


@pytest.mark.parametrize(
    ("features", "value", "fix"), [pytest.param(*case[1:], id=case[0]) for case in BAD_X]
)
@pytest.mark.parametrize("entrance", ["certify", pytest.param("module", marks=with_pyg)])
@refused_case
def test_features_given_to_bounds(entrance: str, features: Any, value: str, fix: str, refuses: Any) -> None:
    with refuses("x: ", value, fix):
        if entrance == "certify":
            certify(layers(), Graph(features, ring), samples=1)
        else:
            compactness(features, ring)


MORE: list[tuple[str, dict[str, Any], str, str, str]] = [
    ("other-view-shape", {"z_other": torch.ones(3, 3)}, "z_other", r"\(3, 3\)", "by the same encoder"),
    ("other-view-integers", {"z_other": torch.ones(N, 3).long()}, "z_other", "int64", r"z_other.float\(\)"),
    ("node-N", {"nodes": torch.tensor([N])}, "nodes", r"\[12\]", "from 0 to 11"),
    ("node-negative", {"nodes": torch.tensor([-1])}, "nodes", r"\[-1\]", "from 0 to 11"),
    ("node-twice", {"nodes": torch.tensor([5, 5])}, "nodes", "5 is there twice", r"nodes.unique\(\)"),
    ("nodes-mask", {"nodes": torch.ones(N, dtype=torch.bool)}, "nodes", "bool", "nonzero"),
    ("nodes-float", {"nodes": torch.tensor([1.5])}, "nodes", "float32", "give their ids"),
    (
        "view-by-row",
        {"mode": "sampled", "view_edge_index": ring.t()},
        "view_edge_index",
        r"\(24, 2\)",
        "transpose",
    ),
    (
        "view-float",
        {"mode": "sampled", "view_edge_index": ring.float()},
        "view_edge_index",
        "float32",
        r"long\(\)",
    ),
    (
        "view-other",
        {"mode": "sampled", "view_edge_index": torch.tensor([[0], [5]])},
        "graph",
        "0 -> 5",
        "lose edges",
    ),
]


@with_pyg
@pytest.mark.parametrize(
    ("more", "field", "value", "fix"), [pytest.param(*case[1:], id=case[0]) for case in MORE]
)
@refused_case
def test_the_rest_of_what_bounds_take(
    more: dict[str, Any], field: str, value: str, fix: str, refuses: Any
) -> None:
    with refuses(field, value, fix):
        compactness(x, ring, **more)


@refused_case
def test_other_embeddings_that_diverged(refuses: Any) -> None:
    z = torch.ones(N, 3)
    z[7, 1] = torch.nan
    with refuses("z_other", "node 7", "without divergence"):
        certify(layers(), Graph(x, ring), z_other=z)


WEIGHTS: list[tuple[str, Tensor, str, str]] = [
    ("nan", torch.full((24,), torch.nan), "nan of edge 0", "leave the edge out"),
    ("negative", torch.full((24,), -0.5), "-0.5 of edge 0", "clamp"),
    ("above-one", torch.full((24,), 2.0), "2.0 of edge 0", "clamp"),
    ("shape", torch.ones(3), r"\(3,\)", "one for each column"),
]


@pytest.mark.parametrize(
    ("probability", "value", "fix"), [pytest.param(*case[1:], id=case[0]) for case in WEIGHTS]
)
@refused_case
def test_probabilities_of_edges(probability: Tensor, value: str, fix: str, refuses: Any) -> None:
    with refuses("probability", value, fix):
        AugmentationBudget().of(ring, N, probability)


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("p", {"p": 1.0}),
        ("p", {"p": float("nan")}),
        ("p", {"p": "0.4"}),
        ("p", {"p": True}),
        ("kind", {"kind": "most"}),
        ("delta", {"delta": 0}),
        ("count", {"count": -1}),
        ("count", {"count": 1.5}),
    ],
)
@refused_case
def test_budgets(field: str, given: dict[str, Any], refuses: Any) -> None:
    with refuses(f"^{field}: ", str(next(iter(given.values()))), "expected", ConfigError):
        AugmentationBudget(**given)


# Encoders of yours


class Sum(nn.Module):
    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return x


REPRESENTED: list[tuple[str, tuple[Any, ...], str, str, str]] = [
    ("nan", (torch.from_numpy(changed(X, (3, 1), np.nan)), ring), "x", "nan in row 3, column 1", "fill it"),
    ("integers", (x.long(), ring), "x", "int64", r"x.float\(\)"),
    ("id-N", (x, torch.tensor([[0], [N]])), "edge_index", "12", "number them from 0"),
    ("int32-ids", (x, ring.int()), "edge_index", "int32", r"edge_index.long\(\)"),
    ("pairs-by-row", (x, ring.t()), "edge_index", r"\(24, 2\)", r"edge_index.t\(\)"),
    ("negative-weight", (x, ring, -torch.ones(24)), "edge_weight", "-1.0 of edge 0", "clamp it"),
    (
        "nan-weight",
        (x, ring, torch.full((24,), torch.nan)),
        "edge_weight",
        "nan of edge 0",
        "leave the edge out",
    ),
    ("weights-shape", (x, ring, torch.ones(3)), "edge_weight", r"\(3,\)", "give as many"),
]


@pytest.mark.parametrize(
    ("arguments", "field", "value", "fix"), [pytest.param(*case[1:], id=case[0]) for case in REPRESENTED]
)
@refused_case
def test_graphs_of_other_encoders(arguments: Any, field: str, value: str, fix: str, refuses: Any) -> None:
    with refuses(f"^{field}: ", value, fix):
        NodeRepresentation(Sum(), *arguments)


INPUTS: list[tuple[str, tuple[Any, ...], str, str, str]] = [
    ("no-nodes", (0,), "nodes", "got 0", "how many there are"),
    ("fewer-than-none", (-3,), "nodes", "got -3", "how many there are"),
    ("negative-id", (torch.tensor([2, -1]),), "nodes", "id -1 in row 1", "from 0"),
    ("fractional-ids", (torch.tensor([1.5]),), "nodes", "float32", r"nodes.long\(\)"),
    ("ids-by-column", (torch.tensor([[1]]),), "nodes", r"\(1, 1\)", r"shape \(N,\)"),
    ("fractional-edges", (N, EDGES + 0.5), "edge_index", "float64", r"edge_index.long\(\)"),
    ("negative-edge", (N, [[0], [-2]]), "edge_index", "0 -> -2", "from 0"),
    ("pairs-by-row", (N, EDGES.T), "edge_index", r"\(24, 2\)", "transpose"),
    ("text", (N, [["a"], ["b"]]), "edge_index", "str", "convert"),
]


@pytest.mark.parametrize(
    ("arguments", "field", "value", "fix"), [pytest.param(*case[1:], id=case[0]) for case in INPUTS]
)
@refused_case
def test_nodes_as_rows(arguments: Any, field: str, value: str, fix: str, refuses: Any) -> None:
    with refuses(f"^{field}: ", value, fix):
        NodeInputs(*arguments)


# Probes and splits


Z, CLASSES, MASK = x.clone(), torch.from_numpy(Y), torch.from_numpy(TRAIN)
PROBED: list[tuple[str, dict[str, Any], str, str, str]] = [
    ("nan", {"z": Z.clone().fill_(torch.nan)}, "z", "node 0", "without divergence"),
    ("integers", {"z": Z.long()}, "z", "int64", r"z.float\(\)"),
    ("rows", {"z": Z[:4]}, "y", r"\(12,\)", r"shape \(4,\) expected"),
    ("negative-class", {"y": CLASSES - 1}, "y", "class -1 of node 0", "number the classes from 0"),
    ("class-beyond-nodes", {"y": CLASSES * 10**9}, "y", "class 1000000000 of node 1", "number the classes"),
    ("fractional", {"y": CLASSES + 0.5}, "y", "float32", "as an integer"),
    ("mask-of-numbers", {"train_mask": MASK.long()}, "train_mask", "int64", "True or False"),
    ("mask-shape", {"train_mask": MASK[:5]}, "train_mask", r"\(5,\)", "True or False"),
    ("empty-mask", {"train_mask": MASK & False}, "probe", "a training .* node", "correct the masks"),
]


@pytest.mark.parametrize("probe", ["linear", pytest.param("logistic", marks=with_sklearn)])
@pytest.mark.parametrize(
    ("changes", "field", "value", "fix"), [pytest.param(*case[1:], id=case[0]) for case in PROBED]
)
@refused_case
def test_probes(probe: str, changes: dict[str, Any], field: str, value: str, fix: str, refuses: Any) -> None:
    given = {"z": Z, "y": CLASSES, "train_mask": MASK, "select_mask": ~MASK, **changes}
    with refuses(field, value, fix):
        if probe == "linear":
            linear_probe(*given.values(), generator=torch.Generator())
        else:
            logistic_probe(*given.values())


@pytest.mark.parametrize("fractions", [(0.5, 0.6), (float("nan"), 0.1), (-0.1, 0.2), (0.1,), (0.1, 0.1, 0.1)])
@refused_case
def test_fractions_of_a_split(fractions: Any, refuses: Any) -> None:
    with refuses("fractions", "got", "sum below 1", ConfigError):
        random_split(100, numpy_generator(0, "split"), fractions)


@pytest.mark.parametrize("count", [0, 5])
@refused_case
def test_too_few_nodes_to_split(count: int, refuses: Any) -> None:
    with refuses("nodes", f"{count} nodes", "give masks instead"):
        random_split(count, numpy_generator(0, "split"))


@refused_case
def test_a_data_set_made_by_hand_is_checked_alike(refuses: Any) -> None:
    data = load_dataset("digits") if installed("sklearn") else None
    if data is None:
        pytest.skip("scikit-learn is not installed")
    parts = {name: getattr(data, name) for name in ("train_mask", "val_mask", "test_mask")}
    with refuses("y", "class 0, a probe", "split anew"):
        GraphDataset("d", "here", data.x, data.edge_index, data.y * 0, **parts)
