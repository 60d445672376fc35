"""Edges and features that must be refused, and edges that can be put right."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nearfar.errors import DataError
from nearfar.graph.checks import check_edges, check_features, clean_edges


def slow_clean(edges: Tensor) -> tuple[list[tuple[int, int]], int, int]:
    """Edges in order, self loops, duplicates: with a set."""
    pairs = list(zip(*edges.tolist(), strict=True))
    proper = [(a, b) for a, b in pairs if a != b]
    return sorted(set(proper)), len(pairs) - len(proper), len(proper) - len(set(proper))


@pytest.mark.parametrize("seed", range(5))
def test_clean_edges_against_sets(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    num_nodes = 12
    edges = torch.randint(num_nodes - 2, (2, 40), generator=generator)
    expected, loops, duplicates = slow_clean(edges)
    found, warnings = clean_edges(edges, num_nodes)
    assert list(zip(*found.tolist(), strict=True)) == expected
    assert found.dtype == torch.int64
    text = "; ".join(warnings)
    assert re.search(rf"\b{loops} self loops?\b", text) if loops else "self loop" not in text
    assert re.search(rf"\b{duplicates} duplicate edges?\b", text) if duplicates else "duplicate" not in text
    isolated = num_nodes - len({node for pair in expected for node in pair})
    assert f"{isolated} of 12 nodes have no edge" in warnings
    one_way = sum((b, a) not in set(expected) for a, b in expected)
    assert any(w.startswith(f"{one_way} of {len(expected)} edges") for w in warnings)
    assert "the augmentation treats directions independently" in warnings[-1]
    check_edges(found, num_nodes)
    check_edges(found[:, torch.randperm(found.shape[1], generator=generator)], num_nodes)


def test_clean_edges_have_nothing_to_say_of_a_clean_graph() -> None:
    edges = torch.tensor([[0, 0, 1, 2], [1, 2, 0, 0]])
    found, warnings = clean_edges(edges, 3)
    assert torch.equal(found, edges)
    assert warnings == ()
    shuffled, warnings = clean_edges(edges[:, [3, 1, 0, 2]], 3)
    assert torch.equal(shuffled, edges)
    assert warnings == ()


def test_clean_edges_in_words() -> None:
    edges = torch.tensor([[2, 2, 0, 1, 0], [2, 2, 1, 0, 1]])
    assert clean_edges(edges, 4)[1] == (
        "2 self loops and 1 duplicate edge were left out",
        "2 of 4 nodes have no edge",
    )
    assert clean_edges(torch.tensor([[0, 1], [0, 0]]), 2)[1] == (
        "1 self loop was left out",
        "1 of 1 edges has no opposite; it is kept as directed: the augmentation treats directions independently",
    )


def test_no_edges_at_all() -> None:
    none = torch.empty(2, 0, dtype=torch.int64)
    check_edges(none, 3)
    found, warnings = clean_edges(none, 3)
    assert found.shape == (2, 0)
    assert warnings == ("3 of 3 nodes have no edge",)
    assert clean_edges(torch.tensor([[1], [1]]), 2)[0].shape == (2, 0)


FORM = [
    ("num_nodes: a graph has one node at least, got 0", torch.zeros(2, 1, dtype=torch.int64), 0),
    (r"shape \(2, E\) expected, got \(5, 2\); transpose it", torch.zeros(5, 2, dtype=torch.int64), 3),
    (r"shape \(2, E\) expected, got \(4,\)", torch.zeros(4, dtype=torch.int64), 3),
    (r"shape \(2, E\) expected, got \(3, 4\)", torch.zeros(3, 4, dtype=torch.int64), 3),
    (r"int64 expected, got torch.float32; convert them: edge_index.long\(\)", torch.zeros(2, 3), 3),
    (r"int64 expected, got torch.int32; convert", torch.zeros(2, 3, dtype=torch.int32), 3),
    (r"edge 2 is 1 -> 3, ids must be in \[0, 3\) \(1 such edge\)", torch.tensor([[0, 1, 1], [1, 2, 3]]), 3),
    (r"edge 1 is -1 -> 0, .* \(2 such edges\)", torch.tensor([[0, -1, 7], [1, 0, 0]]), 3),
]


@pytest.mark.parametrize(("message", "edges", "num_nodes"), FORM)
@pytest.mark.row("B01", bad_inputs=1)
def test_both_refuse_what_is_no_graph(message: str, edges: Tensor, num_nodes: int) -> None:
    for check in (check_edges, clean_edges):
        with pytest.raises(DataError, match=message):
            check(edges, num_nodes)


@pytest.mark.parametrize(
    ("message", "edges"),
    [
        (r"2 self loops, the first is edge 1 \(1 -> 1\).*remove_self_loops", [[0, 1, 2], [1, 1, 2]]),
        (
            r"3 duplicate edges, the first is 0 -> 1, which is there 3 times.*coalesce",
            [[2, 0, 0, 2, 0], [1, 1, 1, 1, 1]],
        ),
        (r"1 duplicate edge, the first is 1 -> 2, which is there 2 times", [[0, 1, 1], [1, 2, 2]]),
    ],
)
@pytest.mark.row("B01", bad_inputs=1)
def test_check_edges_is_strict(message: str, edges: list[list[int]]) -> None:
    with pytest.raises(DataError, match=message):
        check_edges(torch.tensor(edges), 3)


def test_one_direction_without_the_other_is_a_graph() -> None:
    check_edges(torch.tensor([[0, 2, 1], [1, 0, 2]]), 3)


@pytest.mark.parametrize("layout", ["dense", "coo", "csr"])
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.row("B01", bad_inputs=1)
def test_check_features_finds_the_first_in_every_layout(layout: str) -> None:
    x = torch.arange(12, dtype=torch.float64).view(4, 3)
    x[0] = 0
    converters: dict[str, Callable[[Tensor], Tensor]] = {
        "dense": lambda t: t,
        "coo": lambda t: t.to_sparse(),
        "csr": lambda t: t.to_sparse_csr(),
    }
    convert = converters[layout]
    check_features(convert(x), 4)
    x[3, 2] = torch.inf
    x[2, 1] = torch.nan
    with pytest.raises(DataError, match=r"x: nan in row 2, column 1 \(2 of (12|9) numbers are not finite\)"):
        check_features(convert(x))


@pytest.mark.parametrize(
    ("message", "x"),
    [
        (r"shape \(N, d\) expected, one row a node, got \(3,\)", torch.zeros(3)),
        (r"floating point expected, got torch.int64; convert it: x.float\(\)", torch.zeros(3, 2).long()),
        (r"no features, the shape is \(0, 2\)", torch.zeros(0, 2)),
        (r"no features, the shape is \(3, 0\)", torch.zeros(3, 0)),
        ("2 rows for 3 nodes", torch.zeros(2, 2)),
    ],
)
@pytest.mark.row("B01", bad_inputs=1)
def test_features_that_are_none(message: str, x: Tensor) -> None:
    with pytest.raises(DataError, match=message):
        check_features(x, 3)


@pytest.mark.filterwarnings("ignore:Sparse CSC tensor support is in beta")
def test_features_by_column() -> None:
    with pytest.raises(DataError, match="dense, COO or CSR expected, got torch.sparse_csc"):
        check_features(torch.eye(3).to_sparse_csc())
