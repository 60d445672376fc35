"""The SASRec transformer in the form used by CL4SRec, DuoRec and MCLRec: post-norm, GELU, tied output.

Sequences are left-aligned: position 0 is the oldest item in the window, padding (0) is on the right.
Item 0 *inside* a sequence is a masked item: invisible as a key, still a position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from nearfar.recsys.windows import pad_histories
from nearfar.runtime.dropout import Dropout, dropout

INIT_STD = 0.02
NORM_EPS = 1e-12


@dataclass(frozen=True)
class Attention:
    """Who attends to whom among states ``(N, d)`` one after another; sequences of a group are equally long.

    Everything but attention treats states one by one, so groups of different lengths go through a layer together.

    Attributes:
        groups: Sequences, queries of each and keys of each, per group.
        visible: Per group, which key each query sees, bool ``(B, 1, Q, L)``; ``None`` is plain causal.
    """

    groups: Sequence[tuple[int, int, int]]
    visible: Sequence[Tensor | None]

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, heads: int, p: float) -> Tensor:
        """Values of visible keys, weighted, with dropout ``p`` of the weights; all of shape ``(N, d)``."""
        queries = _pieces(query, [(b, q) for b, q, _ in self.groups], heads)
        keys, values = (_pieces(x, [(b, k) for b, _, k in self.groups], heads) for x in (key, value))
        mixed = [
            _attend(*of_group, p).transpose(1, 2).reshape(-1, query.shape[-1])
            for of_group in zip(queries, keys, values, self.visible, strict=True)
        ]
        return _joined(mixed)


def _pieces(x: Tensor, shapes: Sequence[tuple[int, int]], heads: int) -> list[Tensor]:
    """States of each group as ``(B, heads, L, d / heads)``."""
    parts = _parted(x, [rows * size for rows, size in shapes])
    return [part.view(*shape, heads, -1).transpose(1, 2) for part, shape in zip(parts, shapes, strict=True)]


def _parted(x: Tensor, sizes: Sequence[int]) -> Sequence[Tensor]:
    """So many rows for each; a single size, which an exported graph may not know, is not looked at."""
    return [x] if len(sizes) == 1 else x.split(list(sizes))


def _joined(parts: list[Tensor]) -> Tensor:
    """One after the other; a single one is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


class Layer(nn.Module):
    """One transformer layer; queries may be fewer than keys."""

    def __init__(self, dim: int, heads: int, inner: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.heads, self.attention_dropout = heads, attention_dropout
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.attention_norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.inner, self.outer = nn.Linear(dim, inner), nn.Linear(inner, dim)
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, attention: Attention, query: Tensor | None = None) -> Tensor:
        """Attend and transform.

        Args:
            x: States ``(N, d)``.
            attention: Who attends to whom.
            query: Positions to compute, ``(Q, d)``; all of ``x`` by default.
        """
        query = x if query is None else query
        p = self.attention_dropout if self.training else 0.0
        attended = self.out(attention(self.query(query), self.key(x), self.value(x), self.heads, p))
        y: Tensor = self.attention_norm(query + self.dropout(attended))
        z: Tensor = self.norm(y + self.dropout(self.outer(F.gelu(self.inner(y)))))
        return z


def _attend(query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None, p: float) -> Tensor:
    """Attention over visible keys, or over earlier ones, with dropout of its weights; shapes ``(B, heads, L, d)``."""
    if p == 0 or query.device.type != "cpu":
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=visible, is_causal=visible is None, dropout_p=p
        )
    # With dropout PyTorch's CPU attention takes these steps too, with slow masks.
    logits = query @ (key * key.shape[-1] ** -0.5).mT
    if visible is None:
        visible = torch.ones(logits.shape[-2:], dtype=torch.bool).tril()
    weights = logits.masked_fill(~visible, -torch.inf).softmax(-1)
    return dropout(weights, p, training=True) @ value


class SASRecEncoder(nn.Module):
    """Item sequences to states; the state after item t predicts item t + 1.

    Args:
        num_items: Items, numbered from 1; index 0 is padding.
        max_length: Longest sequence.
        dim: Width.
        num_layers: Layers.
        num_heads: Attention heads.
        inner_dim: Width of the feed-forward layers.
        dropout: Dropout of embeddings and layer outputs.
        attention_dropout: Dropout of attention weights.
        generator: Source of the initial weights.
    """

    def __init__(
        self,
        num_items: int,
        *,
        max_length: int = 50,
        dim: int = 64,
        num_layers: int = 2,
        num_heads: int = 2,
        inner_dim: int = 256,
        dropout: float = 0.2,
        attention_dropout: float = 0.2,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.arguments = {
            "num_items": num_items,
            "max_length": max_length,
            "dim": dim,
            "num_layers": num_layers,
            "num_heads": num_heads,
            "inner_dim": inner_dim,
            "dropout": dropout,
            "attention_dropout": attention_dropout,
        }
        self.max_length = max_length
        self.item = nn.Embedding(num_items + 1, dim, padding_idx=0)
        self.position = nn.Embedding(max_length, dim)
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(
            Layer(dim, num_heads, inner_dim, dropout, attention_dropout) for _ in range(num_layers)
        )
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Normal(0, 0.02) weights, zero biases; the padding row stays zero, no class belongs to it."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=INIT_STD, generator=generator)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=INIT_STD, generator=generator)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
        with torch.no_grad():
            self.item.weight[0] = 0

    def forward(self, items: Tensor) -> Tensor:
        """State after every position of unmasked sequences.

        Args:
            items: Left-aligned item indices, int64 ``(B, L)``, ``L <= max_length``; 0 only as padding.

        Returns:
            States ``(B, L, d)``; those at padding mean nothing.
        """
        x = self._embed([items])
        # Padding is on the right, so the causal mask alone hides it from every real position.
        causal = Attention([(len(items), items.shape[1], items.shape[1])], [None])
        for layer in self.layers:
            x = layer(x, causal)
        return x.view(*items.shape, -1)

    def last(self, items: Tensor, lengths: Tensor) -> Tensor:
        """State after the last position of each sequence, masked items (0) allowed inside.

        Args:
            items: Left-aligned item indices, int64 ``(B, L)``, ``L <= max_length``.
            lengths: Positions per sequence, masked ones counted, int64 ``(B,)``, each at least 1.

        Returns:
            States ``(B, d)``; the top layer is computed for that one position only.
        """
        return self.last_of_groups([(items, lengths)])

    def last_of_groups(self, groups: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """The same for groups of sequences that are padded to different lengths, one group after the other.

        Args:
            groups: Items ``(B, L)`` and lengths ``(B,)`` of each, as of :meth:`last`.
        """
        x = self._embed([items for items, _ in groups])
        visible = [_visible(items) for items, _ in groups]
        shapes = [items.shape for items, _ in groups]
        everywhere = Attention([(rows, size, size) for rows, size in shapes], visible)
        for layer in self.layers[:-1]:
            x = layer(x, everywhere)
        ends, seen, begin = [], [], 0
        for (items, lengths), mask in zip(groups, visible, strict=True):
            rows, size = items.shape
            ends.append(begin + torch.arange(rows, device=items.device) * size + lengths - 1)
            seen.append(mask.gather(2, (lengths - 1)[:, None, None, None].expand(-1, 1, 1, size)))
            begin += rows * size
        at_ends = Attention([(rows, 1, size) for rows, size in shapes], seen)
        state: Tensor = self.layers[-1](x, at_ends, x.index_select(0, _joined(ends)))
        return state

    @torch.no_grad()
    def embed(self, histories: list[NDArray[np.int64]]) -> Tensor:
        """User vectors ``(N, d)`` after histories of item indices, oldest first, each non-empty."""
        items, lengths = pad_histories(histories, self.max_length)
        device = self.item.weight.device
        return self.last(items.to(device), lengths.to(device))

    @torch.no_grad()
    def score(self, histories: list[NDArray[np.int64]]) -> Tensor:
        """Score of every item as the next one after each history, ``(N, num_items)``."""
        return self.logits(self.embed(histories))

    def logits(self, states: Tensor) -> Tensor:
        """Logit of every item, ``(..., num_items)``; column ``i - 1`` belongs to item ``i``."""
        return states @ self.item.weight[1:].T

    def _embed(self, groups: Sequence[Tensor]) -> Tensor:
        """Input states ``(N, d)`` of items ``(B, L)`` of each group.

        Items of all groups are looked up at once: the gradient of each look-up would be a table of all items.
        """
        longest = max(items.shape[1] for items in groups)
        if longest > self.max_length:
            raise ValueError(f"items: at most max_length = {self.max_length} positions, got {longest}")
        vectors = self.item(torch.cat([items.flatten() for items in groups]))
        parts = _parted(vectors, [items.numel() for items in groups])
        placed = [
            (part.view(*items.shape, -1) + self.position.weight[: items.shape[1]]).flatten(0, 1)
            for part, items in zip(parts, groups, strict=True)
        ]
        x: Tensor = self.dropout(self.norm(_joined(placed)))
        return x


def _visible(items: Tensor) -> Tensor:
    """Which items each position sees, itself and earlier ones but no masked ones, bool ``(B, 1, L, L)``."""
    size = items.shape[1]
    causal = torch.ones(size, size, dtype=torch.bool, device=items.device).tril()
    visible = causal & (items != 0)[:, None, :]
    # A softmax over nothing is NaN: a query that may see nothing sees itself.
    blind = ~visible.any(-1, keepdim=True)
    return (visible | (blind & torch.eye(size, dtype=torch.bool, device=items.device)))[:, None]
