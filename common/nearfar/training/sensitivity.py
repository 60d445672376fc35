r"""Which modules a change of the data moves most, and tuning those alone (Forgetting Prioritized Finetuning).

.. math:: s_l = \frac{1}{T} \sum_t \frac{\lVert \theta_l^{t+1} - \theta_l^t \rVert_2}{|\theta_l|}

over epochs (or changes of task) t, with the number of parameters of module l below. Norms and the first and last layers
usually lead: they adapt to a new distribution, and tuning them on a small buffer brings back much of what was
forgotten.

Differs from the paper (Zhao et al., "Does Continual Learning Equally Forget All Parameters?", ICML 2023): its exact
formula could not be confirmed; this one is our own reading.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from nearfar.errors import ConfigError


class Sensitivity:
    """How far the parameters of every module move, on average between calls of :meth:`update`.

    Modules are those that own parameters directly; a parameter that two of them share counts for both.

    Args:
        model: What is trained; looked at now, as the first point.

    Example:
        >>> model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
        >>> tracker = Sensitivity(model)
        >>> with torch.no_grad():
        ...     _ = model[1].weight.add_(0.5)
        >>> tracker.update(model)
        >>> {name: round(score, 3) for name, score in tracker.scores().items()}
        {'0': 0.0, '1': 0.5}
    """

    def __init__(self, model: nn.Module) -> None:
        self._last = _parameters(model)
        self._sums = dict.fromkeys(self._last, 0.0)
        self._count = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Note how far every module moved since the last time; waits for the device, so call it once an epoch.

        Args:
            model: The one this was made with.

        Raises:
            ConfigError: If modules or shapes are others.
        """
        now = _parameters(model)
        if _shapes(now) != _shapes(self._last):
            raise ConfigError("model: the modules and shapes this tracker was made with expected, got others")
        for name, new in now.items():
            old = self._last[name]
            moved = math.fsum(float((a - b).double().square().sum()) for a, b in zip(new, old, strict=True))
            self._sums[name] += math.sqrt(moved) / sum(x.numel() for x in new)
        self._last, self._count = now, self._count + 1

    def scores(self) -> dict[str, float]:
        """Mean movement for each parameter of a module, by its name; 0 before the first :meth:`update`."""
        return {name: total / max(self._count, 1) for name, total in self._sums.items()}


def _parameters(model: nn.Module) -> dict[str, list[Tensor]]:
    """Copies of what every module owns itself, by its name."""
    found = {}
    for name, module in model.named_modules():
        own = [p.detach().clone() for p in module.parameters(recurse=False) if p.numel()]
        if own:
            found[name] = own
    return found


def _shapes(parameters: Mapping[str, list[Tensor]]) -> dict[str, list[torch.Size]]:
    return {name: [x.shape for x in own] for name, own in parameters.items()}


def select_modules(scores: Mapping[str, float], top_fraction: float) -> list[str]:
    """The most sensitive modules.

    Args:
        scores: As of :meth:`Sensitivity.scores`.
        top_fraction: Share of the modules, in (0, 1]; rounded up, so that it is one at least.

    Returns:
        Names, most sensitive first, equals in the order given.

    Raises:
        ConfigError: If the share is out of range or there are no modules.

    Example:
        >>> select_modules({"first": 0.3, "middle": 0.1, "last": 0.2}, 0.5)
        ['first', 'last']
    """
    if not 0 < top_fraction <= 1:
        raise ConfigError(f"top_fraction: a number in (0, 1] expected, got {top_fraction}")
    if not scores:
        raise ConfigError("scores: at least one module expected, got none")
    # A share such as 0.3 of 10 is 3.0000000000000004 in floating point, and not meant as 4.
    count = math.ceil(top_fraction * len(scores) - 1e-9)
    return sorted(scores, key=lambda name: -scores[name])[:count]


@contextmanager
def finetune_only(model: nn.Module, names: Iterable[str]) -> Iterator[list[nn.Parameter]]:
    """Within, gradients reach the parameters that some modules own themselves, and no others.

    Afterwards every parameter is as it was. Running statistics of norms are no parameters: put those that are to stay
    in evaluation mode.

    Args:
        model: What is trained.
        names: Modules, as :func:`select_modules` names them; ``""`` is the model itself.

    Yields:
        The parameters to give to an optimiser, each once.

    Raises:
        ConfigError: If a module does not exist or owns no parameter.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
        >>> with finetune_only(model, ["1"]) as parameters:
        ...     [p.requires_grad for p in model.parameters()], len(parameters)
        ([False, False, True, True], 2)
        >>> all(p.requires_grad for p in model.parameters())
        True
    """
    modules = dict(model.named_modules())
    chosen: dict[int, nn.Parameter] = {}
    for name in names:
        own = list(modules[name].parameters(recurse=False)) if name in modules else []
        if not own:
            known = ", ".join(repr(other) for other in _parameters(model))
            raise ConfigError(f"names: modules with parameters of their own expected ({known}), got {name!r}")
        chosen |= {id(p): p for p in own}
    before = [(p, p.requires_grad) for p in model.parameters()]
    try:
        for p, _ in before:
            p.requires_grad_(id(p) in chosen)
        yield list(chosen.values())
    finally:
        for p, wanted in before:
            p.requires_grad_(wanted)
