"""What edges and features must be before anything is computed from them, and what can be put right."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

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
    _check_ids(edge_index, num_nodes)
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
    _check_ids(edge_index, num_nodes)
    kept = edge_index[:, edge_index[0] != edge_index[1]]
    loops = edge_index.shape[1] - kept.shape[1]
    keys = _sorted_keys(kept, num_nodes).unique_consecutive()
    duplicates = kept.shape[1] - len(keys)
    edges = torch.stack([keys // num_nodes, keys % num_nodes])
    return edges, tuple(_remarks(edges, keys, num_nodes, loops, duplicates))


def check_features(x: Tensor, num_nodes: int | None = None) -> None:
    """Refuse features that nothing can be learnt from.

    Args:
        x: Features, floating point, shape ``(N, d)``; dense, sparse COO or sparse CSR.
        num_nodes: Rows there must be.

    Raises:
        DataError: If shape, layout or type is wrong, there are none, or one is not finite.

    Example:
        >>> check_features(torch.tensor([[1.0, 2.0], [3.0, float("nan")]]))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        nearfar.errors.DataError: x: nan in row 1, column 1 (1 of 4 numbers is not finite); replace it, for example ...
    """
    if x.dim() != 2:
        raise DataError(f"x: shape (N, d) expected, one row a node, got {tuple(x.shape)}")
    if x.layout not in (torch.strided, torch.sparse_coo, torch.sparse_csr):
        raise DataError(f"x: dense, COO or CSR expected, got {x.layout}; convert it: x.to_sparse_csr()")
    if not x.is_floating_point():
        raise DataError(f"x: floating point expected, got {x.dtype}; convert it: x.float()")
    if 0 in x.shape:
        raise DataError(f"x: no features, the shape is {tuple(x.shape)}")
    if num_nodes is not None and x.shape[0] != num_nodes:
        raise DataError(f"x: {x.shape[0]} rows for {num_nodes} nodes; one row a node is expected")
    coalesced = x.coalesce() if x.layout == torch.sparse_coo else x
    numbers = coalesced if x.layout == torch.strided else coalesced.values()
    finite = numbers.isfinite()
    if finite.all():
        return
    first = (~finite).nonzero()[0]
    row, column = _place(coalesced, first)
    wrong = int((~finite).sum())
    raise DataError(
        f"x: {numbers[tuple(first)].item()} in row {row}, column {column} ({wrong:,} of {numbers.numel():,} numbers "
        f"{'is' if wrong == 1 else 'are'} not finite); replace it, for example by torch.nan_to_num"
    )


def _place(x: Tensor, index: Tensor) -> tuple[int, int]:
    """Row and column of a stored number; ``index`` is its place among the stored ones."""
    if x.layout == torch.strided:
        return int(index[0]), int(index[1])
    if x.layout == torch.sparse_coo:
        return int(x.indices()[0, index]), int(x.indices()[1, index])
    rows = x.crow_indices()
    return int(torch.searchsorted(rows, index.to(rows), right=True)) - 1, int(x.col_indices()[index])


def _check_ids(edge_index: Tensor, num_nodes: int) -> None:
    if num_nodes < 1:
        raise DataError(f"num_nodes: a graph has one node at least, got {num_nodes}")
    if edge_index.dim() == 2 and edge_index.shape[1] == 2 and edge_index.shape[0] != 2:
        raise DataError(
            f"edge_index: shape (2, E) expected, got {tuple(edge_index.shape)}; transpose it: "
            "edge_index.t().contiguous()"
        )
    if edge_index.dim() != 2 or edge_index.shape[0] != 2:
        raise DataError(f"edge_index: shape (2, E) expected, got {tuple(edge_index.shape)}")
    if edge_index.dtype != torch.int64:
        raise DataError(
            f"edge_index: ids of type int64 expected, got {edge_index.dtype}; convert them: edge_index.long()"
        )
    if edge_index.numel() == 0 or (edge_index.min() >= 0 and edge_index.max() < num_nodes):
        return
    outside = ((edge_index < 0) | (edge_index >= num_nodes)).any(0)
    first = int(outside.nonzero()[0])
    source, target = edge_index[:, first].tolist()
    raise DataError(
        f"edge_index: edge {first} is {source} -> {target}, ids must be in [0, {num_nodes}) "
        f"({_many(int(outside.sum()), 'such edge')}); number the nodes from 0 or correct num_nodes"
    )


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
