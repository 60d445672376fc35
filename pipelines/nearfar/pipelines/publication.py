"""A comparison as a run of its own, beside the runs it compares."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from nearfar.errors import StorageError
from nearfar.messages import warn
from nearfar.optional import installed
from nearfar.pipelines.comparison import Comparison
from nearfar.pipelines.plots import draw_bars, draw_curves, read_curves
from nearfar.pipelines.report import markdown, page
from nearfar.tracking import Store, start_run

# MLflow shows this tag as the description of a run; it refuses longer ones.
_DESCRIPTION, _LONGEST = "mlflow.note.content", 8000


def draw(store: Store, comparison: Comparison) -> dict[str, bytes]:
    """The plots of a comparison, PNG by file name; none without matplotlib.

    Args:
        store: Where the runs are.
        comparison: What to draw.
    """
    if not installed("matplotlib"):
        return {}
    plots = {"comparison.png": draw_bars(comparison)}
    curves = draw_curves(comparison, read_curves(store, comparison))
    return plots if curves is None else plots | {"curves.png": curves}


def publish(store: Store, comparison: Comparison, plots: Mapping[str, bytes]) -> str | None:
    """Record a comparison as artifacts of a new run called ``comparison`` in the same experiment.

    Args:
        store: Where to record it.
        comparison: What to record.
        plots: PNG by file name.

    Returns:
        The run's id.

    Raises:
        StorageError: If the run cannot be created.
    """
    text = markdown(comparison)
    first = comparison.rows[0].records[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "artifacts"
        folder.mkdir()
        write_text(folder / "comparison.md", text)
        write_text(folder / "comparison.html", page([(comparison, plots)]))
        write_text(folder / "comparison.json", json.dumps(comparison.to_dict(), indent=2))
        for file, png in plots.items():
            (folder / file).write_bytes(png)
        run = start_run(
            store,
            experiment=comparison.experiment,
            name="comparison",
            params={
                "methods": ", ".join(row.label for row in comparison.rows),
                "metrics": ", ".join(comparison.metrics),
                "reference": comparison.reference,
                "runs": ", ".join(r.run_id for row in comparison.rows for r in row.records),
            },
            tags={
                "nearfar.kind": "eval",
                "nearfar.domain": first.method.partition(".")[0],
                "nearfar.dataset": comparison.dataset,
                "nearfar.dataset_digest": comparison.digest,
                **({_DESCRIPTION: text} if len(text) <= _LONGEST else {}),
            },
            outbox=Path(name) / "outbox.jsonl",
            warn=warn,
        )
        run.artifact(folder)
        run.finish("FINISHED")
        return run.run_id


def write_text(path: Path, text: str) -> None:
    """Write a report where somebody asked for it.

    Args:
        path: File; its folder must exist.
        text: What to write.

    Raises:
        StorageError: If it cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}") from None
