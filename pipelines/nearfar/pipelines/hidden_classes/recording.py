"""What came out for one source, as a run in the store."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from nearfar.messages import warn
from nearfar.optional import installed
from nearfar.pipelines.hidden_classes.experiment import METRICS, REFERENCE, DomainResult
from nearfar.pipelines.hidden_classes.plot import draw_bars
from nearfar.pipelines.hidden_classes.tables import markdown
from nearfar.pipelines.identity import process_tags
from nearfar.pipelines.noisy_labels.experiment import summary
from nearfar.tracking import Store, experiment_name, start_run


def record(store: Store, result: DomainResult) -> str | None:
    """Record parameters, metrics of every method (one step a seed) with mean and deviation, tables and bars.

    Args:
        store: Where.
        result: What came out.

    Returns:
        Id of the run, which is in the experiment ``nearfar/hidden-classes/<domain>``.

    Raises:
        StorageError: If the run cannot be created.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "artifacts"
        folder.mkdir()
        (folder / "results.md").write_text(markdown([result], {}), encoding="utf-8")
        (folder / "results.json").write_text(json.dumps(result.to_dict(), indent=2), encoding="utf-8")
        if installed("matplotlib"):
            (folder / "bars.png").write_bytes(draw_bars(result))
        run = start_run(
            store,
            experiment=experiment_name("hidden-classes", result.domain),
            name=f"{result.data}-{len(result.seeds)}-seeds",
            params={
                **asdict(result.training),
                "seeds": ", ".join(map(str, result.seeds)),
                "reference": REFERENCE,
                "methods": ", ".join(result.scores),
                "data.digest": result.digest,
                "data.about": result.about,
                "data.classes": result.classes,
                "data.train_rows": result.train_rows,
                "data.test_rows": result.test_rows,
            },
            tags={
                "nearfar.kind": "eval",
                "nearfar.domain": result.domain,
                "nearfar.dataset": result.data,
                "nearfar.dataset_digest": result.digest,
                **process_tags(),
            },
            outbox=Path(name) / "outbox.jsonl",
            warn=warn,
            system_metrics=False,
        )
        for place in range(len(result.seeds)):
            run.log(_of_seed(result, place), place)
        run.log(_over_seeds(result), len(result.seeds) - 1)
        run.artifact(folder)
        run.finish("FINISHED")
        return run.run_id


def _of_seed(result: DomainResult, place: int) -> dict[str, float]:
    return {
        f"{_part(metric)}/{metric}/{name}": value
        for name, scores in result.scores.items()
        for metric in METRICS
        if (value := scores.values[metric][place]) is not None
    }


def _over_seeds(result: DomainResult) -> dict[str, float]:
    found: dict[str, float | None] = {}
    for metric in METRICS:
        for name, scores in result.scores.items():
            if (over := summary(scores.values[metric])) is not None:
                key = f"{_part(metric)}/{metric}/{name}"
                found |= {f"{key}_mean": over.mean, f"{key}_std": over.std, f"{key}_n": float(over.n)}
        for name, difference in result.differences.get(metric, {}).items():
            key = f"{_part(metric)}/{REFERENCE}_minus_{metric}/{name}"
            found |= {
                key: difference.mean,
                f"{key}_p": difference.p_value,
                f"{key}_p_holm": difference.p_holm,
            }
    return {key: value for key, value in found.items() if value is not None}


def _part(metric: str) -> str:
    """Rows a metric is of, as metric names begin."""
    return "train" if metric == "hidden_nmi" else "test"
