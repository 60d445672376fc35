"""What edges and features must be before anything is computed from them, and what can be put right."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from nearfar.adapters.arrays import LARGEST
from nearfar.errors import DataError


def check_edges(edge_index: Tensor, num_nodes: int) -> None:
    """Refuse edges that a bound must not be computed from; one direction without the other is allowed.

    Args:
        edge_index: Source and target of every edge, int64, shape ``(2, E)``, in any order.
        num_nodes: Ids are in ``[0, num_nodes)``.

    Raises:
        DataError: If shape, type or an id is wrong, an edge is there twice, or it joins a node to itself.

    Example:
        >>> check_edges(torch.tensor([[0, 1], [1, 0]]), num_nodes=2)
        >>> check_edges(torch.tensor([[0, 1], [1, 1]]), num_nodes=2)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        nearfar.errors.DataError: edge_index: 1 self loop, the first is edge 1 (1 -> 1); leave self loops out: ...
    """
    check_ids(edge_index, num_nodes)
    loops = edge_index[0] == edge_index[1]
    if loops.any():
        first = int(loops.nonzero()[0])
        node = int(edge_index[0, first])
        raise DataError(
            f"edge_index: {_many(int(loops.sum()), 'self loop')}, the first is edge {first} ({node} -> {node}); "
            "leave self loops out: torch_geometric.utils.remove_self_loops"
        )
    keys = _sorted_keys(edge_index, num_nodes)
    repeated = keys[1:] == keys[:-1]
    if repeated.any():
        first = int(repeated.nonzero()[0])
        source, target = divmod(int(keys[first]), num_nodes)
        count = int(((edge_index[0] == source) & (edge_index[1] == target)).sum())
        raise DataError(
            f"edge_index: {_many(int(repeated.sum()), 'duplicate edge')}, the first is {source} -> {target}, which is "
            f"there {count} times; keep one of each: torch_geometric.utils.coalesce"
        )


def clean_edges(edge_index: Tensor, num_nodes: int) -> tuple[Tensor, tuple[str, ...]]:
    """Sort edges by source, then target, and leave self loops and duplicates out.

    Args:
        edge_index: Source and target of every edge, int64, shape ``(2, E)``.
        num_nodes: Ids are in ``[0, num_nodes)``.

    Returns:
        The edges, int64, shape ``(2, E')``, and what is worth saying: how many were left out, nodes without any
        edge, edges without the opposite one.

    Raises:
        DataError: If shape, type or an id is wrong.

    Example:
        >>> edges, warnings = clean_edges(torch.tensor([[1, 0, 1, 1], [0, 1, 1, 0]]), num_nodes=2)
        >>> edges.tolist(), warnings
        ([[0, 1], [1, 0]], ('1 self loop and 1 duplicate edge were left out',))
    """
    check_ids(edge_index, num_nodes)
    kept = edge_index[:, edge_index[0] != edge_index[1]]
    loops = edge_index.shape[1] - kept.shape[1]
    keys = _sorted_keys(kept, num_nodes).unique_consecutive()
    duplicates = kept.shape[1] - len(keys)
    edges = torch.stack([keys // num_nodes, keys % num_nodes])
    return edges, tuple(_remarks(edges, keys, num_nodes, loops, duplicates))


def check_ids(edge_index: Tensor, num_nodes: int) -> None:
    """Refuse edges between nodes that are not there; self loops and repeated edges are allowed.

    Args:
        edge_index: Source and target of every edge, int64, shape ``(2, E)``.
        num_nodes: Ids are in ``[0, num_nodes)``.

    Raises:
        DataError: If shape, type or an id is wrong.

    Example:
        >>> check_ids(torch.tensor([[0, 5], [1, 0]]), num_nodes=2)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        nearfar.errors.DataError: edge_index: edge 1 is 5 -> 0, ids must be in [0, 2) (1 such edge); number the ...
    """
    if num_nodes < 1:
        raise DataError(f"num_nodes: a graph has one node at least, got {num_nodes}; give it some")
    check_edge_form("edge_index", edge_index)
    if edge_index.numel() == 0 or (edge_index.min() >= 0 and edge_index.max() < num_nodes):
        return
    outside = ((edge_index < 0) | (edge_index >= num_nodes)).any(0)
    first = int(outside.nonzero()[0])
    source, target = edge_index[:, first].tolist()
    raise DataError(
        f"edge_index: edge {first} is {source} -> {target}, ids must be in [0, {num_nodes}) "
        f"({_many(int(outside.sum()), 'such edge')}); number the nodes from 0 or correct num_nodes"
    )


def check_edge_form(name: str, edges: Tensor) -> None:
    """Refuse edges of another shape or type; looks at no number, so that no device is waited for.

    Args:
        name: What they are called, for messages.
        edges: Source and target of every edge, int64, shape ``(2, E)``.

    Raises:
        DataError: If shape or type is wrong.

    Example:
        >>> check_edge_form("view_edge_index", torch.zeros(5, 2).long())  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        nearfar.errors.DataError: view_edge_index: shape (2, E) expected, got (5, 2); transpose it: ...
    """
    if not isinstance(edges, Tensor):
        raise DataError(f"{name}: a tensor of shape (2, E) expected, got {type(edges).__name__}; convert it")
    if edges.dim() != 2 or edges.shape[0] != 2:
        transposed = edges.dim() == 2 and edges.shape[1] == 2
        fix = (
            f"transpose it: {name}.t().contiguous()" if transposed else "give sources and targets as two rows"
        )
        raise DataError(f"{name}: shape (2, E) expected, got {tuple(edges.shape)}; {fix}")
    if edges.dtype != torch.int64:
        raise DataError(f"{name}: ids of type int64 expected, got {edges.dtype}; convert them: {name}.long()")


def feature_remarks(x: Tensor) -> tuple[str, ...]:
    """Say which nodes have features that tell them apart from nobody.

    Args:
        x: Dense features, as they came, shape ``(N, d)``.

    Returns:
        What is worth saying: rows of zeros; rows of one other number; features that are the same at all nodes.

    Example:
        >>> feature_remarks(torch.tensor([[0.0, 0.0], [1.0, 2.0], [3.0, 3.0]]))  # doctest: +ELLIPSIS
        ('x: 1 of 3 rows is all zeros, the first is row 0', 'x: 1 of 3 rows is one number throughout, ...
    """
    zero = (x == 0).all(1)
    flat = (x == x[:, :1]).all(1) & ~zero if x.shape[1] > 1 else torch.zeros_like(zero)
    found = []
    for rows, what in ((zero, "all zeros"), (flat, "one number throughout")):
        count = int(rows.sum())
        if count:
            verb = "is" if count == 1 else "are"
            found.append(
                f"x: {count:,} of {len(x):,} rows {verb} {what}, the first is row {int(rows.nonzero()[0])}"
            )
    if len(x) > 1 and bool((x == x[:1]).all()):
        found.append("x: all nodes have the same features, only edges tell them apart")
    return tuple(found)


def check_classes(name: str, y: Tensor, num_nodes: int) -> None:
    """Refuse classes that are not numbered from 0.

    Args:
        name: What they are called, for messages.
        y: Classes, int64, shape ``(num_nodes,)``.
        num_nodes: Nodes; more classes than these there cannot be.

    Raises:
        DataError: If shape or type is wrong, or a class is negative or ``num_nodes`` or more.

    Example:
        >>> check_classes("y", torch.tensor([0, 7]), num_nodes=2)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        nearfar.errors.DataError: y: class 7 of node 1, 0 to 1 expected for 2 nodes; number the classes from 0: ...
    """
    check_per_node(name, y, torch.int64, num_nodes)
    outside = (y < 0) | (y >= num_nodes)
    if bool(outside.any()):
        node = int(outside.nonzero()[0])
        raise DataError(
            f"{name}: class {int(y[node])} of node {node}, 0 to {num_nodes - 1} expected for {num_nodes} nodes; number "
            f"the classes from 0: {name}.unique(return_inverse=True)[1]"
        )


def check_per_node(name: str, values: Tensor, dtype: torch.dtype, num_nodes: int) -> None:
    """Refuse what is not one value of a type for every node.

    Args:
        name: What it is called, for messages.
        values: Shape ``(num_nodes,)``.
        dtype: Of the values.
        num_nodes: Nodes.

    Raises:
        DataError: If shape or type is another.

    Example:
        >>> check_per_node("train_mask", torch.tensor([0, 1]), torch.bool, 2)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        nearfar.errors.DataError: train_mask: torch.bool of shape (2,) expected, one a node, got torch.int64 of (2,)...
    """
    if values.dtype != dtype or values.shape != (num_nodes,):
        fix = (
            "give True or False for each node"
            if dtype == torch.bool
            else "give each node its class as an integer"
        )
        raise DataError(
            f"{name}: {dtype} of shape ({num_nodes},) expected, one a node, got {values.dtype} of "
            f"{tuple(values.shape)}; {fix}"
        )


def check_features(x: Tensor, num_nodes: int | None = None) -> None:
    """Refuse features that nothing can be learnt from.

    Args:
        x: Features, floating point, shape ``(N, d)``; dense, sparse COO or sparse CSR.
        num_nodes: Rows there must be.

    Raises:
        DataError: If shape, layout or type is wrong, there are none, or one is not finite or has no square in float32.

    Example:
        >>> check_features(torch.tensor([[1.0, 2.0], [3.0, float("nan")]]))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        nearfar.errors.DataError: x: nan in row 1, column 1 (1 of 4 numbers is not finite); replace it, for example ...
    """
    if not isinstance(x, Tensor):
        raise DataError(
            f"x: a tensor of shape (N, d) expected, got {type(x).__name__}; give every node features"
        )
    if x.dim() != 2:
        raise DataError(
            f"x: shape (N, d) expected, one row a node, got {tuple(x.shape)}; reshape it: x.view(len(x), -1)"
        )
    if x.layout not in (torch.strided, torch.sparse_coo, torch.sparse_csr):
        raise DataError(f"x: dense, COO or CSR expected, got {x.layout}; convert it: x.to_sparse_csr()")
    if not x.is_floating_point():
        raise DataError(f"x: floating point expected, got {x.dtype}; convert it: x.float()")
    if 0 in x.shape:
        raise DataError(
            f"x: no features, the shape is {tuple(x.shape)}; give one row a node and one feature at least"
        )
    if num_nodes is not None and x.shape[0] != num_nodes:
        raise DataError(f"x: {x.shape[0]} rows for {num_nodes} nodes; one row a node is expected")
    coalesced = x.coalesce() if x.layout == torch.sparse_coo else x
    numbers = coalesced if x.layout == torch.strided else coalesced.values()
    fine = numbers.abs() <= LARGEST  # NaN is not
    if fine.all():
        return
    finite = numbers.isfinite()
    beyond = bool(finite.all())
    wrong = ~fine if beyond else ~finite
    first, count = wrong.nonzero()[0], int(wrong.sum())
    row, column = _place(coalesced, first)
    fix = "divide the features by a power of ten" if beyond else "replace it, for example by torch.nan_to_num"
    raise DataError(
        f"x: {numbers[tuple(first)].item()} in row {row}, column {column} ({count:,} of {numbers.numel():,} numbers "
        f"{'is' if count == 1 else 'are'} {f'beyond {LARGEST:g}' if beyond else 'not finite'}); {fix}"
    )


def check_probe(z: Tensor, y: Tensor, **masks: Tensor) -> None:
    """Refuse embeddings, classes and parts that do not belong together.

    Args:
        z: Embeddings, floating point, shape ``(n, d)``.
        y: Classes, int64, shape ``(n,)``.
        **masks: Nodes to train and to select on, by name, bool, each of shape ``(n,)``.

    Raises:
        DataError: If something is not as described, or an embedding is not finite.

    Example:
        >>> check_probe(torch.full((2, 3), torch.nan), torch.tensor([0, 1]))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        nearfar.errors.DataError: z: embeddings are not finite, the first is that of node 0: there is nothing to ...
    """
    if z.dim() != 2 or 0 in z.shape or not z.is_floating_point():
        raise DataError(
            f"z: floating point of shape (n, d) expected, one row a node, got {z.dtype} of {tuple(z.shape)}; convert "
            "it: z.float()"
        )
    check_classes("y", y, len(z))
    for name, mask in masks.items():
        check_per_node(name, mask, torch.bool, len(z))
    finite = z.isfinite().all(1)
    if not bool(finite.all()):
        node = int((~finite).nonzero()[0])
        raise DataError(
            f"z: embeddings are not finite, the first is that of node {node}: there is nothing to probe; train without "
            "divergence first"
        )


def _place(x: Tensor, index: Tensor) -> tuple[int, int]:
    """Row and column of a stored number; ``index`` is its place among the stored ones."""
    if x.layout == torch.strided:
        return int(index[0]), int(index[1])
    if x.layout == torch.sparse_coo:
        return int(x.indices()[0, index]), int(x.indices()[1, index])
    rows = x.crow_indices()
    return int(torch.searchsorted(rows, index.to(rows), right=True)) - 1, int(x.col_indices()[index])


def _sorted_keys(edge_index: Tensor, num_nodes: int) -> Tensor:
    """One number an edge, ascending; source first. ``(E,)``"""
    keys = edge_index[0] * num_nodes + edge_index[1]
    # Loaders hand edges over in this order, and sorting is most of the work.
    if (keys[1:] >= keys[:-1]).all():
        return keys
    # NumPy's vectorised sort takes a fraction of the time of torch's, which finds the permutation too.
    return torch.from_numpy(np.sort(keys.numpy())) if keys.device.type == "cpu" else keys.sort().values


def _remarks(edges: Tensor, keys: Tensor, num_nodes: int, loops: int, duplicates: int) -> Iterable[str]:
    left_out = [
        _many(count, what) for count, what in ((loops, "self loop"), (duplicates, "duplicate edge")) if count
    ]
    if left_out:
        yield f"{' and '.join(left_out)} {'was' if loops + duplicates == 1 else 'were'} left out"
    touched = torch.zeros(num_nodes, dtype=torch.bool, device=edges.device)
    touched[edges.flatten()] = True
    isolated = num_nodes - int(touched.sum())
    if isolated:
        verb = "has" if isolated == 1 else "have"
        yield f"{isolated:,} of {num_nodes:,} nodes {verb} no edge"
    opposite = _sorted_keys(edges.flip(0), num_nodes)
    place = torch.searchsorted(keys, opposite).clamp_(max=max(len(keys) - 1, 0))
    one_way = int((keys[place] != opposite).sum())
    if one_way:
        verb = "has no opposite; it is" if one_way == 1 else "have no opposite; they are"
        yield (
            f"{one_way:,} of {len(keys):,} edges {verb} kept as directed: "
            "the augmentation treats directions independently"
        )


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
