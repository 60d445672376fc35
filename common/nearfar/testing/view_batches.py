"""One step of any objective on drawn rows, for tests of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nearfar.objectives.ranks import Ranks
from nearfar.selectable import known_objectives
from nearfar.selectable.objective import SelectedObjective
from nearfar.selectable.view_batch import ViewBatch
from nearfar.testing.draws import draw

TRAINED = ("first", "second", "more", "wrong")
"""Fields that an encoder gets gradients through."""
CLASSES = 3
SMALL: Mapping[str, Mapping[str, Any]] = {
    "moco": {"queue": 24},
    "crd": {"queue": 24},
    "beclr": {"capacity": 24, "prototypes": 3, "neighbours": 2},
    "multistage": {"clusters": 2, "stage_steps": 2, "stages": 2},
    "debcse": {"negatives": 4},
    "mined": {"count": 4},
    "distilled": {"count": 4},
    "whitened": {"groups": 4},
}
"""Parameters so small that memories are full and stages over within four steps."""


def fields(count: int, dim: int, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """All that a :class:`ViewBatch` of objectives of every kind can hold.

    Args:
        count: Rows, N.
        dim: Features, d, of every view.
        dtype: Floating point.

    Example:
        >>> fields(4, 2)["more"].shape
        torch.Size([2, 4, 2])
    """
    rng = torch.Generator().manual_seed(0)
    shapes = {
        "first": (count, dim),
        "second": (count, dim),
        "more": (2, count, dim),
        "wrong": (count, 2, dim),
        "target_first": (count, dim),
        "target_second": (count, dim),
        "side": (count, 4),
        "surface": (count,),
    }
    drawn = {name: draw(*shape, seed=seed).to(dtype) for seed, (name, shape) in enumerate(shapes.items())}
    drawn["labels"] = torch.randint(CLASSES, (count,), generator=rng)
    drawn["rows"] = torch.randperm(2 * count, generator=rng)[:count]
    return drawn


def built(
    name: str, count: int, dim: int, dtype: torch.dtype = torch.float64, *, small: bool = True
) -> SelectedObjective:
    """An objective for the rows of :func:`fields`.

    Args:
        name: Registered.
        count: Rows, N.
        dim: Features, d.
        dtype: Of its parameters and memories.
        small: With the parameters of ``SMALL``; else as published.
    """
    sizes: Any = {"dim": dim, "num_classes": CLASSES, "num_rows": 2 * count}
    settings = known_objectives()[name].settings.model_validate(SMALL.get(name, {}) if small else {})
    return SelectedObjective(settings, sizes, 0, nn.Identity()).to(dtype)


def step(
    objective: SelectedObjective, given: Mapping[str, Tensor], seed: int, ranks: Ranks | None = None
) -> tuple[Tensor, dict[str, Tensor | None]]:
    """Loss and gradients of one step, which memories go on from.

    Args:
        objective: Its own gradients are set anew.
        given: Of :func:`fields`, N rows each (``more`` has shape ``(views, N, d)``), on the objective's device.
        seed: Of what the step draws.
        ranks: The processes that share the batch, if there are several.

    Returns:
        The loss, a scalar, and by name the gradient of every trained field, of its shape; ``None`` where the
        objective does not look.
    """
    leaves = {name: given[name].detach().clone().requires_grad_() for name in TRAINED}
    objective.zero_grad()
    batch = ViewBatch(rng=torch.Generator().manual_seed(seed), **{**given, **leaves})
    loss: Tensor = objective(batch, ranks)
    loss.backward()
    objective.after_step(nn.Identity())
    return loss.detach(), {name: leaf.grad for name, leaf in leaves.items()}
