"""What came out of an experiment over several methods and seeds, as one run in the store."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nearfar.messages import warn
from nearfar.optional import installed, missing
from nearfar.pipelines.identity import process_tags
from nearfar.tracking import Store, experiment_name, open_store, start_run


def study_store() -> Store:
    """The store of this place, for experiments that are recorded.

    Raises:
        MissingDependencyError: If MLflow is not installed; says how to do without it.
        StorageError: If the store cannot be opened.
    """
    for module in ("mlflow", "filelock"):
        if not installed(module):
            raise missing(module, "recording runs (--no-tracking does without it)")
    return open_store(None)


def record_study(
    store: Store,
    experiment: str,
    name: str,
    *,
    domain: str,
    data: str,
    digest: str,
    params: Mapping[str, Any],
    report: str,
    results: Mapping[str, Any],
    bars: bytes | None,
    by_seed: Sequence[Mapping[str, float]],
    over_seeds: Mapping[str, float],
) -> str | None:
    """Record parameters, metrics (one step a seed) and what they come to, report and bars.

    Args:
        store: Where.
        experiment: Its name; the run is in ``nearfar/<experiment>/<domain>``.
        name: Of the run.
        domain: Short name of the source of the data.
        data: Data set.
        digest: Its fingerprint.
        params: Settings.
        report: Markdown.
        results: What JSON can hold.
        bars: A PNG, where there is one.
        by_seed: Metrics of every seed.
        over_seeds: Means, deviations, differences.

    Returns:
        Id of the run.

    Raises:
        StorageError: If the run cannot be created.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "artifacts"
        folder.mkdir()
        (folder / "results.md").write_text(report, encoding="utf-8")
        (folder / "results.json").write_text(json.dumps(results, indent=2), encoding="utf-8")
        if bars is not None:
            (folder / "bars.png").write_bytes(bars)
        run = start_run(
            store,
            experiment=experiment_name(experiment, domain),
            name=name,
            params=dict(params),
            tags={
                "nearfar.kind": "eval",
                "nearfar.domain": domain,
                "nearfar.dataset": data,
                "nearfar.dataset_digest": digest,
                **process_tags(),
            },
            outbox=Path(place) / "outbox.jsonl",
            warn=warn,
            system_metrics=False,
        )
        for step, metrics in enumerate(by_seed):
            run.log(dict(metrics), step)
        run.log(dict(over_seeds), len(by_seed) - 1)
        run.artifact(folder)
        run.finish("FINISHED")
        return run.run_id
