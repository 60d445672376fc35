r"""Negatives and positives made by a step of the gradient (CLAPS, Lee et al., ICLR 2021, sections 3.2 and 3.3).

.. math:: z^- = z + \epsilon \lVert z \rVert \frac{g(z)}{\lVert g(z) \rVert}, \qquad
          z' = z + 2 \epsilon \lVert z \rVert \frac{g(z)}{\lVert g(z) \rVert}, \quad
          z^+ = z' - \epsilon \lVert z' \rVert \frac{g(z')}{\lVert g(z') \rVert}

g is the gradient of a loss by z. The negative lies near z and is worse; the distant positive goes twice as far and
takes one step back, so for a loss of cosines it lies between z and the negative.

Differs from the paper: steps are relative to the length of z, where there they are numbers of the data set, and the
step back descends the same loss, where there it descends a KL divergence of decoder outputs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nearfar.checks import check_matrix, check_positive, check_weights
from nearfar.objectives.contrast import Temperature
from nearfar.objectives.similarity import smooth_normalize
from nearfar.objectives.softmax import SoftmaxObjective
from nearfar.objectives.views import at_least_float32, check_views


def adversarial_negative(z: Tensor, loss_fn: Callable[[Tensor], Tensor], eps: float) -> Tensor:
    """Each row moved by ``eps`` of its length where the loss rises fastest.

    Args:
        z: Shape ``(N, d)``.
        loss_fn: Loss of such rows, a scalar or shape ``(N,)``; called once, with gradients enabled.
        eps: Length of the step as a share of that of the row.

    Returns:
        Same shape as ``z``, without gradient. A row at which the loss is flat stays where it is.

    Raises:
        ValueError: If ``z`` is no matrix of finite numbers, ``eps`` is not positive, or the loss does not depend on z.

    Example:
        >>> z = torch.tensor([[3.0, 4.0]])
        >>> adversarial_negative(z, lambda z: z[:, 0], eps=0.1)
        tensor([[3.5000, 4.0000]])
    """
    _check(z, eps)
    return _step(z, loss_fn, eps)


def distant_positive(z: Tensor, loss_fn: Callable[[Tensor], Tensor], eps: float) -> Tensor:
    """Each row moved twice as far as :func:`adversarial_negative` does, and from there one step down the loss.

    Args:
        z: Shape ``(N, d)``.
        loss_fn: Loss of such rows, a scalar or shape ``(N,)``; called twice, with gradients enabled.
        eps: Length of the step back as a share of that of the row.

    Returns:
        Same shape as ``z``, without gradient.

    Raises:
        ValueError: As of :func:`adversarial_negative`.

    Example:
        >>> z = torch.tensor([[1.0, 0.0]])
        >>> distant_positive(z, lambda z: z[:, 1], eps=0.5)  # up to (1, 1), and down half its length
        tensor([[1.0000, 0.2929]])
    """
    _check(z, eps)
    return _step(_step(z, loss_fn, 2 * eps), loss_fn, -eps)


def _step(z: Tensor, loss_fn: Callable[[Tensor], Tensor], share: float) -> Tensor:
    with torch.enable_grad():
        place = at_least_float32(z.detach()).requires_grad_()
        loss = loss_fn(place)
        if not loss.requires_grad:
            raise ValueError("loss_fn: a loss that depends on its argument expected, got a constant")
        (gradient,) = torch.autograd.grad(loss.sum(), place)
    length = torch.linalg.vector_norm(place.detach(), dim=-1, keepdim=True)
    moved: Tensor = place.detach() + share * length * smooth_normalize(gradient)
    return moved.to(z.dtype)


def _check(z: Tensor, eps: float) -> None:
    check_matrix("z", z)
    check_positive(eps=eps)


class Adversarial(SoftmaxObjective):
    """InfoNCE, plus InfoNCE whose keys are distant positives and which every row's adversarial negative joins.

    Both are made of the row's key by the gradient of its cosine with the anchor, which is the direction in which the
    key's own InfoNCE changes; they are constants, so the second term trains the first view alone.

    Args:
        temperature: A positive number, or a module that returns one.
        eps: As of :func:`adversarial_negative`.
        weight: Of the second term.

    Raises:
        ValueError: If ``eps`` is not positive or ``weight`` negative.

    Example:
        >>> x = torch.ones(4, 2)  # equal rows have nowhere to go: log 4 + log 5
        >>> round(Adversarial()(x, x).item(), 4)
        2.9957
    """

    def __init__(self, temperature: Temperature = 0.1, *, eps: float = 0.5, weight: float = 1.0) -> None:
        check_positive(eps=eps)
        check_weights(weight=weight)
        super().__init__(temperature, "auto", None, eps=eps, weight=weight)
        self.eps, self.weight = eps, weight

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Scalar loss.

        Args:
            first: First view, shape ``(N, d)``.
            second: Second view, same shape as ``first``.
        """
        check_views(first=first, second=second)
        # Unit keys: of a long one the gradient is too small to be normalised.
        anchor, key = (smooth_normalize(at_least_float32(z.detach())) for z in (first, second))

        def distance(z: Tensor) -> Tensor:
            return -(anchor * smooth_normalize(z)).sum(-1)

        negative = adversarial_negative(key, distance, self.eps)
        positive = distant_positive(key, distance, self.eps)
        hard = self._contrast(at_least_float32(first), positive, extra_negatives=negative[:, None])
        return self._contrast(first, second) + self.weight * hard
