"""The SASRec transformer in the form used by CL4SRec, DuoRec and MCLRec: post-norm, GELU, tied output.

Sequences are left-aligned: position 0 is the oldest item in the window, padding (0) is on the right.
Item 0 *inside* a sequence is a masked item: invisible as a key, still a position.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from nearfar.recsys.windows import pad_histories
from nearfar.runtime.dropout import Dropout, dropout

INIT_STD = 0.02
NORM_EPS = 1e-12


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

    def forward(self, x: Tensor, visible: Tensor | None, query: Tensor | None = None) -> Tensor:
        """Attend and transform.

        Args:
            x: States ``(B, L, d)``.
            visible: Which key each query sees, bool ``(B, 1, Q, L)``; ``None`` is plain causal.
            query: Positions to compute, ``(B, Q, d)``; all of ``x`` by default.
        """
        query = x if query is None else query
        attended = _attend(
            self._split(self.query(query)),
            self._split(self.key(x)),
            self._split(self.value(x)),
            visible,
            self.attention_dropout if self.training else 0.0,
        )
        attended = self.out(attended.transpose(1, 2).flatten(2))
        y: Tensor = self.attention_norm(query + self.dropout(attended))
        z: Tensor = self.norm(y + self.dropout(self.outer(F.gelu(self.inner(y)))))
        return z

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


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
        x = self._embed(self.item(items))
        for layer in self.layers:
            # Padding is on the right, so the causal mask alone hides it from every real position.
            x = layer(x, None)
        return x

    def last(self, items: Tensor, lengths: Tensor) -> Tensor:
        """State after the last position of each sequence, masked items (0) allowed inside.

        Args:
            items: Left-aligned item indices, int64 ``(B, L)``, ``L <= max_length``.
            lengths: Positions per sequence, masked ones counted, int64 ``(B,)``, each at least 1.

        Returns:
            States ``(B, d)``; the top layer is computed for that one position only.
        """
        return self._last(items, lengths, self.item(items))

    def last_of_groups(self, groups: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """The same for groups of sequences that are padded to different lengths, one group after the other.

        Items of all groups are looked up at once: the gradient of each look-up would be a table of all items.

        Args:
            groups: Items ``(B, L)`` and lengths ``(B,)`` of each, as of :meth:`last`.
        """
        tokens = torch.cat([items.flatten() for items, _ in groups])
        vectors = self.item(tokens).split([items.numel() for items, _ in groups])
        return torch.cat(
            [
                self._last(items, lengths, some.view(*items.shape, -1))
                for (items, lengths), some in zip(groups, vectors, strict=True)
            ]
        )

    def _last(self, items: Tensor, lengths: Tensor, vectors: Tensor) -> Tensor:
        x = self._embed(vectors)
        size = items.shape[1]
        causal = torch.ones(size, size, dtype=torch.bool, device=items.device).tril()
        visible = causal & (items != 0)[:, None, :]
        # A softmax over nothing is NaN: a query that may see nothing sees itself.
        blind = ~visible.any(-1, keepdim=True)
        visible = (visible | (blind & torch.eye(size, dtype=torch.bool, device=items.device)))[:, None]
        for layer in self.layers[:-1]:
            x = layer(x, visible)
        end = (lengths - 1)[:, None, None]
        query = x.gather(1, end.expand(-1, 1, x.shape[-1]))
        seen = visible.gather(2, end[:, None].expand(-1, 1, 1, size))
        state: Tensor = self.layers[-1](x, seen, query)
        return state[:, 0]

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

    def _embed(self, vectors: Tensor) -> Tensor:
        size = vectors.shape[1]
        if size > self.max_length:
            raise ValueError(f"items: at most max_length = {self.max_length} positions, got {size}")
        x: Tensor = self.dropout(self.norm(vectors + self.position.weight[:size]))
        return x
