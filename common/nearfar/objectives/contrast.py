r"""The softmax contrast every method is written in.

Row i of ``q`` is compared with keys; one of them is its positive, all keys it may see form the
denominator:

.. math:: \ell_i = \log \sum_{j \in A(i)} e^{s_{ij}} - s_{i,+}, \qquad
          s_{ij} = \mathrm{sim}(q_i, k_j) / \tau

``contrast(q, k)`` is the one-directional InfoNCE of CPC (van den Oord et al., 2018);
``symmetric=True`` is CLIP's (Radford et al., 2021); ``contrast(cat([a, b]), positives=("paired", N))``
is SimCLR's NT-Xent (Chen et al., 2020).
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from torch import Tensor

from nearfar.objectives.dense import dense_contrast

Similarity: TypeAlias = Literal["cosine", "dot"]
Positives: TypeAlias = Literal["paired"] | tuple[Literal["paired"], int]


def contrast(
    q: Tensor,
    k: Tensor | None = None,
    *,
    positives: Positives = "paired",
    temperature: float | Tensor = 0.1,
    similarity: Similarity = "cosine",
    symmetric: bool = False,
    reduction: Literal["mean", "none"] = "mean",
    backend: Literal["auto", "dense"] = "auto",
) -> Tensor:
    r"""Negative log-probability of picking the positive among the keys.

    Args:
        q: Anchors, shape ``(..., N, d)``, floating point.
        k: Keys, same shape as ``q``; ``None`` contrasts ``q`` with itself, each row leaving itself out.
        positives: ``"paired"``: row i of ``k`` belongs to row i of ``q``. ``("paired", P)``: rows i and
            i + P (modulo N = 2 P) of ``q`` are two views of one sample; needs ``k=None``.
        temperature: Positive number or scalar tensor; a tensor receives its gradient.
        similarity: ``"cosine"`` normalises the rows, ``"dot"`` does not.
        symmetric: Average the loss of rows over keys and of keys over rows; needs ``k``.
        reduction: ``"mean"`` over all rows, or ``"none"`` for one value a row, shape ``(..., N)``.
        backend: ``"dense"`` holds the N x N logits; ``"auto"`` chooses.

    Returns:
        Scalar, or ``(..., N)`` with ``reduction="none"``. Half precision is computed in float32.

    Raises:
        ValueError: If a shape, dtype, temperature or combination of arguments makes no sense.

    Example:
        >>> import torch
        >>> z = torch.ones(4, 3)
        >>> round(contrast(z, z).item(), 4)  # equal rows: chance level, log 4
        1.3863
    """
    _check(q, k, positives, temperature, symmetric)
    if similarity not in ("cosine", "dot"):
        raise ValueError(f"similarity: 'cosine' or 'dot' expected, got {similarity!r}")
    if reduction not in ("mean", "none"):
        raise ValueError(f"reduction: 'mean' or 'none' expected, got {reduction!r}")
    if backend not in ("auto", "dense"):
        raise ValueError(f"backend: 'auto' or 'dense' expected, got {backend!r}")
    offset = None if isinstance(positives, str) else positives[1]
    loss = dense_contrast(
        q, k, offset=offset, temperature=temperature, cosine=similarity == "cosine", symmetric=symmetric
    )
    return loss.mean() if reduction == "mean" else loss


def _check(
    q: Tensor, k: Tensor | None, positives: Positives, temperature: float | Tensor, symmetric: bool
) -> None:
    if q.dim() < 2 or not q.is_floating_point():
        raise ValueError(f"q: floating point (..., N, d) expected, got {q.dtype} of shape {tuple(q.shape)}")
    if q.shape[-2] == 0:
        raise ValueError("q: at least one row expected, got none")
    if k is not None and (k.shape != q.shape or k.dtype != q.dtype):
        raise ValueError(
            f"k: {q.dtype} of shape {tuple(q.shape)} expected, got {k.dtype} of shape {tuple(k.shape)}"
        )
    if positives == "paired":
        if k is None:
            raise ValueError(
                "k: positives='paired' needs keys; for two stacked views give ('paired', N // 2)"
            )
    elif not isinstance(positives, tuple) or len(positives) != 2 or positives[0] != "paired":
        raise ValueError(f"positives: 'paired' or ('paired', N // 2) expected, got {positives!r}")
    elif k is not None or 2 * positives[1] != q.shape[-2]:
        raise ValueError(
            f"positives: ('paired', P) needs k=None and 2 P rows, got {positives!r} with {q.shape[-2]} rows"
        )
    if symmetric and k is None:
        raise ValueError("symmetric: needs keys k; contrast of q with itself already has both directions")
    if isinstance(temperature, Tensor):
        if temperature.numel() != 1:
            raise ValueError(f"temperature: one value expected, got shape {tuple(temperature.shape)}")
    elif not temperature > 0:
        raise ValueError(f"temperature: a positive number expected, got {temperature}")
