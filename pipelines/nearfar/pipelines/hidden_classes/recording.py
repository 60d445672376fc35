"""What came out for one source, as a run in the store."""

from __future__ import annotations

from dataclasses import asdict

from nearfar.optional import installed
from nearfar.pipelines.hidden_classes.experiment import METRICS, REFERENCE, DomainResult
from nearfar.pipelines.hidden_classes.plot import draw_bars
from nearfar.pipelines.hidden_classes.tables import markdown
from nearfar.pipelines.mean_std import mean_std
from nearfar.pipelines.study_record import record_study
from nearfar.tracking import Store


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
    return record_study(
        store,
        "hidden-classes",
        f"{result.data}-{len(result.seeds)}-seeds",
        domain=result.domain,
        data=result.data,
        digest=result.digest,
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
        report=markdown([result], {}),
        results=result.to_dict(),
        bars=draw_bars(result) if installed("matplotlib") else None,
        by_seed=[_of_seed(result, place) for place in range(len(result.seeds))],
        over_seeds=_over_seeds(result),
    )


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
            if (over := mean_std(scores.values[metric])) is not None:
                found |= over.metrics(f"{_part(metric)}/{metric}/{name}")
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
