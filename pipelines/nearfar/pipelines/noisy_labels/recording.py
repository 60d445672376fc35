"""What came out for one domain, as a run in the store."""

from __future__ import annotations

from dataclasses import asdict

from nearfar.optional import installed
from nearfar.pipelines.mean_std import mean_std
from nearfar.pipelines.noisy_labels.experiment import REFERENCE, DomainResult
from nearfar.pipelines.noisy_labels.plot import draw_bars
from nearfar.pipelines.noisy_labels.tables import markdown
from nearfar.pipelines.study_record import record_study
from nearfar.tracking import Store


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
    return record_study(
        store,
        "noisy-labels",
        f"{result.data}-{100 * result.setting.rate:.0f}",
        domain=result.domain,
        data=result.data,
        digest=result.digest,
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
        report=markdown([result], {}),
        results=result.to_dict(),
        bars=draw_bars(result) if installed("matplotlib") else None,
        by_seed=[_of_seed(result, seed) for seed in range(result.setting.seeds)],
        over_seeds=_over_seeds(result),
    )


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
            if (over := mean_std(values)) is not None:
                found |= over.metrics(f"test/balanced_accuracy{kind}/{name}")
    for name, difference in result.differences.items():
        key = f"test/{REFERENCE}_minus/{name}"
        found |= {key: difference.mean, f"{key}_p": difference.p_value, f"{key}_p_holm": difference.p_holm}
    return {key: value for key, value in found.items() if value is not None}
