"""What came out for one domain, as a run in the store."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from nearfar.messages import warn
from nearfar.optional import installed
from nearfar.pipelines.identity import process_tags
from nearfar.pipelines.noisy_labels.experiment import REFERENCE, DomainResult, summary
from nearfar.pipelines.noisy_labels.plot import draw_bars
from nearfar.pipelines.noisy_labels.tables import markdown
from nearfar.tracking import Store, experiment_name, start_run


def record(store: Store, result: DomainResult) -> str | None:
    """Record parameters, metrics of every arm (one step a seed) with mean and deviation, tables and bars.

    Args:
        store: Where.
        result: What came out.

    Returns:
        Id of the run, which is in the experiment ``nearfar/noisy-labels/<domain>``.

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
            experiment=experiment_name("noisy-labels", result.domain),
            name=f"{result.data}-{100 * result.setting.rate:.0f}",
            params={
                **asdict(result.setting),
                "noise": "imb",
                "reference": REFERENCE,
                "methods": ", ".join(result.scores),
                "data.digest": result.digest,
                "data.about": result.about,
                "data.counts": ", ".join(map(str, result.counts)),
                "data.features": result.features,
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
        for seed in range(result.setting.seeds):
            run.log(_of_seed(result, seed), seed)
        run.log(_over_seeds(result), result.setting.seeds - 1)
        run.artifact(folder)
        run.finish("FINISHED")
        return run.run_id


def _of_seed(result: DomainResult, seed: int) -> dict[str, float]:
    found: dict[str, float | None] = {}
    for name, scores in result.scores.items():
        found[f"test/balanced_accuracy/{name}"] = scores.noisy[seed]
        found[f"test/balanced_accuracy_true_labels/{name}"] = scores.clean[seed]
    for name, ones in result.purities.items():
        if (one := ones[seed]) is not None:
            found |= {f"train/purity/{name}": one.overall, f"train/purity_tail/{name}": one.subset}
            found[f"train/kept/{name}"] = one.share_kept
    return {key: value for key, value in found.items() if value is not None}


def _over_seeds(result: DomainResult) -> dict[str, float]:
    found: dict[str, float | None] = {}
    for name, scores in result.scores.items():
        for kind, values in (("", scores.noisy), ("_true_labels", scores.clean)):
            if (over := summary(values)) is not None:
                key = f"test/balanced_accuracy{kind}/{name}"
                found |= {f"{key}_mean": over.mean, f"{key}_std": over.std, f"{key}_n": float(over.n)}
    for name, difference in result.differences.items():
        key = f"test/{REFERENCE}_minus/{name}"
        found |= {key: difference.mean, f"{key}_p": difference.p_value, f"{key}_p_holm": difference.p_holm}
    return {key: value for key, value in found.items() if value is not None}
