"""What came out as Markdown: per source one table of scores, and one of differences to the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nearfar.pipelines.hidden_classes.experiment import METRICS, REFERENCE, DomainResult
from nearfar.pipelines.hidden_classes.methods import METHODS
from nearfar.pipelines.markdown_table import table
from nearfar.pipelines.mean_std import mean_std
from nearfar.pipelines.significance import Difference, verdict

ABOUT = (
    "Trained on coarse classes alone; measured on the frozen encoder, %, mean ± standard deviation over seeds. Hidden "
    "NMI: k-means inside the coarse classes against the fine ones. Fine probe: balanced logistic regression told the "
    "fine classes, balanced accuracy on test rows. Coarse accuracy: balanced, on test rows, of the method's own head "
    "or of balanced logistic regression.\n"
)


def markdown(results: Sequence[DomainResult], skipped: Mapping[str, str]) -> str:
    """The whole report.

    Args:
        results: By source.
        skipped: Why other sources are not among them.
    """
    parts = ["# Hidden classes: what is left of fine classes that were merged\n"]
    if results:
        parts.append(ABOUT)
    parts += [_section(result) for result in results]
    if skipped:
        notes = [f"- {domain} is skipped: {reason}" for domain, reason in skipped.items()]
        parts.append("\n".join(["## Notes\n", *notes, ""]))
    return "\n".join(parts)


def _section(result: DomainResult) -> str:
    training, seeds = result.training, result.seeds
    about = (
        f"{result.about[0].upper()}{result.about[1:]}. {result.classes}; {result.train_rows} training rows, "
        f"{result.test_rows} test rows. {training.epochs} epochs, batch {training.batch_size}, learning rate "
        f"{training.lr:g}, temperature {training.temperature:g}; seeds {seeds[0]} to {seeds[-1]}.\n"
    )
    lines = [f"## {result.domain} ({result.data})\n", about, _scores(result), ""]
    if result.differences:
        note = (
            f"{METHODS[REFERENCE].title} minus the method, points, with p of the paired t-test over seeds, the same "
            f"corrected for the number of methods (Holm), and what that is for {METHODS[REFERENCE].title} at 5 %.\n"
        )
        lines += [note, _differences(result), ""]
    return "\n".join(lines)


def _scores(result: DomainResult) -> str:
    rows = [
        [
            f"**{scores.title}**" if name == REFERENCE else scores.title,
            *(_cell(scores.values[metric]) for metric in METRICS),
        ]
        for name, scores in result.scores.items()
    ]
    return table(["method", *METRICS.values()], rows)


def _differences(result: DomainResult) -> str:
    rows = [
        [scores.title, *(_difference(result.differences[metric].get(name)) for metric in METRICS)]
        for name, scores in result.scores.items()
        if name != REFERENCE
    ]
    return table([f"{METHODS[REFERENCE].title} minus", *METRICS.values()], rows)


def _cell(values: Sequence[float | None]) -> str:
    found = mean_std(values)
    if found is None:
        return "not measured"
    part = "" if found.n == len(values) else f" [{found.n} of {len(values)} seeds]"
    return f"{found.percent()}{part}"


def _difference(found: Difference | None) -> str:
    if found is None:
        return "not measured"
    text = f"{100 * found.mean:+.1f}"
    if found.p_value is None or found.p_holm is None:
        return text
    return f"{text} (p={found.p_value:.2g}, Holm {found.p_holm:.2g}; {verdict(found)})"
