"""Plots of a search: its history, which settings mattered, and which went with which value."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from nearfar.messages import warn
from nearfar.optional import installed, require
from nearfar.tuning.storage import quiet_optuna


def draw_study(study: Any, folder: Path) -> list[Path]:
    """History, importances (PED-ANOVA) and parallel coordinates as PNG; those that a study cannot fill are left out.

    Args:
        study: Optuna's study.
        folder: Where to; exists.

    Returns:
        The files.
    """
    if not installed("matplotlib"):
        return []
    matplotlib = require("matplotlib", "plots of a search")
    backend = matplotlib.get_backend()
    matplotlib.use("agg")  # Optuna draws through pyplot, which would look for a screen
    try:
        with quiet_optuna(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return [path for name, draw in _PLOTS.items() if (path := _save(draw, study, folder / name))]
    finally:
        matplotlib.use(backend)


def _save(draw: Any, study: Any, path: Path) -> Path | None:
    pyplot = require("matplotlib.pyplot", "plots of a search")
    try:
        draw(require("optuna.visualization.matplotlib", "plots of a search"), study)
        pyplot.gcf().savefig(path, dpi=120, bbox_inches="tight")
    except Exception as error:  # too few trials, or all alike
        warn(f"{path.name} was left out: {error}")
        return None
    finally:
        pyplot.close("all")
    return path


def _importances(plots: Any, study: Any) -> None:
    evaluator = require("optuna.importance", "plots of a search").PedAnovaImportanceEvaluator()
    plots.plot_param_importances(study, evaluator=evaluator)


_PLOTS = {
    "history.png": lambda plots, study: plots.plot_optimization_history(study),
    "importances.png": _importances,
    "parallel_coordinate.png": lambda plots, study: plots.plot_parallel_coordinate(study),
}
