r"""Steps of one size, in the direction of a sign (Lion, Chen et al., NeurIPS 2023, algorithm 2).

.. math:: \theta \leftarrow \theta - \eta \bigl( \mathrm{sign}(\beta_1 m + (1 - \beta_1) g) + \lambda \theta \bigr),
          \qquad m \leftarrow \beta_2 m + (1 - \beta_2) g

One number of state a weight, where Adam has two. Every weight moves by the learning rate, so that wants to be 3 to 10
times smaller than AdamW's, and the weight decay as much larger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor, nn

from nearfar.checks import check_positive, check_weights


class Lion(torch.optim.Optimizer):
    """Evolved sign momentum, with decoupled weight decay.

    Args:
        params: Parameters, or groups of them as of any ``torch.optim`` optimiser.
        lr: Learning rate, the size of a step; read from the group at every step.
        betas: Share of the momentum in the direction of the step, and in the next momentum; each in [0, 1).
        weight_decay: Share of the weight, times ``lr``, taken off at every step.
        foreach: Whether to treat all tensors of a group in one call an operation; the result is the same.

    Raises:
        ValueError: If a hyper-parameter is out of its range.

    Example:
        >>> weight = nn.Parameter(torch.tensor([1.0, 1.0, 1.0]))
        >>> (weight * torch.tensor([100.0, -0.01, 0.0])).sum().backward()
        >>> Lion([weight], lr=0.25).step()
        >>> weight.tolist()
        [0.75, 1.25, 1.0]
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float = 1e-4,
        *,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        foreach: bool = True,
    ) -> None:
        check_positive(lr=lr)
        check_weights(weight_decay=weight_decay)
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas: two shares of at least 0 and below 1 expected, got {betas}")
        super().__init__(
            params, {"lr": lr, "betas": tuple(betas), "weight_decay": weight_decay, "foreach": foreach}
        )

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step of every parameter that has a gradient.

        Args:
            closure: Computes the loss again, with gradients.

        Returns:
            What ``closure`` returned, ``None`` without one.

        Raises:
            ValueError: If a gradient is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            update = _together if group["foreach"] else _one_by_one
            factors = (group["lr"], *group["betas"], group["weight_decay"])
            update(weights, [_dense(p.grad) for p in weights], [self._momentum(p) for p in weights], *factors)
        return loss

    def _momentum(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weight, memory_format=torch.preserve_format)
        momentum: Tensor = state["momentum"]
        return momentum


def _dense(gradient: Tensor) -> Tensor:
    if gradient.is_sparse:
        raise ValueError("params: dense gradients expected, got a sparse one; embeddings need sparse=False")
    return gradient


def _together(
    weights: list[Tensor],
    gradients: list[Tensor],
    momenta: list[Tensor],
    lr: float,
    direction: float,
    memory: float,
    decay: float,
) -> None:
    # By lerp: on the CPU a foreach product in half precision rounds its factor first.
    steps = torch._foreach_lerp(momenta, gradients, 1 - direction)
    torch._foreach_sign_(steps)
    if decay:
        torch._foreach_add_(steps, weights, alpha=decay)
    torch._foreach_add_(weights, steps, alpha=-lr)
    torch._foreach_lerp_(momenta, gradients, 1 - memory)


def _one_by_one(
    weights: list[Tensor],
    gradients: list[Tensor],
    momenta: list[Tensor],
    lr: float,
    direction: float,
    memory: float,
    decay: float,
) -> None:
    for weight, gradient, momentum in zip(weights, gradients, momenta, strict=True):
        step = momentum.lerp(gradient, 1 - direction).sign_()
        if decay:
            step.add_(weight, alpha=decay)
        weight.add_(step, alpha=-lr)
        momentum.lerp_(gradient, 1 - memory)
