"""A comparison as tables: on the terminal, in Markdown, and on one web page that needs nothing beside itself."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nearfar.pipelines.compare import higher_is_better
from nearfar.pipelines.comparison import Cell, Comparison
from nearfar.pipelines.significance import Difference

if TYPE_CHECKING:
    from nearfar.pipelines.tune import TuneOutcome

# More metrics than this are rows of the table instead of columns.
MOST_COLUMNS = 4
_ACRONYMS = {"auc", "f1", "hr", "mae", "mrr", "mse", "ndcg", "nll", "rmse"}
_NOTHING = "-"
FOOTNOTE = (
    "Differences to {reference}: paired t-test over common seeds (what has nothing to train is a constant), "
    "95 % confidence interval of the mean difference, p (Holm) corrected over the methods of each metric. "
    "They say whether other seeds would show the same, not whether another split or other data would."
)
CASES_FOOTNOTE = (
    "Differences to {reference} over {cases}: seeds averaged, the {cases} of the test set drawn again 10,000 times, "
    "both methods on the same ones; p (Holm) as above. They say whether other {cases} would show the same between "
    "these trained models, not whether other seeds would."
)


@dataclass(frozen=True)
class Sheet:
    """A table before it has a form.

    Attributes:
        title: Above it.
        headings: One per column.
        rows: Cells as text.
        words: Number of columns on the left that hold words; the rest holds numbers.
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1


def console() -> Console:
    """Standard output; wide enough for a table when it is a file or a pipe."""
    plain = Console(markup=False)
    return plain if plain.is_terminal else Console(markup=False, width=110)


def heading(metric: str) -> str:
    """A metric's name for people.

    Example:
        >>> heading("test/ndcg_at_10_filtered"), heading("perf/fit_seconds")
        ('NDCG@10 filtered', 'perf fit seconds')
    """
    name = metric.removeprefix("test/").replace("_at_", "@").replace("/", " ").replace("_", " ")
    words = [word.upper() if word.partition("@")[0] in _ACRONYMS else word for word in name.split(" ")]
    return " ".join(words)


def decimals(values: Sequence[float]) -> int:
    """Digits after the point that show values of one metric alike: four for shares, fewer for seconds.

    Example:
        >>> decimals([0.0609, 0.135]), decimals([78.8]), decimals([0.00031])
        (4, 2, 6)
    """
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    exponent = math.floor(math.log10(largest)) if largest > 0 else 0
    return max(3 - exponent, 0) if exponent > 0 else max(4, 2 - exponent)


def summary_sheet(comparison: Comparison, title: str | None = None) -> Sheet:
    """Mean and standard deviation of every method and metric.

    Args:
        comparison: What to show.
        title: Above the table; experiment and data by default.
    """
    if title is None:
        title = f"{comparison.experiment} (data {comparison.digest[:8]}): mean ± std over seeds"
    digits = {metric: _digits(comparison, metric) for metric in comparison.metrics}
    labels = [row.label for row in comparison.rows]
    seeds = [str(len(row.records)) for row in comparison.rows]
    arrows = {m: "↑" if higher_is_better(m, comparison.rows) else "↓" for m in comparison.metrics}

    def text(label: str, metric: str) -> str:
        return _value(comparison.cells.get((label, metric)), digits[metric])

    if len(comparison.metrics) <= MOST_COLUMNS:
        rows = [
            (label, count, *(text(label, metric) for metric in comparison.metrics))
            for label, count in zip(labels, seeds, strict=True)
        ]
        names = (f"{heading(metric)} {arrows[metric]}" for metric in comparison.metrics)
        return Sheet(title, ("method", "seeds", *names), tuple(rows))
    flipped = [("seeds", *seeds)]
    for metric in comparison.metrics:
        flipped.append((f"{heading(metric)} {arrows[metric]}", *(text(label, metric) for label in labels)))
    return Sheet(title, ("metric", *labels), tuple(flipped))


def difference_sheet(comparison: Comparison, most: int | None = None) -> Sheet | None:
    """Every method's difference to the reference over seeds, with interval and p-values; ``None`` if there is none.

    Args:
        comparison: What to show.
        most: Metrics shown at most; all by default.
    """
    ranked = any(c.difference and c.difference.wilcoxon is not None for c in comparison.cells.values())
    rows = [
        (*row, *([_p(found.wilcoxon_holm)] if ranked else []))
        for row, found in _differences(comparison, most, lambda cell: cell.difference)
    ]
    headings = ["metric", "method", "difference", "95 % interval", "pairs", "p", "p (Holm)"]
    headings += ["Wilcoxon (Holm)"] if ranked else []
    title = f"difference to {comparison.reference}"
    return Sheet(title, tuple(headings), tuple(rows), words=2) if rows else None


def cases_sheet(comparison: Comparison, most: int | None = None) -> Sheet | None:
    """The same over the cases of the test set, such as users; ``None`` where runs have not kept them.

    Args:
        comparison: What to show.
        most: Metrics shown at most; all by default.
    """
    rows = tuple(row for row, _ in _differences(comparison, most, lambda cell: cell.over_cases))
    headings = ("metric", "method", "difference", "95 % interval", comparison.cases, "p", "p (Holm)")
    title = f"difference to {comparison.reference} over {comparison.cases}"
    return Sheet(title, headings, rows, words=2) if rows else None


def _differences(
    comparison: Comparison, most: int | None, pick: Callable[[Cell], Difference | None]
) -> Iterator[tuple[tuple[str, ...], Difference]]:
    for metric in comparison.metrics[:most]:
        digits = _digits(comparison, metric)
        for row in comparison.rows:
            cell = comparison.cells.get((row.label, metric))
            found = None if cell is None else pick(cell)
            if found is None:
                continue
            interval = _NOTHING
            if found.low is not None and found.high is not None:
                interval = f"[{found.low:+.{digits}f}, {found.high:+.{digits}f}]"
            numbers = (
                f"{found.mean:+.{digits}f}",
                interval,
                f"{found.n:,}",
                _p(found.p_value),
                _p(found.p_holm),
            )
            yield (heading(metric), row.label, *numbers), found


def _difference_parts(
    comparison: Comparison, reference: str, most: int | None = None
) -> list[tuple[Sheet, str]]:
    """Tables of differences, each with the sentence that says what it can show."""
    parts = [
        (difference_sheet(comparison, most), FOOTNOTE.format(reference=reference)),
        (cases_sheet(comparison, most), CASES_FOOTNOTE.format(reference=reference, cases=comparison.cases)),
    ]
    return [(sheet, footnote) for sheet, footnote in parts if sheet is not None]


def print_comparison(comparison: Comparison, output: Console, title: str | None = None) -> None:
    """Print the tables and notes; differences of the first metrics only, where there are many.

    Args:
        comparison: What to show.
        output: Where to print.
        title: Above the first table.
    """
    _print(summary_sheet(comparison, title), output)
    differences = _difference_parts(comparison, comparison.reference, MOST_COLUMNS)
    for sheet, footnote in differences:
        _print(sheet, output)
        output.print(footnote, highlight=False)
    if differences and (left := len(comparison.metrics) - MOST_COLUMNS) > 0:
        output.print(f"differences of {left} more metrics: --html or --markdown, or name them by --metric")
    for note in comparison.notes:
        output.print(f"note: {note}", highlight=False)


def print_search(outcome: TuneOutcome, output: Console) -> None:
    """What a search found, and its test metrics beside those one would have had without it.

    Args:
        outcome: Of the search.
        output: Where to print.
    """
    ended = ", ".join(f"{count} {state}" for state, count in outcome.trials.items())
    lines = [f"study {outcome.study}: {ended}; best on validation {outcome.best_value:.4f} with"]
    lines += [f"  {key}={value}" for key, value in outcome.best_params.items()]
    for line in [*lines, f"written: {outcome.recipe}"]:
        output.print(line, highlight=False, soft_wrap=True)
    names = [name.removesuffix("_mean") for name in outcome.metrics if name.endswith("_mean")]
    rows = tuple(
        (name, _spread(outcome.metrics, name), _spread(outcome.default_metrics, name)) for name in names
    )
    if rows:
        heading = ("metric", "found", "without the search")
        _print(Sheet("test, seeds that no trial has used", heading, rows), output)


def _spread(metrics: Mapping[str, float], name: str) -> str:
    text = f"{metrics[f'{name}_mean']:.4f}"
    return f"{text} ± {metrics[f'{name}_std']:.4f}" if metrics[f"{name}_n"] > 1 else text


def markdown(comparison: Comparison, title: str | None = None) -> str:
    """The tables and notes as Markdown.

    Args:
        comparison: What to show.
        title: Above the first table.
    """
    parts = [_markdown(summary_sheet(comparison, title))]
    for sheet, footnote in _difference_parts(comparison, f"`{comparison.reference}`"):
        parts += [_markdown(sheet), f"{footnote}\n"]
    if comparison.notes:
        parts.append("".join(f"- {_plain(note)}\n" for note in comparison.notes))
    return "\n".join(parts)


def page(parts: Sequence[tuple[Comparison, Mapping[str, bytes]]]) -> str:
    """All comparisons on one self-contained page.

    Args:
        parts: Comparisons, each with its plots: PNG by caption.
    """
    body = "\n".join(_section(comparison, plots) for comparison, plots in parts)
    return _PAGE.format(title=html.escape(", ".join(part.experiment for part, _ in parts)), body=body)


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>nearfar: {title}</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #1b1f24; }}
h1 {{ font-size: 1.4rem; }}
table {{ border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }}
caption {{ text-align: left; font-weight: 600; padding-bottom: .4rem; }}
th, td {{ border-bottom: 1px solid #d5dae1; padding: .3rem .7rem; text-align: right; }}
th.word, td.word {{ text-align: left; }}
th {{ background: #f3f5f8; }}
img {{ display: block; max-width: 100%; margin: 1.5rem 0; }}
p, li {{ max-width: 50rem; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def _section(comparison: Comparison, plots: Mapping[str, bytes]) -> str:
    lines = [f"<h1>{html.escape(comparison.experiment)}</h1>", _html(summary_sheet(comparison))]
    for sheet, footnote in _difference_parts(comparison, comparison.reference):
        lines += [_html(sheet), f"<p>{html.escape(footnote)}</p>"]
    if comparison.notes:
        lines.append("<ul>" + "".join(f"<li>{html.escape(note)}</li>" for note in comparison.notes) + "</ul>")
    for caption, png in plots.items():
        data = base64.b64encode(png).decode("ascii")
        lines.append(f'<img alt="{html.escape(caption)}" src="data:image/png;base64,{data}">')
    return "\n".join(lines)


def _digits(comparison: Comparison, metric: str) -> int:
    cells = [comparison.cells.get((row.label, metric)) for row in comparison.rows]
    return decimals([cell.mean for cell in cells if cell is not None])


def _value(cell: Cell | None, digits: int) -> str:
    if cell is None:
        return _NOTHING
    text = f"{cell.mean:.{digits}f}"
    return text if cell.std is None else f"{text} ± {cell.std:.{digits}f}"


def _p(value: float | None) -> str:
    if value is None:
        return _NOTHING
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _print(sheet: Sheet, output: Console) -> None:
    output.print(
        sheet.title, highlight=False
    )  # as the table's own title it would be folded to the table's width
    table = Table()
    for place, name in enumerate(sheet.headings):
        word = place < sheet.words
        table.add_column(Text(name), justify="left" if word else "right", no_wrap=not word)
    for row in sheet.rows:
        table.add_row(*(Text(cell) for cell in row))
    output.print(table)


def _plain(text: str) -> str:
    return text.replace("|", "\\|")


def _markdown(sheet: Sheet) -> str:
    lines = [
        f"**{_plain(sheet.title)}**",
        "",
        "| " + " | ".join(_plain(name) for name in sheet.headings) + " |",
        "|" + "".join("--|" if place < sheet.words else "--:|" for place in range(len(sheet.headings))),
    ]
    lines += ["| " + " | ".join(_plain(cell) for cell in row) + " |" for row in sheet.rows]
    return "\n".join(lines) + "\n"


def _html(sheet: Sheet) -> str:
    def cells(tag: str, texts: Sequence[str]) -> str:
        kinds = (' class="word"' if place < sheet.words else "" for place in range(len(texts)))
        return "".join(f"<{tag}{k}>{html.escape(t)}</{tag}>" for k, t in zip(kinds, texts, strict=True))

    rows = "\n".join(f"<tr>{cells('td', row)}</tr>" for row in sheet.rows)
    head = f"<thead><tr>{cells('th', sheet.headings)}</tr></thead>"
    return f"<table><caption>{html.escape(sheet.title)}</caption>{head}<tbody>\n{rows}\n</tbody></table>"
