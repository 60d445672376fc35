"""Which trials to stop early, given how many there will be."""

from __future__ import annotations

from typing import Any

from nearfar.optional import require

# Share of a trial, and of one seed, before which nothing is stopped.
WARM_UP = 0.2


def pruner(num_trials: int, epochs: int, num_seeds: int) -> Any:
    """None below 15 trials, the median rule below 40, Hyperband from 40 on.

    Args:
        num_trials: Trials of the study.
        epochs: Of one seed.
        num_seeds: Seeds of one trial; its steps are ``epochs * num_seeds``.

    Returns:
        An Optuna pruner.
    """
    pruners = require("optuna.pruners", "tuning")
    steps = max(1, epochs * num_seeds)
    if num_trials < 15:
        return pruners.NopPruner()
    if num_trials < 40:
        return pruners.MedianPruner(n_startup_trials=8, n_warmup_steps=int(WARM_UP * steps))
    shortest = max(1, round(WARM_UP * epochs))
    return pruners.HyperbandPruner(
        min_resource=shortest, max_resource=max(shortest, steps), reduction_factor=3
    )
