"""What is measured, by hand and on planted representations; seeds, differences, tables and records."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from nearfar.adapters import FeatureInputs
from nearfar.encoders import Identity
from nearfar.errors import ConfigError
from nearfar.optional import installed
from nearfar.pipelines.hidden_classes.__main__ import compare
from nearfar.pipelines.hidden_classes.experiment import METRICS, Scores, differences, measure, run_source
from nearfar.pipelines.hidden_classes.methods import METHODS
from nearfar.pipelines.hidden_classes.plot import draw_bars
from nearfar.pipelines.hidden_classes.sources import Labelled, Pool
from nearfar.pipelines.hidden_classes.tables import markdown
from nearfar.pipelines.mean_std import mean_std
from nearfar.pipelines.significance import holm, paired_difference
from nearfar.tracking import open_store

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

Make = Callable[..., Pool]


def planted(kept: bool, seed: int = 0) -> Labelled:
    """Rows around an axis of their own for every fine class, or for every coarse one."""
    fine = np.repeat(np.arange(5), 12)
    coarse = np.array([0, 0, 0, 1, 2])[fine]
    axes = torch.eye(5)[torch.from_numpy(fine if kept else coarse)]
    noise = torch.randn(axes.shape, generator=torch.Generator().manual_seed(seed))
    return Labelled(FeatureInputs(axes + 0.02 * noise), coarse, fine)


# Measuring


def test_fine_classes_that_are_kept_and_lost() -> None:
    """Axes of their own: all is found. One axis for a coarse class: the coarse ones are, the fine ones are not."""
    method = SimpleNamespace(encoder=Identity(5))
    kept = measure(method, planted(True), planted(True, 1), 3, 0)
    assert kept == dict.fromkeys(METRICS, 1.0)
    lost = measure(method, planted(False), planted(False, 1), 3, 0)
    assert lost["balanced_accuracy"] == 1.0
    for metric in ("hidden_nmi", "hidden_nmi_test"):
        value = lost[metric]
        assert value is not None
        assert value < 0.25
    assert lost["fine_probe"] is not None
    # The two classes alone are right, of the three merged ones a third by chance.
    assert lost["fine_probe"] == pytest.approx((2 + 3 / 3) / 5, abs=0.12)


def test_a_head_of_the_method_is_the_one_that_is_asked() -> None:
    """One that says class 1 of everything: the recall of one class of three is 1."""
    head = nn.Linear(5, 3)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.tensor([0.0, 1.0, 0.0]))
    found = measure(SimpleNamespace(encoder=Identity(5), head=head), planted(True), planted(True, 1), 3, 0)
    assert found["balanced_accuracy"] == pytest.approx(1 / 3)
    assert found["fine_probe"] == 1.0


def test_nothing_hidden_is_not_measured() -> None:
    part = planted(True)
    alone = Labelled(part.inputs, part.fine, part.fine)
    found = measure(SimpleNamespace(encoder=Identity(5)), alone, alone, 5, 0)
    assert found["hidden_nmi"] is None
    assert found["hidden_nmi_test"] is None
    assert found["balanced_accuracy"] == 1.0


# Seeds and differences


def test_the_same_seeds_give_the_same_result(make_pool: Make) -> None:
    calls: list[int] = []
    pool = make_pool()
    names = ["sbcl", "balanced-softmax"]
    first, again = (run_source(pool, [5, 6], names, advance=lambda: calls.append(1)) for _ in range(2))
    assert first == again
    assert len(calls) == 2 * 2 * 2
    alone = run_source(pool, [6], ["sbcl"])
    # Neither the other methods nor the other seeds are noticed.
    assert {m: v[1:] for m, v in first.scores["sbcl"].values.items()} == dict(alone.scores["sbcl"].values)
    values = first.scores["sbcl"].values
    assert any(values[metric][0] != values[metric][1] for metric in METRICS)
    assert (first.train_rows, first.test_rows) == (82, 60)
    assert alone.differences == {metric: {} for metric in METRICS}


def test_no_seed_and_no_method(make_pool: Make) -> None:
    with pytest.raises(ConfigError, match="seeds: at least 1"):
        run_source(make_pool(), [])
    with pytest.raises(ConfigError, match="methods: 'sbc' is unknown; did you mean 'sbcl'"):
        run_source(make_pool(), [0], ["sbc"])


def scores(name: str, values: tuple[float | None, ...]) -> Scores:
    return Scores(METHODS[name].title, dict.fromkeys(METRICS, values))


def test_differences_are_paired_and_corrected() -> None:
    ours, supcon, simclr = (0.9, 0.8, 0.85, 0.7), (0.5, 0.45, None, 0.2), (0.8, 0.8, 0.7, 0.75)
    found = differences(
        {"supcon": scores("supcon", supcon), "simclr": scores("simclr", simclr), "sbcl": scores("sbcl", ours)}
    )
    assert set(found) == set(METRICS)
    expected = {
        "supcon": paired_difference([0.9, 0.8, 0.7], [0.5, 0.45, 0.2]),
        "simclr": paired_difference(ours, [0.8, 0.8, 0.7, 0.75]),
    }
    corrected = holm([one.p_value if one else None for one in expected.values()])
    for against in found.values():
        assert set(against) == {"supcon", "simclr"}
        for (name, one), p in zip(expected.items(), corrected, strict=True):
            assert one is not None
            assert (against[name].mean, against[name].n, against[name].p_value) == (
                one.mean,
                one.n,
                one.p_value,
            )
            assert against[name].p_holm == p
    assert found["hidden_nmi"]["supcon"].n == 3
    assert differences({"supcon": scores("supcon", supcon)}) == {}


# Tables and records


def test_the_experiment_end_to_end(make_pool: Make, own_store: None, tmp_path: Path) -> None:
    """Tables, JSON, bars and a run in the store, all with the same numbers."""
    store = open_store(None)
    (result,) = compare([make_pool()], range(1000, 1003), store=store, quiet=True)
    assert list(result.scores) == list(METHODS)
    assert result.seeds == (1000, 1001, 1002)
    assert result.classes == "A: ant (20), bee (20), cat (20); B: dog (8), elk (8); C: fox (6)"

    text = markdown([result], {"graph": "there are no files"})
    for found in result.scores.values():
        cells = []
        for metric in METRICS:
            over = mean_std(found.values[metric])
            assert over is not None
            assert over.n == 3
            assert 0 <= over.mean <= 1
            cells.append(f"{100 * over.mean:.1f} ± {100 * over.std:.1f}")
        title = f"**{found.title}**" if found.title == "SBCL" else found.title
        assert f"| {title} | {' | '.join(cells)} |" in text
    against = result.differences["fine_probe"]["supcon"]
    assert f"{100 * against.mean:+.1f}" in text
    assert "- graph is skipped: there are no files" in text
    assert "seeds 1000 to 1002" in text
    assert json.loads(json.dumps(result.to_dict()))["scores"]["sbcl"]["title"] == "SBCL"

    experiment_id = store.experiment("nearfar/hidden-classes/toy")
    (run,) = store.client.search_runs([experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["seeds"] == "1000, 1001, 1002"
    for metric, part in (("hidden_nmi", "train"), ("fine_probe", "test")):
        history = store.client.get_metric_history(run.info.run_id, f"{part}/{metric}/sbcl")
        assert [point.value for point in history] == pytest.approx(list(result.scores["sbcl"].values[metric]))
        mean = run.data.metrics[f"{part}/sbcl_minus_{metric}/supcon"]
        assert mean == pytest.approx(result.differences[metric]["supcon"].mean)
    files = {entry.path for entry in store.client.list_artifacts(run.info.run_id)}
    assert {"results.md", "results.json"} <= files
    if installed("matplotlib"):
        assert "bars.png" in files
        assert draw_bars(result).startswith(b"\x89PNG")


def test_what_could_not_be_measured_is_said(make_pool: Make) -> None:
    from dataclasses import replace

    result = run_source(make_pool(), [0, 1], ["supcon", "sbcl"])
    some = {**result.scores["supcon"].values, "hidden_nmi": (None, None), "fine_probe": (0.5, None)}
    changed = {**result.scores, "supcon": Scores("SupCon", some)}
    result = replace(result, scores=changed, differences=differences(changed))
    text = markdown([result], {})
    assert "| SupCon | not measured | " in text
    assert "50.0 ± 0.0 [1 of 2 seeds]" in text
    assert text.count("not measured") == 2
    if installed("matplotlib"):
        assert draw_bars(result).startswith(b"\x89PNG")


def test_one_seed_has_differences_without_p(make_pool: Make) -> None:
    text = markdown([run_source(make_pool(), [0], ["supcon", "sbcl"])], {})
    assert "| SBCL minus | " in text
    assert "p=" not in text
    assert "SBCL minus" not in markdown([run_source(make_pool(), [0], ["supcon"])], {})


def test_nothing_ran() -> None:
    text = markdown([], {"timeseries": "no files"})
    assert "- timeseries is skipped: no files" in text
    assert "|" not in text
