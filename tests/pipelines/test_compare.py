"""Comparisons: runs with known numbers in a store, and what is said about them."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from nearfar.errors import ConfigError, StorageError
from nearfar.optional import installed
from nearfar.pipelines.cli import run as command_line
from nearfar.pipelines.compare import compare, compare_pool, higher_is_better
from nearfar.pipelines.comparison import Comparison
from nearfar.pipelines.plots import draw_bars, draw_curves, mean_curve, read_curves
from nearfar.pipelines.publication import draw, publish
from nearfar.pipelines.records import open_recorded, read_history, read_records
from nearfar.pipelines.registry import find
from nearfar.pipelines.report import (
    difference_sheet,
    heading,
    markdown,
    page,
    print_comparison,
    summary_sheet,
)
from nearfar.pipelines.settings import resolve_settings
from nearfar.pipelines.significance import correct, holm, paired_difference
from nearfar.tracking import Store, open_store

pytestmark = pytest.mark.skipif(
    not (installed("mlflow") and installed("scipy")), reason="mlflow and scipy are not both installed"
)

TOY, NDCG, HR = "nearfar/recsys/toy", "test/ndcg_at_10", "test/hr_at_10"
approx: Any = pytest.approx  # inside tuples, mypy takes the comparison for a mistake otherwise
SASREC = {0: 0.30, 1: 0.32, 2: 0.34}
MCLREC = {0: 0.31, 1: 0.34, 2: 0.37}
# The same on the seeds it shares with the one above, worse on its own.
HEAVY = {**MCLREC, 3: 0.20, 4: 0.20, 5: 0.20}
LIGHT = "recsys.mclrec (default)"
WEIGHT = 'recsys.mclrec (contrast.rows="a|b")'


class Writer:
    """Puts runs straight into a store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = 1_000

    def run(
        self,
        experiment: str,
        method: str,
        seed: int,
        metrics: Mapping[str, float],
        *,
        variant: str = "default",
        digest: str = "d" * 32,
        kind: str = "train",
        status: str | None = "FINISHED",
        parent: str | None = None,
        curve: Sequence[float] = (),
        params: Mapping[str, str] | None = None,
        commit: str = "c0ffee00",
    ) -> str:
        from mlflow.entities import Metric, Param

        client = self.store.client
        self.clock += 1_000
        tags = {
            "nearfar.kind": kind,
            "nearfar.method": method,
            "nearfar.variant": variant,
            "nearfar.config_hash": hashlib.sha256(f"{method} {variant}".encode()).hexdigest()[:16],
            "nearfar.seed": str(seed),
            "nearfar.dataset": experiment.rpartition("/")[2],
            "nearfar.dataset_digest": digest,
            "nearfar.git_commit": commit,
            **({"mlflow.parentRunId": parent} if parent else {}),
        }
        run = client.create_run(
            self.store.experiment(experiment), self.clock, tags, run_name=f"{method}-s{seed}"
        )
        values = [Metric(name, value, self.clock, 9) for name, value in metrics.items()]
        values += [Metric("val/ndcg_at_10", value, self.clock, 5 * step) for step, value in enumerate(curve)]
        given = {"selection.metric": "val/ndcg_at_10", "selection.mode": "max", **(params or {})}
        client.log_batch(run.info.run_id, values, [Param(key, value) for key, value in given.items()])
        if status:
            client.set_terminated(run.info.run_id, status)
        return str(run.info.run_id)


class Runs:
    """The store, and the runs somebody names."""

    def __init__(self, store: Store) -> None:
        self.store = store
        write = Writer(store).run
        write(TOY, "recsys.sasrec", 1, {NDCG: 0.99, HR: 0.99, "perf/epochs": 2})  # made again below
        group = write(TOY, "recsys.sasrec", 0, {}, kind="group")
        self.sasrec = {
            seed: write(
                TOY,
                "recsys.sasrec",
                seed,
                {
                    NDCG: value,
                    HR: 0.5 + seed / 8,
                    "test/only": 1.0,
                    "perf/epochs": 2,
                    "perf/fit_seconds": 80.0,
                },
                parent=group,
                curve=[0.1, 0.2 + seed / 100],
            )
            for seed, value in SASREC.items()
        }
        for variant, values in (("default", MCLREC), ('contrast.rows="a|b"', HEAVY)):
            for seed, value in values.items():
                metrics = {NDCG: value, HR: 0.625 + seed / 8, "perf/epochs": 2, "perf/fit_seconds": 99.0}
                write(TOY, "recsys.mclrec", seed, metrics, variant=variant, curve=[0.1, 0.3])
        self.popularity = write(
            TOY, "recsys.popularity", 7, {NDCG: 0.2, HR: 0.25, "perf/epochs": 0}, curve=[0.15]
        )
        trial = write(TOY, "recsys.sasrec", 0, {}, kind="trial", parent=group)
        write(TOY, "recsys.sasrec", 0, {"val/ndcg_at_10": 0.5}, variant="trial", parent=trial)
        write(TOY, "recsys.sasrec", 8, {}, status=None)
        write(TOY, "recsys.sasrec", 9, {}, status="FAILED")
        self.group, self.trial = group, trial
        self.evaluation = write(TOY, "comparison", 0, {}, kind="eval")

        for seed in range(6):
            for method, cost in (("graph.a", 1.0), ("graph.b", 1.0 + 0.01 * (seed + 1))):
                write(
                    "nearfar/graph/toy",
                    method,
                    seed,
                    {"test/loss": cost},
                    params={"selection.metric": "val/x"},
                )
        write("nearfar/recsys/mixed", "recsys.sasrec", 0, {NDCG: 1.0}, digest="a" * 32)
        write("nearfar/recsys/mixed", "recsys.mclrec", 0, {NDCG: 1.0}, digest="b" * 32)
        write("nearfar/recsys/apart", "recsys.sasrec", 0, {"test/a": 1.0})
        write("nearfar/recsys/apart", "recsys.mclrec", 0, {"test/b": 1.0})
        for seed in range(2):
            write("nearfar/recsys/unfinished", "recsys.sasrec", seed, {}, status=None)
        write("nearfar/recsys/unfinished", "recsys.sasrec", 2, {}, status="KILLED")


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """One store for all tests of this file."""
    return Runs(open_store(f"sqlite:///{tmp_path_factory.mktemp('compare')}/mlruns/mlflow.db"))


@pytest.fixture
def toy(runs: Runs) -> Comparison:
    """All methods of the toy data, differences to the best."""
    return one(runs, TOY)


def one(runs: Runs, *targets: str, **options: Any) -> Comparison:
    """The only comparison behind the targets."""
    (comparison,) = compare(runs.store, targets, **options)
    return comparison


def test_mean_and_spread_over_seeds(toy: Comparison) -> None:
    assert toy.metrics == (NDCG, HR), "what picked the epochs first; not what one method alone has"
    assert [row.label for row in toy.rows] == [LIGHT, "recsys.sasrec", WEIGHT, "recsys.popularity"]
    cell = toy.cells["recsys.sasrec", NDCG]
    assert (cell.mean, cell.std, cell.n) == (approx(0.32), approx(0.02), 3)
    cell = toy.cells[LIGHT, NDCG]
    assert (cell.mean, cell.std, cell.n) == (approx(0.34), approx(0.03), 3)
    assert toy.cells["recsys.popularity", NDCG].std is None
    assert toy.reference == LIGHT
    assert toy.cells[LIGHT, NDCG].difference is None


def test_paired_t_test(toy: Comparison) -> None:
    """Differences -.01, -.02, -.03: t = -2 sqrt(3) on two degrees of freedom, p = 1 - t / sqrt(t^2 + 2)."""
    from scipy import stats

    found = toy.cells["recsys.sasrec", NDCG].difference
    assert found is not None
    assert (found.n, found.mean) == (3, approx(-0.02))
    assert found.p_value == approx(1 - (12 / 14) ** 0.5)
    assert found.p_value == approx(stats.ttest_rel([*SASREC.values()], [*MCLREC.values()]).pvalue)
    half = 4.302653 * 0.01 / 3**0.5  # 97.5 % of Student's t on two degrees of freedom, from a table
    assert (found.low, found.high) == (
        approx(-0.02 - half, abs=1e-8),
        approx(-0.02 + half, abs=1e-8),
    )
    assert found.wilcoxon is None, "three seeds"


def test_what_does_not_depend_on_the_seed_is_a_constant(runs: Runs, toy: Comparison) -> None:
    """Popularity has one run, of a seed nobody else has; the others' seeds are tested against its value."""
    from scipy import stats

    found = toy.cells["recsys.popularity", NDCG].difference
    assert found is not None
    assert found.n == 3
    assert found.p_value == approx(stats.ttest_1samp([*MCLREC.values()], 0.2).pvalue)
    t = 0.14 * 3**0.5 / 0.03
    assert found.p_value == approx(1 - t / (t * t + 2) ** 0.5)
    against = one(runs, TOY, against="recsys.popularity")
    found = against.cells["recsys.sasrec", NDCG].difference
    assert found is not None
    assert (found.n, found.mean) == (3, approx(0.12))
    assert found.p_value == approx(stats.ttest_1samp([*SASREC.values()], 0.2).pvalue)


def test_several_seeds_of_initial_weights_are_paired_by_seed(runs: Runs) -> None:
    write, place = Writer(runs.store).run, f"{TOY}-drawn"
    for seed, value in SASREC.items():
        write(place, "recsys.sasrec", seed, {NDCG: value, "perf/epochs": 2})
        write(place, "recsys.popularity", seed, {NDCG: value - 0.01, "perf/epochs": 0})
    found = one(runs, place, against="recsys.sasrec").cells["recsys.popularity", NDCG].difference
    assert found is not None
    assert (found.n, found.mean) == (len(SASREC), approx(-0.01))


def test_a_run_told_to_train_nothing_is_no_constant(runs: Runs) -> None:
    (pool,) = read_records(runs.store, [TOY])
    assert {record.method for record in pool.records if record.fixed} == {"recsys.popularity"}


def test_equal_runs_and_constant_differences(toy: Comparison) -> None:
    same = toy.cells[WEIGHT, NDCG].difference
    assert same is not None
    assert (same.n, same.mean, same.low, same.high, same.p_value) == (3, 0, 0, 0, 1)
    shifted = toy.cells["recsys.sasrec", HR].difference
    assert shifted is not None
    assert shifted.mean == -0.125
    assert shifted.p_value is None
    assert shifted.low is None
    assert shifted.p_holm is None


def test_holm_by_hand(toy: Comparison) -> None:
    """p = .0742, .0150, 1: the smallest three times, the next twice, the last as it is."""
    found = {row.label: toy.cells[row.label, NDCG].difference for row in toy.rows[1:]}
    assert [round(d.p_value or 0, 4) for d in found.values() if d] == [0.0742, 1.0, 0.0150]
    assert [round(d.p_holm or 0, 4) for d in found.values() if d] == [0.1484, 1.0, 0.0449]
    assert holm([None, 0.5, 0.9]) == [None, 1.0, 1.0]
    assert holm([]) == []


def test_degenerate_pairs() -> None:
    assert paired_difference([], []) is None
    single = paired_difference([1.0], [0.5])
    assert single is not None
    assert (single.n, single.mean, single.p_value, single.low) == (1, 0.5, None, None)
    # 0.1 + 0.2 - 0.2 and so on: a constant but for round-off.
    base = [0.1, 0.7, 1.3, 1.9]
    constant = paired_difference([value + 0.3 for value in base], base)
    assert constant is not None
    assert constant.p_value is None
    equal = paired_difference([0.5] * 6, [0.5] * 6)
    assert equal is not None
    assert (equal.p_value, equal.wilcoxon) == (1.0, 1.0)
    assert correct({"a": None}) == {}


def test_costs_are_better_when_small_and_ranks_are_tested_from_six_seeds(runs: Runs) -> None:
    """Six differences of one sign: 2 of 2^6 orders are as extreme, p = 1/32; Holm has nothing to correct."""
    comparison = one(runs, "nearfar/graph/toy")
    assert [row.label for row in comparison.rows] == ["graph.a", "graph.b"]
    found = comparison.cells["graph.b", "test/loss"].difference
    assert found is not None
    assert (found.n, found.wilcoxon, found.wilcoxon_holm) == (6, 1 / 32, 1 / 32)
    sheet = difference_sheet(comparison)
    assert sheet is not None
    assert (sheet.headings[-1], sheet.rows[0][-1]) == ("Wilcoxon (Holm)", "0.031")
    assert not higher_is_better("test/loss")
    assert not higher_is_better("perf/peak_mem_mb")
    assert higher_is_better("perf/steps_per_s")
    assert not higher_is_better("test/score", rows_selecting(comparison, ("val/score", "min")))


def rows_selecting(comparison: Comparison, selection: tuple[str, str]) -> list[Any]:
    """The rows, as if their epochs had been picked otherwise."""
    return [replace(row, records=(replace(row.records[0], selection=selection),)) for row in comparison.rows]


def test_only_the_newest_of_equal_runs_counts(runs: Runs, toy: Comparison) -> None:
    assert toy.rows[1].values(NDCG)[1] == SASREC[1]
    assert "recsys.sasrec: 1 older run with the same settings and seed left out" in toy.notes


def test_what_is_left_out_is_said(toy: Comparison) -> None:
    assert "left out because they have not finished: 1 failed, 1 running" in toy.notes
    assert f"{WEIGHT} has 3 of its 6 seeds in common with {LIGHT}" in toy.notes
    assert not any("trial" in row.label for row in toy.rows)


def test_runs_of_several_versions_of_the_code(runs: Runs) -> None:
    (pool,) = read_records(runs.store, [*list(runs.sasrec.values())[:1], runs.popularity])
    other = replace(pool, records=(pool.records[0], replace(pool.records[1], commit="beef" * 10)))
    assert not any("versions" in note for note in compare_pool(pool).notes)
    assert "the runs were made by 2 versions of the code: beefbee, c0ffee0" in compare_pool(other).notes


def test_groups_folders_and_short_names(runs: Runs, tmp_path: Path) -> None:
    group = one(runs, runs.group)
    assert [row.label for row in group.rows] == ["recsys.sasrec"]
    assert [record.seed for record in group.rows[0].records] == [0, 1, 2]
    assert group.metrics == (NDCG, HR, "test/only")
    for seed, run_id in runs.sasrec.items():
        (tmp_path / f"s{seed}").mkdir()
        (tmp_path / f"s{seed}" / "run.json").write_text(json.dumps({"run_id": run_id}))
    assert one(runs, str(tmp_path)).cells == group.cells
    assert one(runs, str(tmp_path / "s1")).cells["recsys.sasrec", NDCG].mean == SASREC[1]
    assert one(runs, "recsys/toy") == one(runs, TOY)


def test_one_comparison_per_experiment(runs: Runs) -> None:
    found = compare(runs.store, ["graph/toy", TOY])
    assert [comparison.experiment for comparison in found] == ["nearfar/graph/toy", TOY]


def test_named_metrics(runs: Runs) -> None:
    comparison = one(runs, TOY, metrics=["perf/fit_seconds", NDCG, "test/only"])
    assert comparison.rows[0].label == "recsys.sasrec", "the fastest"
    assert comparison.rows[-1].label == "recsys.popularity", "not measured"
    sheet = summary_sheet(comparison)
    assert sheet.headings == ("method", "seeds", "perf fit seconds ↓", "NDCG@10 ↑", "only ↑")
    assert sheet.rows[-1] == ("recsys.popularity", "1", "-", "0.2000", "-")
    assert sheet.rows[0][2:4] == ("80.00 ± 0.00", "0.3200 ± 0.0200")


@pytest.mark.parametrize(
    ("targets", "options", "message"),
    [
        (["recsys/tyo"], {}, r"unknown experiment 'recsys/tyo'.*did you mean 'nearfar/recsys/toy'\?"),
        (["qqqq"], {}, r"unknown experiment 'qqqq'.* has nearfar/graph/toy, .*nearfar/recsys/toy"),
        (["f" * 32], {}, "no run f{32} in sqlite"),
        (
            ["recsys/mixed"],
            {},
            r"not seen the same data.*aaaaaaaa: 1 \(recsys.sasrec.*bbbbbbbb: 1 \(recsys.mcl",
        ),
        (["recsys/apart"], {}, r"no test/\* metric is common.*mclrec: test/b"),
        (["recsys/unfinished"], {}, r"recsys/unfinished: no run has finished \(1 killed, 2 running\)"),
        (
            ["recsys/toy"],
            {"metrics": ["test/ndcg_at_1"]},
            r"the metric 'test/ndcg_at_1'; did you mean 'test/ndcg_at_10'",
        ),
        (["recsys/toy"], {"against": "recsys.sasrek"}, r"'recsys.sasrek'; did you mean 'recsys.sasrec'"),
        (
            ["recsys/toy"],
            {"against": "recsys.mclrec"},
            r"several settings; choose from recsys.mclrec \(default\)",
        ),
    ],
)
def test_refusals(runs: Runs, targets: list[str], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compare(runs.store, targets, **options)


def test_refused_runs_and_folders(runs: Runs, tmp_path: Path) -> None:
    for run_id, message in ((runs.evaluation, "is of kind eval"), (runs.trial, "is of kind trial")):
        with pytest.raises(ConfigError, match=message):
            compare(runs.store, [run_id])
    with pytest.raises(ConfigError, match=r"has no run.json"):
        compare(runs.store, [str(tmp_path)])
    (tmp_path / "run.json").write_text('{"run_id": null}')
    with pytest.raises(ConfigError, match="is in no tracking store"):
        compare(runs.store, [str(tmp_path)])
    (tmp_path / "run.json").write_text("[")
    with pytest.raises(ConfigError, match=r"run.json cannot be read"):
        compare(runs.store, [str(tmp_path)])


def test_a_store_is_not_made_to_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="nothing is recorded in sqlite"):
        open_recorded()
    assert not (tmp_path / "mlruns").exists()
    monkeypatch.setenv("NEARFAR_TRACKING__URI", f"sqlite:///{tmp_path}/elsewhere.db")
    with pytest.raises(ConfigError, match=r"elsewhere.db yet"):
        open_recorded()


def test_a_store_that_breaks_off(runs: Runs) -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise ConnectionError("gone")

    with pytest.raises(StorageError, match="cannot be read: gone"):
        compare(replace(runs.store, client=Broken()), [TOY])


def test_tables_on_the_terminal(toy: Comparison, capsys: pytest.CaptureFixture[str]) -> None:
    print_comparison(toy, Console(markup=False, width=140))
    text = capsys.readouterr().out
    assert re.search(r"recsys.sasrec\W+3\W+0.3200 ± 0.0200", text)
    assert re.search(r"NDCG@10\W+recsys.sasrec\W+-0.0200 . \[-0.0448, \+0.0048\] . +3 . 0.074 . +0.148", text)
    assert re.search(r"HR@10\W+recsys.sasrec\W+-0.1250 . +- . +3 . +- . +- ", text)
    assert "other seeds would show the same, not whether another split" in " ".join(text.split())
    assert "note: left out because" in text


def test_many_metrics_are_rows(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    (pool,) = read_records(runs.store, [TOY])
    names = [f"test/hr_at_{k}" for k in (5, 10, 20, 50, 100)]
    records = tuple(replace(r, metrics=dict.fromkeys(names, r.seed / 10)) for r in pool.records)
    comparison = compare_pool(replace(pool, records=records))
    sheet = summary_sheet(comparison)
    assert [row[0] for row in sheet.rows] == ["seeds", *(f"HR@{k} ↑" for k in (5, 10, 20, 50, 100))]
    assert sheet.headings == ("metric", *(row.label for row in comparison.rows))
    print_comparison(comparison, Console(markup=False, width=140))
    assert "differences of 1 more metrics" in capsys.readouterr().out


def test_markdown(toy: Comparison) -> None:
    text = markdown(toy)
    assert "| recsys.sasrec | 3 | 0.3200 ± 0.0200 | 0.6250 ± 0.1250 |" in text
    assert r'recsys.mclrec (contrast.rows="a\|b")' in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 2, (
        "two tables, each with its columns"
    )
    assert "- left out because" in text


def test_page_needs_nothing_beside_itself(runs: Runs, toy: Comparison) -> None:
    plots = draw(runs.store, toy)
    assert list(plots) == ["comparison.png", "curves.png"]
    text = page([(toy, plots), (one(runs, "graph/toy"), {})])
    assert not re.search(r"https?:|//[a-z]|<script|<link|@import", re.sub(r"base64,[^\"]+", "", text))
    assert text.count('src="data:image/png;base64,') == 2
    assert "contrast.rows=&quot;a|b&quot;" in text
    assert text.count("<h1>") == 2


def test_headings() -> None:
    assert heading("test/ndcg_at_10_filtered") == "NDCG@10 filtered"
    assert heading("test/f1") == "F1"


def test_curves(runs: Runs, toy: Comparison) -> None:
    assert read_history(runs.store, runs.sasrec[2], "val/ndcg_at_10") == [(0, 0.1), (5, 0.22)]
    curves = read_curves(runs.store, toy)
    assert list(curves) == ["val/ndcg_at_10"]
    steps, means, spread = mean_curve(curves["val/ndcg_at_10"]["recsys.sasrec"])
    assert (steps, means) == ([0, 5], [approx(0.1), approx(0.21)])
    assert spread == [approx(0, abs=1e-12), approx(0.01)]
    assert mean_curve([[(0, 1.0), (5, 2.0)], [(0, 1.0)]])[0] == [0], "up to where both are"
    assert draw_curves(toy, {}) is None
    assert draw_bars(toy).startswith(b"\x89PNG")


def test_a_value_logged_twice_at_a_step_counts_once(runs: Runs) -> None:
    run_id = Writer(runs.store).run("nearfar/recsys/again", "recsys.sasrec", 0, {}, curve=[0.1])
    runs.store.client.log_metric(run_id, "val/ndcg_at_10", 0.7, timestamp=9_999_999, step=0)
    assert read_history(runs.store, run_id, "val/ndcg_at_10") == [(0, 0.7)]


def test_publication(runs: Runs, toy: Comparison) -> None:
    run_id = publish(runs.store, toy, draw(runs.store, toy))
    assert run_id is not None
    run = runs.store.client.get_run(run_id)
    assert (run.info.run_name, run.info.status) == ("comparison", "FINISHED")
    assert run.data.tags["nearfar.kind"] == "eval"
    assert run.data.tags["mlflow.note.content"] == markdown(toy)
    assert run.data.params["reference"] == LIGHT
    assert runs.sasrec[0] in run.data.params["runs"]
    names = {artifact.path for artifact in runs.store.client.list_artifacts(run_id)}
    assert names == {f"comparison.{kind}" for kind in ("html", "json", "md", "png")} | {"curves.png"}
    assert one(runs, TOY) == toy, "a comparison is not compared"


def test_command(runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--html", str(tmp_path / "c.html"), "--markdown", str(tmp_path / "c.md")]
    words = [
        "compare",
        "recsys/toy",
        "--uri",
        runs.store.uri,
        "--against",
        "recsys.sasrec",
        "-m",
        NDCG,
        *files,
    ]
    assert command_line([*words, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out.splitlines()[-1])["comparisons"]
    assert found["reference"] == "recsys.sasrec"
    assert found["rows"][0]["metrics"][NDCG]["difference"]["p_value"] == approx(1 - (12 / 14) ** 0.5)
    assert found["rows"][1]["runs"] == {str(seed): run_id for seed, run_id in runs.sasrec.items()}
    assert runs.store.client.get_run(found["run_id"]).info.run_name == "comparison"
    assert (tmp_path / "c.md").read_text() == markdown(
        one(runs, TOY, metrics=[NDCG], against="recsys.sasrec")
    )
    assert (tmp_path / "c.html").read_text().startswith("<!doctype html>")
    number = runs.store.experiment(TOY)
    before = len(runs.store.client.search_runs([number]))
    assert command_line([*words[:6], "--no-log"]) == 0
    assert "difference to recsys.sasrec" in capsys.readouterr().out
    assert len(runs.store.client.search_runs([number])) == before
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["recsys/tyo"], 2, "nearfar: error: unknown experiment 'recsys/tyo'"),
        (
            ["recsys/toy", "--metric", "nope"],
            2,
            "nearfar: error: no run has the metric 'nope'; there are test/",
        ),
        (
            ["recsys/toy", "--no-log", "--markdown", "missing/x.md"],
            6,
            "missing/x.md cannot be written: No such file",
        ),
    ],
)
def test_mistakes_on_the_command_line(
    runs: Runs, words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line(["compare", *words, "--uri", runs.store.uri]) == code
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_the_demo_ends_with_a_table_and_the_address(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from nearfar.pipelines import demo as demo_module
    from nearfar.pipelines.seeds import Group, Job
    from nearfar.pipelines.train import Outcome

    asked: list[Job] = []

    def pretend(jobs: Sequence[Job], *, workers: int) -> list[Group]:
        asked.extend(jobs)
        made = [[runs.popularity], list(runs.sasrec.values())]
        return [
            Group(job, None, tuple(Outcome(run_id, {}, "x") for run_id in ids))
            for job, ids in zip(jobs, made, strict=True)
        ]

    ended: list[Group] = []
    small = demo_module.Demo(
        "recsys", "toy", "rings", ("recsys.popularity",), ("recsys.sasrec",), (HR, NDCG), "toy data",
        ending=lambda group, output: ended.append(group),
    )  # fmt: skip
    monkeypatch.setenv("NEARFAR_TRACKING__URI", runs.store.uri)
    monkeypatch.setattr(demo_module, "run_jobs", pretend)
    demo_module.demo(3, 2, (small,))
    text = capsys.readouterr().out
    assert [(job.name, job.overrides, job.seeds) for job in asked] == [
        ("recsys.popularity", ("data=toy",), 1),
        ("recsys.sasrec", ("data=toy",), 3),
    ]
    assert [group.job.name for group in ended] == ["recsys.sasrec"]
    assert re.search(r"toy data\n", text)
    assert re.search(r"recsys.sasrec\W+3\W+0.6250 ± 0.1250\W+0.3200 ± 0.0200", text)
    number = runs.store.experiment(TOY)
    assert f"{TOY}: http://127.0.0.1:5000/#/experiments/{number}/runs" in text
    monkeypatch.setenv("NEARFAR_TRACKING__ENABLED", "false")
    with pytest.raises(ConfigError, match="the demo compares recorded runs"):
        demo_module.demo(3, 2, (small,))


def test_the_demo_has_settings_that_can_be() -> None:
    demos = importlib.import_module("nearfar.pipelines.demo").DEMOS
    for one in demos:
        for job in one.jobs(3):
            entry = find(job.name)
            assert entry.domain == one.domain
            assert resolve_settings(entry, job.overrides, environment={}).data == one.data
