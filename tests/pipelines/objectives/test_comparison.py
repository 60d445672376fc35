"""The comparison of objectives: what is searched, the recipes that are shipped, ranks, table, picture, refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nearfar.config import flatten
from nearfar.pipelines.objectives import recipes
from nearfar.pipelines.objectives.__main__ import main
from nearfar.pipelines.objectives.arenas import ARENAS, OWN, UNTRAINED, Arena
from nearfar.pipelines.objectives.comparison import ArenaResult, compare
from nearfar.pipelines.objectives.search import search
from nearfar.pipelines.objectives.tables import markdown, mean_ranks
from nearfar.pipelines.registry import find
from nearfar.pipelines.settings import resolve_settings
from nearfar.tuning import SearchSpace

SEARCHED = [arena for arena in ARENAS.values() if recipes.read(arena.domain)]
ROWS = [(arena, row) for arena in SEARCHED for row in arena.rows]


@pytest.mark.parametrize(("arena", "row"), ROWS, ids=[f"{arena.domain}-{row}" for arena, row in ROWS])
def test_what_is_shipped_was_found_in_its_space(arena: Arena, row: str) -> None:
    entry = find(arena.method)
    space = SearchSpace(arena.space(row))
    found = recipes.read(arena.domain)[row]
    assert set(found) == set(space.ranges)
    settings = flatten(resolve_settings(entry, [*arena.settings(row), *recipes.words(found)], environment={}))
    for key, value in found.items():
        assert settings[key] == value
        ends = [end for end in space.ranges[key].ends() if isinstance(end, float | int)]
        if isinstance(value, float | int) and not isinstance(value, bool):
            assert min(ends) * 0.999 <= value <= max(ends) * 1.001


@pytest.mark.parametrize("arena", ARENAS.values(), ids=ARENAS)
def test_spaces_hold_what_one_has_without_searching(arena: Arena) -> None:
    for row in arena.rows:
        config = resolve_settings(find(arena.method), arena.settings(row), environment={})
        SearchSpace(arena.space(row)).check(config)


def test_rows_without_an_objective_are_valid_too() -> None:
    for arena in ARENAS.values():
        config = resolve_settings(find(arena.method), arena.settings(UNTRAINED), environment={})
        assert getattr(config, "objective", None) is None


def result(domain: str, **values: tuple[float, ...]) -> ArenaResult:
    return ArenaResult(domain, "what", "GRACE", "test/accuracy", (1000, 1001), values)


RESULTS = [
    result("graph", untrained=(0.9, 0.9), own=(0.5, 0.7), dcl=(0.8, 0.8), infonce=(0.5, 0.7)),
    result("recsys", untrained=(0.0, 0.0), own=(0.1, 0.1), dcl=(0.2, 0.4)),
]


def test_ranks_leave_out_the_untrained_and_share_places() -> None:
    assert RESULTS[0].rank("dcl") == 1
    assert RESULTS[0].rank("own") == RESULTS[0].rank("infonce") == 2.5
    assert mean_ranks(RESULTS) == {"dcl": 1.0, "infonce": 2.5}


def test_the_table() -> None:
    lines = markdown(RESULTS).splitlines()
    assert lines[0] == "| objective | graph | recsys | mean rank |"
    assert lines[2] == "| dcl | **80.0 ± 0.0** | **30.0 ± 14.1** | 1.0 |"
    assert lines[3] == "| infonce | 60.0 ± 14.1 | - | 2.5 |"
    assert lines[4] == "| *the method's own* | 60.0 ± 14.1 | 10.0 ± 0.0 | |"
    assert lines[5] == "| *no contrast* | 90.0 ± 0.0 | 0.0 ± 0.0 | |"


def test_small_numbers_have_two_digits() -> None:
    table = markdown([result("recsys", untrained=(0.06, 0.06), own=(0.061, 0.063), dcl=(0.05, 0.05))])
    assert "| *the method's own* | **6.20 ± 0.14** | |" in table
    assert "| dcl | 5.00 ± 0.00 | 2.0 |" in table


def test_the_picture() -> None:
    pytest.importorskip("matplotlib")
    from nearfar.pipelines.objectives.plot import draw

    assert draw(RESULTS).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compare", "--domains", "grph"], "domains: 'grph' is unknown; did you mean 'graph'?"),
        (["compare", "--objectives", "ntxnet"], "objectives: 'ntxnet' is unknown; did you mean 'ntxent'?"),
        (["compare", "--seeds", "0"], "seeds: at least 1 expected, got 0"),
        (["tune", "--trials", "0"], "trials: at least 1 expected, got 0"),
        (["compare", "--out", "/no/such/folder/x.json"], "there is no folder /no/such/folder"),
    ],
)
def test_refusals(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) != 0
    assert message in capsys.readouterr().err


def test_without_recipes_it_says_what_makes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", "--domains", "longtail", "--recipes", str(tmp_path), "--no-tracking"]
    assert main(words) != 0
    told = capsys.readouterr().err
    assert "longtail is skipped: nothing was searched there; make tune-objectives does" in told
    assert "domains: at least one expected, got none" in told
    recipes.write("longtail", {"own": {"optim.lr": 0.01}}, tmp_path)
    assert main(words) != 0
    assert "nothing was searched for infonce in longtail" in capsys.readouterr().err


@pytest.mark.slow
def test_search_and_comparison_on_a_small_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = replace(ARENAS["longtail"], words=("epochs=2", "selection.every=2"))
    rows = [OWN, "infonce"]
    told: list[str] = []
    search([small], trials=2, workers=1, rows=rows, folder=tmp_path / "found", report=told.append)
    assert len(told) == 2
    search([small], trials=2, workers=1, rows=rows, folder=tmp_path / "found", report=told.append)
    assert len(told) == 2  # nothing is searched twice
    (found,) = compare(
        [replace(small, words=small.words)],
        seeds=2,
        workers=2,
        rows=["infonce"],
        folder=tmp_path / "found",
        quiet=True,
    )
    assert set(found.values) == {UNTRAINED, OWN, "infonce"}
    assert all(len(values) == 2 and 0 < min(values) <= 1 for values in found.values.values())
    json.dumps(found.to_dict())
