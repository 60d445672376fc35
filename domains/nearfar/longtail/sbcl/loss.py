r"""The bi-granularity loss of SBCL: pull together a subclass, and more softly the others of its class.

Anchors are all rows (views) of a batch; sums leave out the anchor itself. Of row i let own(i) be the other views of its
item, M_i the rows of other items in its subclass, O_i the rows of its class in other subclasses, V_i all other rows.

.. math:: T^1_i = -\frac{1}{|M_i \cup own(i)|} \sum_{p \in M_i \cup own(i)}
          \log \frac{e^{z_i \cdot z_p / \tau_1}}{\sum_{a \in V_i} e^{z_i \cdot z_a / \tau_1}}, \qquad
          T^2_i = -\frac{1}{|O_i \cup own(i)|} \sum_{p \in O_i \cup own(i)}
          \log \frac{e^{z_i \cdot z_p / \tau_2(y_i)}}{\sum_{a \in V_i \setminus M_i} e^{z_i \cdot z_a / \tau_2(y_i)}}

.. math:: L = \mathrm{mean}_i \, (s \, T^1_i + \beta \, T^2_i)

(Hou, Zhang, Wang, Zhou: Subclass-balancing Contrastive Learning for Long-tailed Recognition, ICCV 2023, eq. 4 to 6.)
In the second term the rest of the subclass is neither pulled nor pushed. Both terms come from the same similarities.

Differs from the paper, as its released code does: every view of an item is an anchor, where the paper writes one anchor
an item with one extra view. The code has ``scale`` s = tau_1 / 0.07, on the first term only; the default here is the
paper's 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, overload

import torch
import torch.distributed as dist
from torch import Tensor

from nearfar.checks import check_features, check_positive, check_weights
from nearfar.objectives import OtherGroups, Term, contrast_terms
from nearfar.objectives.denominator import NotSame
from nearfar.objectives.logsumexp import Backend
from nearfar.objectives.objective import Objective
from nearfar.objectives.views import at_least_float32

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Terms = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class SBCLKeys:
    """What rows are compared with where that is not themselves: fresh keys of the batch and those of a queue.

    A queue keeps features and items; labels and subclasses are looked up when the loss is computed, since stored ones
    go stale with every clustering. A key of the row's own item is another view of it, however old.

    Attributes:
        z: Features, shape ``(M, d)``; gradients flow unless they are detached.
        labels: Class of every key, integers, shape ``(M,)``.
        subclasses: Subclass of every key, shape ``(M,)``.
        items: Item of every key, shape ``(M,)``.
    """

    z: Tensor
    labels: Tensor
    subclasses: Tensor
    items: Tensor


@overload
def sbcl_loss(
    z: Tensor,
    labels: Tensor,
    subclasses: Tensor,
    items: Tensor,
    *,
    temperature: float = ...,
    class_temperatures: Tensor | None = ...,
    beta: float = ...,
    scale: float = ...,
    keys: SBCLKeys | None = ...,
    group: ProcessGroup | None = ...,
    backend: Backend = ...,
    return_terms: Literal[False] = ...,
) -> Tensor: ...
@overload
def sbcl_loss(
    z: Tensor,
    labels: Tensor,
    subclasses: Tensor,
    items: Tensor,
    *,
    temperature: float = ...,
    class_temperatures: Tensor | None = ...,
    beta: float = ...,
    scale: float = ...,
    keys: SBCLKeys | None = ...,
    group: ProcessGroup | None = ...,
    backend: Backend = ...,
    return_terms: Literal[True],
) -> tuple[Tensor, Terms]: ...
def sbcl_loss(
    z: Tensor,
    labels: Tensor,
    subclasses: Tensor,
    items: Tensor,
    *,
    temperature: float = 0.1,
    class_temperatures: Tensor | None = None,
    beta: float = 0.25,
    scale: float = 1.0,
    keys: SBCLKeys | None = None,
    group: ProcessGroup | None = None,
    backend: Backend = "auto",
    return_terms: bool = False,
) -> Tensor | tuple[Tensor, Terms]:
    """Scalar loss: ``scale`` times the term of the subclasses plus ``beta`` times the term of the classes.

    Args:
        z: Features of all views, shape ``(N, d)``; normalised here. Half precision is computed in float32.
        labels: Class of every row, integers, shape ``(N,)``.
        subclasses: Subclass of every row, numbered over all classes, shape ``(N,)``.
        items: Item of every row, shape ``(N,)``; rows of one item are its views.
        temperature: tau_1, above 0.
        class_temperatures: tau_2 of every class, shape ``(C,)``, without gradient; ``None`` takes tau_1 for all.
        beta: Weight of the second term, 0 or more.
        scale: Weight s of the first term, 0 or more.
        keys: Compare with these instead of with ``z`` itself (MoCo); every key counts, so the anchor must not be one.
        group: Process group whose batches are one batch, as of :func:`nearfar.objectives.contrast`; items are then
            numbered over all processes.
        backend: As of :func:`nearfar.objectives.contrast`.
        return_terms: Return both terms too, detached and unweighted.

    Returns:
        Scalar, or scalar and a pair of scalars. Each term is the mean over the rows that have a positive in it, which
        with two or more views all have; 0 if none has.

    Raises:
        ValueError: If a shape, dtype or value does not fit.

    Example:
        >>> z, labels = torch.eye(4), torch.tensor([0, 0, 0, 0])
        >>> items = torch.tensor([0, 1, 0, 1])  # two views of two items
        >>> round(sbcl_loss(z, labels, items, items, temperature=1.0, beta=0.0).item(), 4)  # log 3
        1.0986
    """
    check_positive(temperature=temperature)
    check_weights(beta=beta, scale=scale)
    _check_rows("", z, labels=labels, subclasses=subclasses, items=items)
    z, k = at_least_float32(z), None
    own = (labels, subclasses, items)
    sides: tuple[Tensor | tuple[Tensor, Tensor], ...] = own
    if keys is not None:
        _check_rows("keys.", keys.z, labels=keys.labels, subclasses=keys.subclasses, items=keys.items)
        k = keys.z.to(z.dtype)
        sides = tuple(zip(own, (keys.labels, keys.subclasses, keys.items), strict=True))
    tau = temperature if class_temperatures is None else _of_rows(class_temperatures, labels)
    pull = Term(sides[1], temperature=temperature)
    spread = Term(OtherGroups(*sides), NotSame(subclasses, None if keys is None else keys.subclasses), tau)
    wanted = [pull] if beta == 0 and not return_terms else [pull, spread]
    terms = contrast_terms(z, k, terms=wanted, on_empty="zero", group=group, backend=backend)
    loss = scale * terms[0] + (beta * terms[1] if len(terms) > 1 else 0)
    return (loss, (terms[0].detach(), terms[1].detach())) if return_terms else loss


class SBCLLoss(Objective):
    """The loss as a module, called as losses of pytorch-metric-learning are.

    Args:
        temperature: tau_1, above 0.
        beta: Weight of the second term, 0 or more.
        scale: Weight of the first term, 0 or more; the released code has ``temperature / 0.07``.
        views: Views of every item, stacked one after the other, where no items are given.
        group: As of :func:`sbcl_loss`.
        backend: As of :func:`sbcl_loss`.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> loss = SBCLLoss(temperature=1.0, beta=1.0)
        >>> labels = torch.tensor([0, 0]).repeat(2)  # two views of two items
        >>> round(loss(torch.eye(4), labels, torch.arange(2).repeat(2)).item(), 4)  # two times log 3
        2.1972
    """

    def __init__(
        self,
        temperature: float = 0.1,
        *,
        beta: float = 0.25,
        scale: float = 1.0,
        views: int = 2,
        group: ProcessGroup | None = None,
        backend: Backend = "auto",
    ) -> None:
        check_positive(temperature=temperature)
        check_weights(beta=beta, scale=scale)
        if views < 1:
            raise ValueError(f"views: at least 1 expected, got {views}")
        super().__init__(temperature=temperature, beta=beta, scale=scale, views=views, backend=backend)
        self.group = group

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        subclasses: Tensor,
        items: Tensor | None = None,
        *,
        class_temperatures: Tensor | None = None,
        keys: SBCLKeys | None = None,
    ) -> Tensor:
        """Scalar loss; the arguments are those of :func:`sbcl_loss`.

        Args:
            embeddings: Shape ``(N, d)``.
            labels: Shape ``(N,)``.
            subclasses: Shape ``(N,)``.
            items: Shape ``(N,)``; ``None`` for views stacked one after the other.
            class_temperatures: Shape ``(C,)``, or ``None``.
            keys: As of :func:`sbcl_loss`; needs ``items``.

        Raises:
            ValueError: If something does not fit.
        """
        if items is None:
            if keys is not None:
                raise ValueError("items: one a row expected with keys, got None")
            items = self._stacked(len(embeddings), embeddings.device)
        config = self.config
        return sbcl_loss(
            embeddings,
            labels,
            subclasses,
            items,
            temperature=config["temperature"],
            class_temperatures=class_temperatures,
            beta=config["beta"],
            scale=config["scale"],
            keys=keys,
            group=self.group,
            backend=config["backend"],
        )

    def _stacked(self, num_rows: int, device: torch.device) -> Tensor:
        views = self.config["views"]
        if num_rows % views:
            raise ValueError(f"embeddings: rows of {views} stacked views expected, got {num_rows} rows")
        # Items of other processes are others.
        first = 0 if self.group is None else dist.get_rank(self.group) << 32
        return torch.arange(first, first + num_rows // views, device=device).repeat(views)


def _check_rows(prefix: str, z: Tensor, **ids: Tensor) -> None:
    check_features(f"{prefix}z", z, shape="(N, d)")
    if z.dim() != 2:
        raise ValueError(f"{prefix}z: (N, d) expected, got shape {tuple(z.shape)}")
    for name, values in ids.items():
        integers = (
            isinstance(values, Tensor) and not values.is_floating_point() and values.dtype != torch.bool
        )
        if not integers or values.shape != (len(z),):
            got = (
                f"{values.dtype} of shape {tuple(values.shape)}"
                if isinstance(values, Tensor)
                else repr(values)
            )
            raise ValueError(f"{prefix}{name}: integers of shape ({len(z)},) expected, got {got}")


def _of_rows(class_temperatures: Tensor, labels: Tensor) -> Tensor:
    """The temperature of every row, shape ``(N,)``; rows without a class get any."""
    if not isinstance(class_temperatures, Tensor) or class_temperatures.dim() != 1:
        is_tensor = isinstance(class_temperatures, Tensor)
        got = f"shape {tuple(class_temperatures.shape)}" if is_tensor else repr(class_temperatures)
        raise ValueError(f"class_temperatures: tensor (C,) expected, got {got}")
    try:
        return class_temperatures.to(labels.device)[labels.clamp(min=0).long()]
    except IndexError as error:
        raise ValueError(
            f"class_temperatures: one a class expected, got {len(class_temperatures)}; {error}"
        ) from error
