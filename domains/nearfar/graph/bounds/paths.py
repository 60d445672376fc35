r"""What a target hears through one neighbour, minimised over every path of two edges on its own.

With H relaxed, neighbour j sends target i at least :math:`\langle V_i, s_j * P_j \rangle - \langle [V_i]_-, t_j
\rangle`,
:math:`P_j = \sum_k \hat A_{jk} Y_k + b`. Contracting the channels first, each entry can take the value that is worst
for this pair:

.. math:: Q_{ijk} = \langle V_i, s_j * Y_k \rangle, \qquad
          G_{ij} = \sum_k \bigl(L_{jk} [Q_{ijk}]_+ - U_{jk} [Q_{ijk}]_-\bigr)
                   + \langle V_i, s_j * b \rangle - \langle [V_i]_-, t_j \rangle

As in :mod:`nearfar.graph.bounds.tightening` this is a part linear in V, which sparse products give, minus half of
:math:`\sum_k (U - L)_{jk} |Q_{ijk}|`. That sum takes all pairs of neighbours of a node: one small matrix product a
node, batched over nodes of like degree. Hubs take no part.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from nearfar.graph.bounds.hops import Hops
from nearfar.graph.bounds.relaxation import Lines
from nearfar.graph.bounds.rows import by_rows
from nearfar.graph.pattern import Pattern, sddmm


def path_terms(hops: Hops, y: Tensor, hidden: Lines, v: Tensor) -> Tensor:
    """Least that every target can hear from every source, projected on the target's vector.

    Args:
        hops: n targets, m1 hidden nodes, m0 inputs.
        y: Projected inputs, shape ``(m0, d1)``.
        hidden: Lines around the hidden activations, and the middle of their arguments, shape ``(m1, d1)``.
        v: Vectors of the targets, shape ``(n, d1)``.

    Returns:
        One number for every entry of ``hops.second``, shape ``(E,)``; minus infinity for those from hubs.
    """
    pattern = hops.second.pattern
    (lines,) = by_rows(lambda middle, slope: (slope * middle,), hidden.middle, hidden.slope)
    linear = sddmm(pattern, v, lines) - sddmm(pattern, (-v).relu(), hidden.offset)
    terms = linear - path_magnitudes(hops, y, hidden.slope, v) / 2
    return terms.masked_fill(hops.is_hub[pattern.col], -torch.inf)


def path_magnitudes(hops: Hops, y: Tensor, s: Tensor, v: Tensor) -> Tensor:
    """:math:`\\sum_k (U - L)_{jk} |Q_{ijk}|` for every entry (i, j); zero for hubs.

    Args:
        hops: n targets, m1 hidden nodes, m0 inputs.
        y: Shape ``(m0, d1)``.
        s: Shape ``(m1, d1)``.
        v: Shape ``(n, d1)``.

    Returns:
        Shape ``(E,)``.
    """
    result: Tensor = _PathMagnitudes.apply(hops, y, s, v)  # type: ignore[no-untyped-call]
    return result


class _Chunk(NamedTuple):
    """Some hidden nodes with their neighbours, padded to one size.

    Attributes:
        nodes: Shape ``(B,)``.
        inputs: Sources of each, shape ``(B, K)``.
        width: U - L from them, zero where padded, shape ``(B, K)``.
        targets: Targets of each, shape ``(B, I)``.
        entries: Of the second layer, from the node to each of them, shape ``(B, I)``.
        real: What is not padding among them, bool, shape ``(B, I)``.
    """

    nodes: Tensor
    inputs: Tensor
    width: Tensor
    targets: Tensor
    entries: Tensor
    real: Tensor


def _chunk(hops: Hops, begin: int, end: int, most_inputs: int, most_targets: int) -> _Chunk:
    nodes = hops.order[begin:end]
    first, second = hops.first.pattern, hops.second.pattern
    place, real = _padded(first, nodes, most_inputs)
    width = _select(hops.first.width, place).masked_fill_(~real, 0)
    back, real_back = _padded(second.transposed, nodes, most_targets)
    return _Chunk(
        nodes,
        _select(first.col, place),
        width,
        _select(second.transposed.col, back),
        _select(second.to_transposed, back),
        real_back,
    )


def _padded(pattern: Pattern, rows: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Positions of the entries of some rows, ``(B, most)``, and which of them are entries of their row."""
    offset = torch.arange(most, device=rows.device)
    real = offset < _select(pattern.counts, rows)[:, None]
    place = _select(pattern.rowptr, rows)[:, None] + offset
    return place.masked_fill_(~real, 0), real


def _select(x: Tensor, rows: Tensor) -> Tensor:
    """``x[rows]``, which on a CPU is several times as slow as this."""
    return x.index_select(0, rows.flatten()).view(*rows.shape, *x.shape[1:])


class _PathMagnitudes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hops: Hops, y: Tensor, s: Tensor, v: Tensor) -> Tensor:
        ctx.hops = hops
        ctx.save_for_backward(y, s, v)
        out = y.new_zeros(len(hops.second.pattern.col) + 1)  # the last one takes what is padding
        for bounds in hops.chunks:
            chunk = _chunk(hops, *bounds)
            inputs = _select(y, chunk.inputs).mul_(_select(s, chunk.nodes)[:, None])
            paths = torch.bmm(_select(v, chunk.targets), inputs.mT).abs_()
            sums = torch.bmm(paths, chunk.width[..., None])[..., 0]
            out[chunk.entries.masked_fill(~chunk.real, len(out) - 1)] = sums
        return out[:-1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, Tensor, Tensor]:
        hops, (y, s, v) = ctx.hops, ctx.saved_tensors
        to_y, to_s, to_v = (torch.zeros_like(x) for x in (y, s, v))
        for bounds in hops.chunks:
            chunk = _chunk(hops, *bounds)
            vectors, below = _select(v, chunk.targets), _select(y, chunk.inputs)
            slopes = _select(s, chunk.nodes)[:, None]
            inputs = below * slopes
            signed = torch.bmm(vectors, inputs.mT).sign_()
            signed.mul_((grad[chunk.entries] * chunk.real)[..., None]).mul_(chunk.width[:, None])
            to_inputs = torch.bmm(signed.mT, vectors)
            to_v.index_add_(0, chunk.targets.flatten(), torch.bmm(signed, inputs).flatten(0, 1))
            to_y.index_add_(0, chunk.inputs.flatten(), (to_inputs * slopes).flatten(0, 1))
            to_s[chunk.nodes] = (to_inputs * below).sum(1)
        return None, to_y, to_s, to_v
