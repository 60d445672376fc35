"""Comparisons over the users of the test set: real runs, their kept ranks, and what happens without them."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from nearfar.optional import installed
from nearfar.pipelines.cli import run as command_line
from nearfar.pipelines.compare import compare
from nearfar.pipelines.comparison import Comparison
from nearfar.pipelines.report import cases_sheet, markdown, page
from nearfar.pipelines.significance import holm
from nearfar.pipelines.train import train
from nearfar.recsys.bootstrap import paired_bootstrap
from nearfar.recsys.ranks import TestRanks
from nearfar.tracking import Store, open_store

pytestmark = pytest.mark.skipif(
    not (installed("mlflow") and installed("scipy")), reason="mlflow and scipy are not both installed"
)

SETTINGS = ["dim=16", "inner_dim=32", "max_length=10", "targets_per_batch=64", "epochs=2", "device=cpu"]
SETTINGS += ["num_threads=1", "tracking.log_model=false"]
POPULARITY, SASREC, MCLREC = "recsys.popularity", "recsys.sasrec", "recsys.mclrec"


@dataclass(frozen=True)
class Trained:
    """A store, and the ranks of each run as its folder holds them."""

    store: Store
    ids: dict[tuple[str, int], str]
    ranks: dict[tuple[str, int], TestRanks]

    def compare(self, *runs: tuple[str, int], **options: str) -> Comparison:
        """The one comparison of some of them."""
        (comparison,) = compare(self.store, [self.ids[key] for key in runs], **options)
        return comparison


@pytest.fixture(scope="module")
def trained(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Three methods on the ring, the sequence models with seeds 0 and 1."""
    from nearfar.recsys.example import ring

    place = tmp_path_factory.mktemp("cases")
    shutil.copy(empty_store, place / "mlflow.db")
    uri = f"sqlite:///{place}/mlflow.db"
    ids, ranks = {}, {}
    for method, seed in [(POPULARITY, 0), *((m, s) for m in (SASREC, MCLREC) for s in (0, 1))]:
        settings = (
            SETTINGS if method != POPULARITY else [w for w in SETTINGS if w[:6] in ("device", "tracki")]
        )
        settings = [*settings, *ring(place / "data"), f"tracking.uri={uri}", f"seed={seed}"]
        outcome = train(method, [*settings, f"output_dir={place}/{method}-{seed}"], quiet=True)
        assert outcome.run_id is not None
        ids[method, seed] = outcome.run_id
        ranks[method, seed] = TestRanks.read(Path(outcome.output_dir) / "ranks.npz")
        for metric in ("ndcg_at_10", "hr_at_5_filtered"):
            assert ranks[method, seed].values(metric).mean() == outcome.metrics[f"test/{metric}"]
    return Trained(open_store(uri), ids, ranks)


def test_seeds_are_averaged_and_users_resampled(trained: Trained) -> None:
    keys = [(SASREC, 0), (SASREC, 1), (MCLREC, 0), (MCLREC, 1), (POPULARITY, 0)]
    comparison = trained.compare(*keys, against=POPULARITY)
    assert comparison.cases == "users"
    for protocol in ("", "_filtered"):
        metric, p_values = f"test/ndcg_at_10{protocol}", []
        for method in (SASREC, MCLREC):
            ours = np.stack([trained.ranks[method, seed].ranks[protocol] for seed in (0, 1)])
            expected = paired_bootstrap(ours, trained.ranks[POPULARITY, 0].ranks[protocol])
            cell = comparison.cells[method, metric]
            assert cell.over_cases is not None
            assert cell.difference is not None
            assert cell.over_cases.mean == pytest.approx(cell.difference.mean), "the same difference"
            assert (cell.over_cases.n, cell.over_cases.p_value) == (40, expected.p_value)
            assert (cell.over_cases.low, cell.over_cases.high) == pytest.approx((expected.low, expected.high))
            p_values.append(expected.p_value)
        corrected = [comparison.cells[method, metric].over_cases for method in (SASREC, MCLREC)]
        assert [found.p_holm for found in corrected if found] == holm(p_values)


def test_only_common_seeds_are_compared(trained: Trained) -> None:
    comparison = trained.compare((SASREC, 0), (SASREC, 1), (MCLREC, 1), against=SASREC)
    found = comparison.cells[MCLREC, "test/ndcg_at_10"].over_cases
    ours, theirs = (trained.ranks[method, 1].ranks[""] for method in (MCLREC, SASREC))
    assert found is not None
    assert found.p_value == paired_bootstrap(ours, theirs).p_value


def test_reports_show_them(trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    comparison = trained.compare((SASREC, 0), (MCLREC, 0))
    sheet = cases_sheet(comparison)
    assert sheet is not None
    assert sheet.title == f"difference to {comparison.reference} over users"
    assert sheet.headings[4:] == ("users", "p", "p (Holm)")
    assert (len(sheet.rows), len(comparison.metrics)) == (18, 24)  # popularity groups have no values by user
    found = comparison.cells[comparison.rows[1].label, comparison.metrics[0]].over_cases
    assert found is not None
    assert found.low is not None
    assert sheet.rows[0][2:5] == (f"{found.mean:+.4f}", f"[{found.low:+.4f}, {found.high:+.4f}]", "40")
    for text in (markdown(comparison), page([(comparison, {})])):
        assert "over users" in text
        assert "the users of the test set drawn again" in text
    words = [trained.ids[SASREC, 0], trained.ids[MCLREC, 0], "--uri", trained.store.uri, "--no-log", "--json"]
    assert command_line(["compare", *words]) == 0
    (record,) = json.loads(capsys.readouterr().out)["comparisons"]
    assert record["rows"][1]["metrics"]["test/ndcg_at_10"]["over_cases"]["n"] == 40


def ranks_file(trained: Trained, key: tuple[str, int]) -> Path:
    """Where the store keeps them."""
    place = trained.store.client.get_run(trained.ids[key]).info.artifact_uri
    return Path(place.removeprefix("file://")) / "ranks.npz"


def test_runs_without_ranks_are_compared_as_ever(trained: Trained, tmp_path: Path) -> None:
    path = ranks_file(trained, (MCLREC, 0))
    kept = path.read_bytes()
    try:
        path.unlink()
        partly = trained.compare((MCLREC, 0), (SASREC, 0), (POPULARITY, 0), against=POPULARITY)
        assert partly.cells[MCLREC, "test/ndcg_at_10"].over_cases is None
        assert partly.cells[SASREC, "test/ndcg_at_10"].over_cases is not None
        assert any("recsys.mclrec: no difference to recsys.popularity over" in note for note in partly.notes)
        without = trained.compare((MCLREC, 0), (SASREC, 0))
        assert all(cell.over_cases is None for cell in without.cells.values())
        assert cases_sheet(without) is None
        assert "over users" not in markdown(without)
        path.write_bytes(kept[:200])
        damaged = trained.compare((MCLREC, 0), (SASREC, 0))
        assert any(f"ranks.npz of run {trained.ids[MCLREC, 0]} cannot be read" in n for n in damaged.notes)
        TestRanks("other users", trained.ranks[MCLREC, 0].ranks).write(path)
        others = trained.compare((MCLREC, 0), (SASREC, 0))
        assert any("measured on other cases" in note for note in others.notes)
    finally:
        path.write_bytes(kept)


def test_the_page_of_a_run_says_how_it_was_measured(trained: Trained) -> None:
    run = trained.store.client.get_run(trained.ids[SASREC, 0])
    params, tags = run.data.params, run.data.tags
    assert params["eval.split"].startswith("leave-one-out")
    assert params["eval.exclude_seen"] == "both: false is <metric>, true is <metric>_filtered"
    assert (params["eval.ties"], params["eval.candidates"]) == ("against the target", "all items")
    assert (
        params["data.digest"] == tags["nearfar.dataset_digest"] == run.inputs.dataset_inputs[0].dataset.digest
    )
    assert params["data.users"] == params["data.evaluated_users"] == "40"
    assert int(params["data.items"]) <= 30
    assert int(params["data.events"]) > 160
