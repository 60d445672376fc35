r"""The softmax contrast every method is written in.

Row i of ``q`` is compared with keys; some of them are its positives P(i), those it may see form the
denominator A(i), and the loss is the negative log-probability of picking a positive:

.. math:: \ell_i = \log \sum_{j \in A(i)} e^{s_{ij}} - \sum_{j \in P(i)} \frac{w_{ij}}{W_i} s_{ij}, \qquad
          s_{ij} = \frac{\mathrm{sim}(q_i, k_j)}{\tau_i} + b_j

``contrast(q, k)`` is the one-directional InfoNCE of CPC (van den Oord et al., 2018); ``symmetric=True`` is CLIP's
(Radford et al., 2021); ``contrast(cat([a, b]), positives=("paired", N))`` SimCLR's NT-Xent (Chen et al., 2020);
with ``positives=labels`` it is SupCon (Khosla et al., 2020), with ``include_positive=False`` DCL (Yeh et al.,
2022), with ``queue=`` MoCo (He et al., 2020). The sum over keys is the only N x M object; it is computed
tile by tile and never stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict, Unpack, get_args, overload

import torch
from torch import Tensor, nn

from nearfar.checks import check_choice, check_features, check_temperature, check_vector
from nearfar.objectives.contrast_stats import ContrastStats
from nearfar.objectives.denominator import Rule
from nearfar.objectives.direction import reduce
from nearfar.objectives.logsumexp import BACKENDS, Backend
from nearfar.objectives.positives import Positives
from nearfar.objectives.problem import Problem
from nearfar.objectives.queue import KeyQueue
from nearfar.objectives.similarity import SIMILARITIES, Comparison, Similarity

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Temperature: TypeAlias = float | Tensor | nn.Module
Reduction: TypeAlias = Literal["mean", "sum", "none"]
OnEmpty: TypeAlias = Literal["raise", "zero"]


class Options(TypedDict, total=False):
    """Keyword arguments of :func:`contrast`, for those who hand them on."""

    positives: Positives
    denominator: Rule | None
    temperature: Temperature
    similarity: Similarity
    extra_negatives: Tensor | None
    queue: KeyQueue | None
    include_positive: bool
    key_log_weight: Tensor | None
    row_weight: Tensor | None
    symmetric: bool
    on_empty: OnEmpty
    reduction: Reduction
    group: ProcessGroup | None
    backend: Backend


@overload
def contrast(q: Tensor, k: Tensor | None = None, **options: Unpack[Options]) -> Tensor: ...
@overload
def contrast(
    q: Tensor, k: Tensor | None = None, *, return_stats: Literal[True], **options: Unpack[Options]
) -> tuple[Tensor, ContrastStats]: ...
def contrast(
    q: Tensor,
    k: Tensor | None = None,
    *,
    positives: Positives = "paired",
    denominator: Rule | None = None,
    temperature: Temperature = 0.1,
    similarity: Similarity = "cosine",
    extra_negatives: Tensor | None = None,
    queue: KeyQueue | None = None,
    include_positive: bool = True,
    key_log_weight: Tensor | None = None,
    row_weight: Tensor | None = None,
    symmetric: bool = False,
    on_empty: OnEmpty = "raise",
    reduction: Reduction = "mean",
    group: ProcessGroup | None = None,
    backend: Backend = "auto",
    return_stats: bool = False,
) -> Tensor | tuple[Tensor, ContrastStats]:
    r"""Negative log-probability of picking a positive among the keys.

    Args:
        q: Anchors, shape ``(..., N, d)``, floating point; leading dimensions are separate problems.
        k: Keys, shape ``(..., M, d)``; ``None`` contrasts ``q`` with itself, each row leaving itself out.
        positives: Which keys are positives of which rows:

            - ``"paired"``: row i of ``k`` belongs to row i of ``q``.
            - ``("paired", P)``: rows of ``q`` that are P apart (modulo their number) are views of one sample;
              needs ``k=None``.
            - ``("next", s)``: row i + s belongs to row i, without wrapping; s may be negative.
            - integer labels ``(N,)``, or ``(q_labels, k_labels)``: equal labels, not the row itself; a negative
              label has no positive.
            - :class:`OtherGroups`, :class:`Pairs`, :class:`Soft`, or a matrix of weights ``(N, M)``.
        denominator: Keys a row is compared with, a rule of :mod:`nearfar.objectives.denominator` or several
            combined with ``&``. ``None``: all keys, and with a ``queue`` none of the batch (``Nothing()``, MoCo).
            In self-contrast the row itself is never among them. Positives stay in whatever the rule says about
            them, unless ``include_positive=False``.
        temperature: Positive number, tensor (scalar or one a row, ``(N,)``), or a module that returns one.
            Tensors receive exact gradients.
        similarity: ``"cosine"`` normalises the rows, ``"dot"`` does not, ``"neg_sqdist"`` is minus the
            squared distance.
        extra_negatives: More keys, for rows only: shared ``(R, d)``, or each row's own ``(..., N, R, d)``.
            Gradients flow unless they are detached.
        queue: Keys of earlier batches, without gradient, for rows only. Id rules of ``denominator`` apply to them when
            the queue holds ids. Filling it is a separate call.
        include_positive: ``False`` takes positives out of the denominator (decoupled), as does the rule
            ``NotPositive()``.
        key_log_weight: Added to all logits of a key, shape ``(M,)`` or ``(..., M)``: minus the log of its sampling
            probability (sampled softmax). Receives its gradient.
        row_weight: Weight of each row in the mean, and factor of its value if nothing is reduced, shape ``(N,)`` or
            ``(..., N)``, not negative.
        symmetric: Average the loss of rows over keys and of keys over rows, from the same pass; needs ``k``.
        on_empty: What to do if no row has both a positive and a key in its denominator: ``"raise"`` (on a GPU, which
            would have to be waited for, the loss is NaN instead), or return ``"zero"`` (with gradient zero).
        reduction: ``"mean"`` over the rows that have both, all problems together; ``"sum"``; or ``"none"`` for
            one value a row, shape ``(..., N)``, 0 for rows that lack one.
        group: Process group whose batches are one batch. Every process returns the loss of the whole;
            gradients *averaged* over the processes, as DistributedDataParallel does, are those of the whole.
        backend: ``"dense"`` holds the N x M logits and has second derivatives; ``"tiled"`` holds one tile;
            ``"triton"`` computes tiles inside fused CUDA kernels (float32, rules of position, id and label; checked
            against float64 when first used on a device); ``"auto"`` chooses by size, device and rule.
        return_stats: Return a :class:`ContrastStats` as well; costs another pass without gradient.

    Returns:
        Scalar, or ``(..., N)`` with ``reduction="none"``; with ``return_stats`` a pair. Half precision is computed, and
        returned, in float32.

    Raises:
        ValueError: If an argument has a wrong shape, dtype or value, if arguments contradict each other, or if no row
            has a positive and a denominator.

    Example:
        >>> import torch
        >>> z = torch.ones(4, 3)
        >>> round(contrast(z, z).item(), 4)  # equal rows: chance level, log 4
        1.3863
        >>> round(contrast(z, positives=torch.tensor([0, 0, 1, 1])).item(), 4)  # log 3
        1.0986
    """
    tau: float | Tensor = temperature() if isinstance(temperature, nn.Module) else temperature
    check_choice("similarity", similarity, SIMILARITIES)
    check_choice("reduction", reduction, get_args(Reduction))
    check_choice("on_empty", on_empty, get_args(OnEmpty))
    check_choice("backend", backend, BACKENDS)
    check_tensors(
        q,
        k,
        temperature=tau,
        extra_negatives=extra_negatives,
        queue=queue,
        key_log_weight=key_log_weight,
        row_weight=row_weight,
    )
    check_combination(q, k, symmetric=symmetric, reduction=reduction, row_weight=row_weight, group=group)
    with torch.autocast(q.device.type, enabled=False):
        problem = Problem.of(
            q,
            k,
            positives,
            denominator,
            Comparison(similarity, inverse_temperature(tau, q), biased=key_log_weight is not None),
            symmetric=symmetric,
            include_positive=include_positive,
            key_log_weight=key_log_weight,
            row_weight=row_weight,
            extra_negatives=extra_negatives,
            queue=queue,
            group=group,
        )
        directions = problem.directions(symmetric=symmetric, backend=backend)
        if on_empty == "raise":
            for direction in directions:
                direction.check_not_empty(problem.ranks)
        loss = reduce(directions, reduction, problem.ranks)
        if on_empty == "raise":
            for direction in directions:
                loss = direction.marked(loss, problem.ranks)
        if reduction == "none":
            loss = loss.reshape(q.shape[:-1])
        return (loss, problem.stats(directions[0], q.shape[:-1])) if return_stats else loss


def inverse_temperature(temperature: float | Tensor, q: Tensor) -> float | Tensor:
    """1 / temperature: a number, a scalar tensor, or one a row, ``(B or 1, N, 1)``.

    Args:
        temperature: As of :func:`contrast`, checked; scalar, ``(N,)`` or ``(..., N)``.
        q: As of :func:`contrast`, ``(..., N, d)``.
    """
    if not isinstance(temperature, Tensor):
        return 1 / temperature
    scale = 1 / temperature.to(q.device, torch.promote_types(q.dtype, torch.float32))
    return scale.reshape(()) if scale.numel() == 1 else scale.reshape(-1, q.shape[-2], 1)


def check_tensors(
    q: Tensor,
    k: Tensor | None,
    *,
    temperature: float | Tensor,
    extra_negatives: Tensor | None = None,
    queue: KeyQueue | None = None,
    key_log_weight: Tensor | None = None,
    row_weight: Tensor | None = None,
) -> None:
    """Raise ValueError unless the tensors among the arguments of :func:`contrast` have the right shapes and values.

    Args:
        q: As of :func:`contrast`, ``(..., N, d)``.
        k: As of :func:`contrast`, ``(..., M, d)``.
        temperature: As of :func:`contrast`, scalar, ``(N,)`` or ``(..., N)``.
        extra_negatives: As of :func:`contrast`, ``(R, d)`` or ``(..., N, R, d)``.
        queue: As of :func:`contrast`.
        key_log_weight: As of :func:`contrast`, ``(M,)`` or ``(..., M)``.
        row_weight: As of :func:`contrast`, ``(N,)`` or ``(..., N)``.

    Raises:
        ValueError: If one does not fit.
    """
    check_features("q", q)
    lead, num_rows = q.shape[:-2], q.shape[-2]
    if q.numel() == 0:
        raise ValueError(f"q: at least one row expected, got shape {tuple(q.shape)}")
    num_keys = num_rows
    if k is not None:
        check_features("k", k, like=q)
        num_keys = k.shape[-2]
        if k.shape[:-2] != lead or num_keys == 0:
            expected = ", ".join(map(str, (*lead, "M", q.shape[-1])))
            raise ValueError(f"k: shape ({expected}) with M > 0 expected, got {tuple(k.shape)}")
    check_temperature(temperature, q.shape[:-1])
    if extra_negatives is not None:
        check_features("extra_negatives", extra_negatives, like=q, shape="(R, d) or (..., N, R, d)")
        if extra_negatives.shape[-2] == 0:
            raise ValueError(
                f"extra_negatives: at least one expected, got shape {tuple(extra_negatives.shape)}"
            )
        if extra_negatives.dim() != 2 and extra_negatives.shape[:-2] != q.shape[:-1]:
            raise ValueError(
                f"extra_negatives: (R, d) or {(*q.shape[:-1], 'R', q.shape[-1])} expected, got shape "
                f"{tuple(extra_negatives.shape)}"
            )
    if queue is not None and not isinstance(queue, KeyQueue):
        raise ValueError(f"queue: a KeyQueue expected, got {type(queue).__name__}")
    if queue is not None and queue.keys.shape[-1] != q.shape[-1]:
        raise ValueError(f"queue: keys with {q.shape[-1]} features expected, got {queue.keys.shape[-1]}")
    if key_log_weight is not None:
        check_vector("key_log_weight", key_log_weight, lead, num_keys, lowest=-torch.inf)
    if row_weight is not None:
        check_vector("row_weight", row_weight, lead, num_rows, lowest=0)


def check_combination(
    q: Tensor,
    k: Tensor | None,
    *,
    symmetric: bool = False,
    reduction: str = "mean",
    row_weight: Tensor | None = None,
    group: object,
) -> None:
    """Raise ValueError where arguments of :func:`contrast` contradict each other.

    Args:
        q: As of :func:`contrast`, ``(..., N, d)``.
        k: As of :func:`contrast`, ``(..., M, d)``.
        symmetric: As of :func:`contrast`.
        reduction: As of :func:`contrast`.
        row_weight: As of :func:`contrast`, ``(N,)`` or ``(..., N)``.
        group: As of :func:`contrast`.

    Raises:
        ValueError: If they do.
    """
    if symmetric and k is None:
        raise ValueError("symmetric: needs keys k; contrast of q with itself already has both directions")
    if symmetric and k is not None and k.shape != q.shape and (reduction == "none" or row_weight is not None):
        raise ValueError(
            f"symmetric: as many keys as rows expected with reduction='none' or row_weight, got {k.shape[-2]} "
            f"keys for {q.shape[-2]} rows"
        )
    if group is not None and q.dim() > 2:
        raise ValueError(f"group: q of shape (N, d) expected, got {tuple(q.shape)}")
