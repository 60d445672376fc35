"""The command: what it refuses before it trains, what it skips, what it writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from nearfar.pipelines.hidden_classes.__main__ import FIRST_SEED, main
from nearfar.pipelines.hidden_classes.sources import SOURCES, Pool

pytest.importorskip("sklearn", reason="scikit-learn is not installed")


def refuse_to_train(*arguments: object, **settings: object) -> None:
    raise AssertionError("trained")


def test_absent_data_is_skipped_with_a_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch_geometric", reason="torch_geometric is not installed")
    out = tmp_path / "results.json"
    assert main(["--data-dir", str(tmp_path), "--no-tracking", "--out", str(out)]) == 0
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["domains"] == []
    assert "JapaneseVowels" in found["skipped"]["timeseries"]
    assert "ind.cora.x" in found["skipped"]["graph"]
    text = capsys.readouterr().out
    for domain in SOURCES:
        assert f"- {domain} is skipped: " in text


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--domains", "graphs"], 2, "domains: 'graphs' is unknown; did you mean 'graph'"),
        (["--methods", "sbcl", "supcom"], 2, "methods: 'supcom' is unknown; did you mean 'supcon'"),
        (["--seeds", "0"], 2, "seeds: at least 1 expected, got 0"),
        (["--first-seed", "-1"], 2, "first-seed: at least 0 expected, got -1"),
        (["--out", "absent/r.json"], 6, "there is no folder"),
    ],
)
def test_bad_words_are_refused_before_training(
    words: list[str],
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("nearfar.pipelines.hidden_classes.__main__.compare", refuse_to_train)
    assert main(["--no-tracking", *words]) == code
    assert message in capsys.readouterr().err


def test_the_command_end_to_end(
    make_pool: Callable[..., Pool],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pool = make_pool()
    monkeypatch.setattr("nearfar.pipelines.hidden_classes.__main__.SOURCES", {"graph": lambda folder: pool})
    out = tmp_path / "results.json"
    words = ["--domains", "graph", "graph", "--no-tracking", "--quiet", "--seeds", "2", "--out", str(out)]
    assert main([*words, "--methods", "sbcl", "supcon"]) == 0
    captured = capsys.readouterr()
    assert "| **SBCL** | " in captured.out
    assert captured.err == ""
    (domain,) = json.loads(out.read_text(encoding="utf-8"))["domains"]
    assert list(domain["scores"]) == ["supcon", "sbcl"]
    assert domain["seeds"] == [FIRST_SEED, FIRST_SEED + 1]
    assert main([*words, "--methods", "supcon", "--first-seed", "7"]) == 0
    (domain,) = json.loads(out.read_text(encoding="utf-8"))["domains"]
    assert domain["seeds"] == [7, 8]
    assert domain["differences"] == {}


def test_a_coarse_class_without_rows_is_an_error_of_the_data(
    make_pool: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from nearfar.pipelines.hidden_classes.merging import Merging

    pool = make_pool()
    absent = make_pool(merging=Merging(((0, 1, 2), (3, 4, 5), (6,)), (9,) * 7), names=(*pool.names, "gnu"))
    monkeypatch.setattr("nearfar.pipelines.hidden_classes.__main__.SOURCES", {"graph": lambda folder: absent})
    assert main(["--domains", "graph", "--no-tracking", "--quiet", "--seeds", "1"]) == 3
    assert "coarse class C, made of gnu, has no row to train on" in capsys.readouterr().err
