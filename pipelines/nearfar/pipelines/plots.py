"""A comparison as pictures: bars with every seed on them, and the validation curves behind them."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from nearfar.optional import require
from nearfar.pipelines.comparison import Comparison, Row
from nearfar.pipelines.records import read_history
from nearfar.pipelines.report import heading
from nearfar.tracking import Store

BARS_PER_ROW = 4
CURVES_PER_ROW = 2
MOST_CURVES = 4
Curve = list[tuple[int, float]]


def draw_bars(comparison: Comparison, title: str | None = None) -> bytes:
    """A panel per metric: a bar per method, its standard deviation, and a dot per seed, as PNG.

    Args:
        comparison: What to show.
        title: Above the panels; the experiment by default.
    """
    columns = min(len(comparison.metrics), BARS_PER_ROW)
    lines = math.ceil(len(comparison.metrics) / columns)
    # Labels below the bars would overlap; a legend holds any number and length of them.
    height = 2.6 * lines + 0.6 + 0.2 * len(comparison.rows)
    figure = _figure((2.6 * columns + 1.5, height))
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis, metric in zip(axes, comparison.metrics, strict=False):
        for place, row in enumerate(comparison.rows):
            cell = comparison.cells.get((row.label, metric))
            if cell is None:
                continue
            axis.bar(
                place, cell.mean, yerr=cell.std, capsize=4, color=f"C{place}", alpha=0.75, label=row.label
            )
            values = list(row.values(metric).values())
            # Side by side, so that equal seeds do not hide each other.
            shift = [place + 0.3 * ((i + 0.5) / len(values) - 0.5) for i in range(len(values))]
            axis.plot(shift, values, "o", color="black", markersize=3)
        axis.set_title(heading(metric), fontsize=10)
        axis.set_xticks([])
        axis.grid(axis="y", alpha=0.3)
    for axis in axes[len(comparison.metrics) :]:
        axis.set_visible(False)
    return _finish(figure, axes, title or comparison.experiment)


def draw_curves(comparison: Comparison, curves: Mapping[str, Mapping[str, Sequence[Curve]]]) -> bytes | None:
    """A panel per validation metric: the mean over seeds, and one standard deviation around it, as PNG.

    Methods that are validated once only are dashed lines. Where seeds stopped at different steps, the line ends with
    the first: a mean over those that went on would show who went on, not how the method does.

    Args:
        comparison: What to show.
        curves: By metric and label: a curve, (step, value) in order, per seed.

    Returns:
        ``None`` if nothing was validated.
    """
    if not curves:
        return None
    columns = min(len(curves), CURVES_PER_ROW)
    lines = math.ceil(len(curves) / columns)
    figure = _figure((4.8 * columns + 0.5, 3.2 * lines + 0.6 + 0.2 * len(comparison.rows)))
    axes = figure.subplots(lines, columns, squeeze=False, sharex=True).ravel()
    for axis, (metric, by_label) in zip(axes, curves.items(), strict=False):
        for place, row in enumerate(comparison.rows):
            if by_label.get(row.label):
                _draw_row(axis, by_label[row.label], row, f"C{place}")
        axis.set_title(f"val {heading('test/' + metric.removeprefix('val/'))}", fontsize=10)
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
    for axis in axes[len(curves) :]:
        axis.set_visible(False)
    return _finish(figure, axes, comparison.experiment)


def read_curves(store: Store, comparison: Comparison) -> dict[str, dict[str, list[Curve]]]:
    """Validation curves behind the first metrics: by metric and label, one per seed.

    Args:
        store: Where the runs are.
        comparison: Whose runs to look up.
    """
    curves: dict[str, dict[str, list[Curve]]] = {}
    tested = [metric for metric in comparison.metrics if metric.startswith("test/")]
    for metric in tested[:MOST_CURVES]:
        name = metric.replace("test/", "val/", 1)
        by_label = {
            row.label: [
                read_history(store, record.run_id, name) for record in row.records if name in record.metrics
            ]
            for row in comparison.rows
        }
        if any(by_label.values()):
            curves[name] = by_label
    return curves


def mean_curve(curves: Sequence[Curve]) -> tuple[list[int], list[float], list[float]]:
    """Steps that all curves have, with mean and sample standard deviation there (0 for one curve).

    Args:
        curves: One per seed.

    Example:
        >>> mean_curve([[(0, 1.0), (5, 2.0)], [(0, 3.0), (5, 2.0), (10, 9.0)]])
        ([0, 5], [2.0, 2.0], [1.4142135623730951, 0.0])
    """
    values = [dict(curve) for curve in curves]
    steps = sorted(set.intersection(*(set(v) for v in values)))
    means = [math.fsum(v[step] for v in values) / len(values) for step in steps]
    spread = [
        math.sqrt(math.fsum((v[step] - mean) ** 2 for v in values) / max(len(values) - 1, 1))
        for step, mean in zip(steps, means, strict=True)
    ]
    return steps, means, spread


def _draw_row(axis: Any, curves: Sequence[Curve], row: Row, colour: str) -> None:
    steps, means, spread = mean_curve(curves)
    if len(steps) == 1:
        axis.axhline(means[0], color=colour, linestyle="--", label=row.label)
        return
    axis.plot(steps, means, color=colour, label=row.label)
    low = [mean - width for mean, width in zip(means, spread, strict=True)]
    high = [mean + width for mean, width in zip(means, spread, strict=True)]
    axis.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)


def _figure(size: tuple[float, float]) -> Any:
    return require("matplotlib.figure", "plots").Figure(figsize=size, layout="constrained")


def _finish(figure: Any, axes: Sequence[Any], title: str) -> bytes:
    """Title, one legend for all panels, PNG."""
    entries: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    figure.legend(list(entries.values()), list(entries), loc="outside lower center", fontsize=8)
    figure.suptitle(title, fontsize=11)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=120)
    return buffer.getvalue()
