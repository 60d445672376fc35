"""What an augmenter keeps: series, probabilities and gains under each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nearfar.optional import require

if TYPE_CHECKING:
    from nearfar.timeseries.autotcl.augmenter import Augmenter


@torch.no_grad()
def plot_masks(augmenter: Augmenter, x: Tensor, path: Path) -> None:
    """Draw a few series with their views and the probability of keeping every step.

    Args:
        augmenter: Trained.
        x: Series, shape ``(n, T, F)``.
        path: The picture; its ending says the format.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """
    figure_class = require("matplotlib.figure", "the plot of masks").Figure
    figure = figure_class(figsize=(4 * len(x), 4.2), layout="constrained")
    axes = figure.subplots(2, len(x), squeeze=False, sharex="col")
    drawn = augmenter(x.to(next(augmenter.parameters())))
    view, pi, gain = drawn.params.apply(x.to(drawn.mask)).cpu(), drawn.pi.cpu(), drawn.gain.cpu()
    for place, (upper, lower) in enumerate(axes.T):
        channel = x[place, :, -1].cpu()
        upper.plot(channel, linewidth=1, label="series")
        upper.plot(view[place, :, -1], linewidth=1, label="view")
        lower.plot(pi[place, :, -1], label="kept with probability")
        lower.plot(gain[place, :, -1], label="gain")
        lower.set(xlabel="step", ylim=(-0.05, None))
        for one in (upper, lower):
            one.grid(alpha=0.3)
    axes[0, 0].legend()
    axes[1, 0].legend()
    figure.savefig(path, dpi=120)
