"""What came out as Markdown: one table of all domains, wins and losses, and what lies behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nearfar.pipelines.markdown_table import table
from nearfar.pipelines.mean_std import MeanStd, mean_std
from nearfar.pipelines.noisy_labels.baselines import BASELINES
from nearfar.pipelines.noisy_labels.experiment import REFERENCE, DomainResult
from nearfar.pipelines.significance import verdict

FILTERS = {"none": "no filter", "lof": "LOF", "knn": "kNN, 60 % kept", "cleanlab": "cleanlab"}


def markdown(results: Sequence[DomainResult], skipped: Mapping[str, str]) -> str:
    """The whole report.

    Args:
        results: By domain.
        skipped: Why other domains are not among them.
    """
    parts = ["# Noisy and long-tailed labels on representations of several domains\n"]
    if results:
        parts += [_wrong_labels(results), _true_labels(results), _purities(results), _data(results)]
    notes = [f"- {domain} is skipped: {reason}" for domain, reason in skipped.items()]
    for result in results:
        notes += [f"- {result.domain}: {name} is left out: {why}" for name, why in result.left_out.items()]
        notes += [f"- {result.domain}: {note}" for scores in result.scores.values() for note in scores.notes]
    if notes:
        parts.append("\n".join(["## Notes\n", *notes, ""]))
    return "\n".join(parts)


def _wrong_labels(results: Sequence[DomainResult]) -> str:
    setting = results[0].setting
    rows = []
    for name in _names(results):
        cells = []
        for result in results:
            scores = result.scores.get(name)
            cell = "left out" if scores is None else _cell(mean_std(scores.noisy), setting.seeds)
            difference = result.differences.get(name)
            if difference is not None and difference.n:
                known = [f"{100 * difference.mean:+.1f}"]
                if difference.p_value is not None and difference.p_holm is not None:
                    known.append(f"p={difference.p_value:.2g}, Holm {difference.p_holm:.2g}")
                cell += f" ({'; '.join(filter(None, [*known, verdict(difference)]))})"
            cells.append(cell)
        rows.append([_title(name), *cells])
    reference = BASELINES[REFERENCE].title
    tally = [["wins / draws / losses", *(_tally(result) for result in results)]]
    about = (
        f"Balanced accuracy, %, mean ± standard deviation over {setting.seeds} seeds; {100 * setting.rate:.0f} % of "
        f"the training labels are wrong. In brackets: {reference} minus this method; p of the paired t-test over "
        f"seeds; the same corrected for the number of methods; and what that is for {reference} at 5 % of the latter.\n"
    )
    return "\n".join(["## Wrong labels\n", about, table(["method", *_headings(results)], rows + tally), ""])


def _true_labels(results: Sequence[DomainResult]) -> str:
    rows = [
        [
            _title(name),
            *(
                _cell(mean_std(result.scores[name].clean), result.setting.seeds)
                if name in result.scores
                else "left out"
                for result in results
            ),
        ]
        for name in _names(results)
    ]
    about = "The same rows with their true labels: what wrong ones cost.\n"
    return "\n".join(
        ["## True labels, for reference\n", about, table(["method", *_headings(results)], rows), ""]
    )


def _purities(results: Sequence[DomainResult]) -> str:
    rows = []
    for key, title in FILTERS.items():
        cells = []
        for result in results:
            found = [one for one in result.purities.get(key, ()) if one is not None]
            share = mean_std([one.share_kept for one in found])
            right, tail = mean_std([one.overall for one in found]), mean_std([one.subset for one in found])
            cells.append(
                "cannot run"
                if share is None or right is None
                else f"{100 * right.mean:.1f} / {'-' if tail is None else f'{100 * tail.mean:.1f}'} "
                f"({100 * share.mean:.0f} % kept)"
            )
        rows.append([title, *cells])
    about = (
        "Share of right labels among the rows that a filter keeps, %, all classes / tail, mean over seeds.\n"
    )
    return "\n".join(["## Purity\n", about, table(["filter", *_headings(results)], rows), ""])


def _data(results: Sequence[DomainResult]) -> str:
    rows = [
        [
            result.domain,
            result.about,
            str(result.features),
            f"{sum(result.counts)}: {', '.join(map(str, result.counts))}",
            f"{result.counts[0] / max(result.counts[-1], 1):.3g}",
            str(result.test_rows),
        ]
        for result in results
    ]
    headings = ["domain", "what", "features", "training rows by class", "ratio", "test rows"]
    return "\n".join(["## Data\n", table(headings, rows), ""])


def _names(results: Sequence[DomainResult]) -> list[str]:
    found = {name for result in results for name in (*result.scores, *result.left_out)}
    return [name for name in BASELINES if name in found]


def _title(name: str) -> str:
    return f"**{BASELINES[name].title}**" if name == REFERENCE else BASELINES[name].title


def _headings(results: Sequence[DomainResult]) -> list[str]:
    return [f"{result.domain} ({result.data}, {len(result.counts)} classes)" for result in results]


def _cell(found: MeanStd | None, seeds: int) -> str:
    if found is None:
        return "cannot run"
    part = "" if found.n == seeds else f" [{found.n} of {seeds} seeds]"
    return f"{found.percent()}{part}"


def _tally(result: DomainResult) -> str:
    verdicts = [verdict(difference) for difference in result.differences.values()]
    return " / ".join(str(verdicts.count(kind)) for kind in ("win", "draw", "loss"))
