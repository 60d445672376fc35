"""Several objectives of the same inputs, added up with weights; each stays visible for the log."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from nearfar.checks import check_weights
from nearfar.objectives.objective import Objective


class WeightedSum(Objective):
    """A sum of objectives, every one of which is called with all inputs.

    Args:
        **weighted: Weight and objective by the name of the term. A weight of 0 leaves the term in the log only.

    Attributes:
        objectives: The modules by name.
        terms: What each returned in the last call, before its weight, a detached scalar; empty before the first.

    Raises:
        ValueError: If there is no term, a weight is negative or not finite, or a name cannot be that of a module.

    Example:
        >>> import torch
        >>> from nearfar.objectives import InfoNCE, NTXent
        >>> loss = WeightedSum(across=(1.0, InfoNCE()), among=(0.5, NTXent()))
        >>> round(loss(torch.ones(4, 2), torch.ones(4, 2)).item(), 4)  # log 4 + log(7) / 2
        2.3592
        >>> {name: round(term.item(), 4) for name, term in loss.terms.items()}
        {'across': 1.3863, 'among': 1.9459}
    """

    def __init__(self, **weighted: tuple[float, nn.Module]) -> None:
        if not weighted:
            raise ValueError("weighted: at least one term expected, name=(weight, objective), got none")
        weights = {name: weight for name, (weight, _) in weighted.items()}
        check_weights(**weights)
        for name, (_, objective) in weighted.items():
            if not isinstance(objective, nn.Module):
                raise ValueError(f"{name}: (weight, objective) expected, got {objective!r} as objective")
            if hasattr(nn.ModuleDict, name):
                raise ValueError(f"{name}: another name expected, modules have an attribute of this one")
        super().__init__(**weights)
        self.weights = weights
        self.objectives = nn.ModuleDict({name: objective for name, (_, objective) in weighted.items()})
        self.terms: dict[str, Tensor] = {}

    def forward(self, *inputs: Any) -> Tensor:
        """The weighted sum, a scalar.

        Args:
            *inputs: What every objective takes, tensors of shape ``(N, d)`` for most.
        """
        losses = {name: objective(*inputs) for name, objective in self.objectives.items()}
        self.terms = {name: loss.detach() for name, loss in losses.items()}
        first, *rest = (self.weights[name] * loss for name, loss in losses.items())
        total: Tensor = first
        for part in rest:
            total = total + part
        return total

    def after_step(self) -> None:
        """Tell the objectives that have something to do after a step, such as a queue to fill."""
        for objective in self.objectives.values():
            if callable(after := getattr(objective, "after_step", None)):
                after()
