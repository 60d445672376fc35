"""B03: interactions that must be refused, or that follow a stated policy (reliability.md, 4.5).

=====================================  ==========================================================================
case                                   where
=====================================  ==========================================================================
unknown users and items at scoring     here; also tests/recsys/test_recommender.py
id 0, which is padding inside          here: a raw 0 is an id like others, an index 0 is refused
empty history, history of one          here; tests/recsys/test_recommender.py
longer than max_length                 here: counted, the newest items are read
duplicates, equal times                here: three policies; the order of rows, or of items
negative, missing, strange times       here
a filter that empties a user           there is none; what drops repeats leaves one event, here
target in the history (leak)           here: the one event after the history; both protocols
a user in test only                    here: not evaluated
more than 2^31 rows or ids             here, with numbers of that size and no such arrays
Unicode and white space                here: kept apart, said; half of a surrogate pair: refused
NaN rating                             here: ratings are not read
=====================================  ==========================================================================
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from nearfar.adapters import SequenceInputs
from nearfar.errors import ConfigError
from nearfar.optional import installed
from nearfar.recsys import Interactions, MCLRecommender, RecsysTask, SASRecConfig, leave_one_out, load_dataset
from nearfar.recsys.sasrec.method import SASRec
from nearfar.recsys.split import Split, nothing_held_out, temporal_split
from nearfar.recsys.windows import make_windows

USERS, ITEMS, TIMES = ["a"] * 4 + ["b"] * 4, list("wxyzwxyz"), [1, 2, 3, 4] * 2

# Counted apart: what is refused, and what is odd and follows a policy.
refused_case = pytest.mark.row("B03", bad_inputs=1)
odd_case = pytest.mark.row("B03", odd_inputs=1)


def columns(**changes: Any) -> Interactions:
    return Interactions.from_columns(**{"users": USERS, "items": ITEMS, "times": TIMES, **changes})


def first(values: list[Any], value: Any) -> list[Any]:
    return [value, *values[1:]]


COLUMNS: list[tuple[str, dict[str, Any], str, str, str]] = [
    ("user-missing", {"users": first(USERS, float("nan"))}, "user id", "rows 0", "remove or fill"),
    ("item-missing", {"items": first(ITEMS, None)}, "item id", "rows 0", "remove or fill"),
    ("item-empty", {"items": first(ITEMS, "")}, "item id", "rows 0", "remove or fill"),
    ("item-unhashable", {"items": first(ITEMS, ["w"])}, "item id of row 0", r"\['w'\]", "hashable"),
    ("item-1-and-text-1", {"items": [1, "1", *ITEMS[2:]]}, "item ids", "1 .*'1'", "convert the column"),
    ("half-a-surrogate", {"items": first(ITEMS, "w\ud800")}, "item id", "ud800.* of row 0", "encoding"),
    ("time-nan", {"times": first(TIMES, float("nan"))}, "time of row 0", "nan", "remove or fill"),
    ("time-infinite", {"times": first(TIMES, float("inf"))}, "time of row 0", "inf", "remove or fill"),
    ("time-negative", {"times": first(TIMES, -5)}, "time of row 0", "-5", "correct or remove"),
    ("time-fraction", {"times": first(TIMES, 1.5)}, "times", "float64", "give integers"),
    ("time-in-float32", {"times": np.array(TIMES, np.float32)}, "times", "float32", "give integers"),
    (
        "time-beyond-64-bits",
        {"times": first(TIMES, 2**70)},
        "time of row 0",
        "1180591620717411303424",
        "give seconds",
    ),
    (
        "time-unsigned",
        {"times": np.array(TIMES, np.uint64) + 2**63},
        "time of row",
        "92233720368547",
        "give seconds",
    ),
    ("time-as-text", {"times": list(map(str, TIMES))}, "times", "<U1", "parse them first"),
    ("time-of-truth", {"times": [True] * 8}, "times", "bool", "parse them first"),
    ("time-NaT", {"times": np.array(["NaT"] * 8, "datetime64[s]")}, "time", "8 rows", "remove or fill"),
    (
        "some-zones",
        {"times": [datetime(2020, 1, 1, tzinfo=UTC), *[datetime(2020, 1, 2)] * 7]},
        "times",
        "some .* have none",
        "give all of them one",
    ),
    ("lengths", {"times": TIMES[:3]}, "columns differ", "8 users, 8 items, 3 times", "one of each"),
    ("no-rows", {"users": [], "items": [], "times": []}, "interactions", "no", "at least one row"),
    ("users-a-number", {"users": 5}, "users", "int 5", "give a list"),
    ("users-a-word", {"users": "aaaabbbb"}, "users", "'aaaabbbb'", "give a list"),
    ("items-by-two", {"items": np.ones((8, 2), int)}, "items", r"\(8, 2\)", "give a list"),
    ("times-a-scalar", {"times": np.array(3)}, "times", r"\(\)", "give a list"),
    (
        "duplicates-refused",
        {"items": ["w"] * 8, "times": [1] * 8, "duplicates": "error"},
        "rows",
        "6",
        "duplicates=drop",
    ),
]


@pytest.mark.parametrize(
    ("changes", "field", "value", "fix"), [pytest.param(*case[1:], id=case[0]) for case in COLUMNS]
)
@refused_case
def test_columns(changes: dict[str, Any], field: str, value: str, fix: str, refuses: Any) -> None:
    with refuses(field, value, fix):
        columns(**changes)


@pytest.mark.parametrize(("policy", "known"), [("duplicates", "drop_consecutive"), ("ties", "row, item")])
@refused_case
def test_policies_nobody_knows(policy: str, known: str, refuses: Any) -> None:
    with refuses(f"^{policy}", "'dorp'", f"one of .*{known}", ConfigError):
        columns(**{policy: "dorp"})


SEQUENCES: list[tuple[str, Any, str, str, str]] = [
    ("text", {"a": "xyz"}, "user 'a'", "'xyz'", "oldest first"),
    ("numbers", [1, 2, 3], "user 0", "1", "oldest first"),
    ("no-list", 5, "item sequences", "5", "oldest first"),
    ("word", "xyz", "item sequences", "'xyz'", "oldest first"),
    ("nobody", {}, "interactions", "no", "at least one row"),
    ("empty-histories", {"a": [], "b": []}, "interactions", "no", "at least one row"),
    ("nested", {"a": [[1], [2]]}, "item id of row 0", r"\[1\]", "hashable"),
    ("missing-item", {"a": [1, None]}, "item id", "rows 1", "remove or fill"),
]


@pytest.mark.parametrize(
    ("given", "field", "value", "fix"), [pytest.param(*case[1:], id=case[0]) for case in SEQUENCES]
)
@refused_case
def test_sequences(given: Any, field: str, value: str, fix: str, refuses: Any) -> None:
    with refuses(field, value, fix):
        Interactions.from_sequences(given)


ARRAYS: list[tuple[str, dict[str, Any], str, str, str]] = [
    ("padding-as-item", {"items": np.array([1, 0, 2])}, "items", "index 0 at 1", "from_columns"),
    ("item-not-there", {"items": np.array([1, 9, 2])}, "items", "index 9 at 1", "from_columns"),
    ("item-negative", {"items": np.array([1, -1, 2])}, "items", "index -1 at 1", "from_columns"),
    ("items-int32", {"items": np.array([1, 1, 2], np.int32)}, "items", "int32", "convert it"),
    ("offsets-too-far", {"offsets": np.array([0, 2, 7])}, "offsets", "from 0 to 3", "from_columns"),
    ("offsets-too-few", {"offsets": np.array([0, 3])}, "offsets", "got 2", "from_columns"),
    (
        "offsets-fall",
        {"offsets": np.array([0, 5, 3])},
        "offsets",
        "user 2 is before that of user 1",
        "must not fall",
    ),
    ("times-too-few", {"times": np.array([1])}, "times", "got 1", "give one for each"),
]


@pytest.mark.parametrize(
    ("changes", "field", "value", "fix"), [pytest.param(*case[1:], id=case[0]) for case in ARRAYS]
)
@refused_case
def test_arrays_made_by_hand(changes: dict[str, Any], field: str, value: str, fix: str, refuses: Any) -> None:
    given: dict[str, Any] = {"items": np.array([1, 2, 1]), "offsets": np.array([0, 2, 3]), **changes}
    with refuses(f"^{field}", value, fix):
        Interactions(user_ids=("a", "b"), item_ids=("x", "y"), **given)


@odd_case
def test_a_raw_id_0_is_an_id_like_others() -> None:
    data = columns(items=[0, 1, 2, 3] * 2)
    assert data.item_ids == (0, 1, 2, 3)
    assert data.items.min() == 1


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("w", "w "),
        ("two words", "two\u00a0 words"),
        ("caf\u00e9", unicodedata.normalize("NFD", "caf\u00e9")),
        ("w", "\ufeffw"),
        ("w", "w\u200b"),
    ],
    ids=["white-space", "no-break-space", "NFC-and-NFD", "byte-order-mark", "zero-width"],
)
@odd_case
def test_ids_that_look_the_same_are_kept_apart_and_said(left: str, right: str) -> None:
    data = columns(items=[left, right, "p", "q"] * 2)
    assert {left, right} <= set(data.item_ids)
    [warning] = data.warnings
    assert re.search(r"item ids .* look the same: 1 such pair is kept apart; clean the column", warning)
    assert warning.isascii()
    assert columns(items=["W", "w", "p", "q"] * 2).warnings == ()


@odd_case
def test_repeated_events_follow_the_policy() -> None:
    given: dict[str, Any] = {"items": ["w", "w", "w", "x"] * 2, "times": [1, 1, 2, 3] * 2}
    kept, dropped = columns(**given), columns(**given, duplicates="drop")
    assert kept.warnings == ("2 rows repeat a (user, item, time) and were kept",)
    assert dropped.warnings == ("2 repeated (user, item, time) rows were dropped",)
    assert dropped.lengths.tolist() == [3, 3]


@pytest.mark.parametrize("duplicates", ["drop", "drop_consecutive"])
@odd_case
def test_what_drops_events_empties_nobody(duplicates: Any) -> None:
    data = columns(items=["w"] * 4 + list("wxyz"), times=[1] * 4 + [1, 2, 3, 4], duplicates=duplicates)
    assert data.lengths.tolist() == [1, 4]
    assert leave_one_out(data).users.tolist() == [1]


@odd_case
def test_equal_times_keep_the_order_of_rows_or_that_of_items() -> None:
    given: dict[str, Any] = {"items": list("zyxwzyxw"), "times": [7] * 8}
    assert columns(**given).sequence(0).tolist() == [4, 3, 2, 1]
    assert columns(**given, ties="item").sequence(0).tolist() == [1, 2, 3, 4]


# Splits


@pytest.mark.parametrize("longest", [1, 2])
@refused_case
def test_histories_without_targets(longest: int, refuses: Any) -> None:
    short = Interactions.from_sequences({"a": list(range(longest)), "b": [0]})
    with refuses("no user has 3 events", f"longest history has {longest}", "needs one to train"):
        leave_one_out(short)
    if longest == 1:
        with refuses("no user", "2 training events", "give longer histories"):
            nothing_held_out(short)


@pytest.mark.parametrize("quantile", [0, 1, -1, 2, float("nan"), "0.8"])
@refused_case
def test_moments_that_are_none(quantile: Any, refuses: Any) -> None:
    with refuses("^quantile", re.escape(repr(quantile)), "above 0 and below 1", ConfigError):
        temporal_split(columns(), quantile)


@refused_case
def test_a_split_by_time_needs_times(refuses: Any) -> None:
    with refuses("split by time", "needs times", "name their column"):
        temporal_split(columns(times=None))


@odd_case
def test_targets_come_after_the_history_and_users_of_the_test_part_alone_are_left_out() -> None:
    """``c`` has events after the moment only: there is nothing to predict them from."""
    data = columns(
        users=[*USERS, "c", "c", "c"],
        items=[*ITEMS, "w", "x", "y"],
        times=[1, 2, 3, 9, 1, 2, 8, 9, 9, 10, 11],
    )
    split = temporal_split(data, 0.4)
    assert [data.user_ids[user] for user in split.users] == ["a", "b"]
    parts: tuple[Split, ...] = ("val", "test")
    for each, part in itertools.product((split, leave_one_out(data)), parts):
        for user, target in zip(each.users, each.targets(part), strict=True):
            history = each.history(int(user), part)
            place = len(history)
            assert data.sequence(int(user))[place] == target
            assert np.array_equal(data.sequence(int(user))[:place], history)


@pytest.mark.parametrize("begin", [2**31 - 3, 2**31 + 5, 2**40])
@odd_case
def test_events_beyond_32_bits(begin: int) -> None:
    """A user whose events lie there: windows are those of one whose events come first, moved."""

    def windows(start: int) -> Any:
        data = SimpleNamespace(offsets=np.array([start, start + 12]))
        split: Any = SimpleNamespace(data=data, train_ends=np.array([start + 10]))
        return make_windows(split, max_length=4, stride=2)

    far, near = windows(begin), windows(0)
    assert far.start.dtype == np.int64
    assert np.array_equal(far.start - begin, near.start)
    assert np.array_equal(far.stop - begin, near.stop)
    assert np.array_equal(far.scored, near.scored)


@pytest.mark.parametrize("size", [2**31, 2**40, 2**63, 2**70])
@odd_case
def test_ids_beyond_32_bits(size: int) -> None:
    ids = [size, size + 1, size + 2, size + 3]
    data = columns(items=ids * 2)
    assert data.item_ids == tuple(ids)
    assert data.sequence(1).tolist() == [1, 2, 3, 4]


@odd_case
def test_histories_longer_than_the_model_reads_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text(
        "".join(f"u{user} " + " ".join(map(str, range(1, 3 * user + 4))) + "\n" for user in range(4))
    )
    task = RecsysTask(SASRecConfig(data=str(path), max_length=5), SASRec)
    assert any(
        "2 of 4 histories are longer than max_length=5: the newest" in said for said in task.card.warnings
    )
    method: Any = task.build(SASRecConfig(data=str(path), max_length=5, dim=8, inner_dim=8))
    scorer = method.eval().scorer
    long = np.arange(1, 11)
    with torch.no_grad():
        assert torch.equal(scorer.score([long]), scorer.score([long[-5:]]))


@odd_case
def test_ratings_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "rated.inter"
    rows = [f"{u}\t{i}\tnan\t{t}" for u, i, t in zip(USERS, ITEMS, TIMES, strict=True)]
    head = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    path.write_text("\n".join([head, *rows]) + "\n")
    assert load_dataset(str(path)).interactions.digest() == columns().digest()


# The estimator


def tiny() -> MCLRecommender:
    sizes = {"dim": 8, "inner_dim": 8, "max_length": 5, "targets_per_batch": 64}
    return MCLRecommender(**{"epochs": 1, "device": "cpu", "num_threads": 1, **sizes})


@pytest.fixture(scope="module")
def fitted() -> MCLRecommender:
    rng = np.random.default_rng(0)
    return tiny().fit({f"u{u}": [f"i{i}" for i in rng.permutation(20)[:6]] for u in range(20)})


FITS: list[tuple[str, Any, str, str, str]] = [
    ("text", "abc", "data", "str", "load_dataset reads files"),
    ("number", 5, "data", "int", "load_dataset reads files"),
    ("nothing", None, "data", "NoneType", "load_dataset reads files"),
    ("empty", [], "interactions", "no", "at least one row"),
    ("flat", [1, 2, 3], "user 0", "1", "oldest first"),
    ("nan", [[float("nan")] * 4], "item id", "rows 0, 1, 2, 3", "remove or fill"),
    ("short", {"a": [1, 2], "b": [2, 1]}, "no user has 3 events", "has 2", "needs one to train"),
    ("no-column", {"a": 1}, "user 'a'", "1", "oldest first"),
]


@pytest.mark.parametrize(
    ("given", "field", "value", "fix"), [pytest.param(*case[1:], id=case[0]) for case in FITS]
)
@refused_case
def test_events_given_to_fit(given: Any, field: str, value: str, fix: str, refuses: Any) -> None:
    recommender = tiny()
    with refuses(field, value, fix):
        recommender.fit(given)
    assert recommender.fit_result_ is None


@pytest.mark.skipif(not installed("pandas"), reason="pandas is not installed")
@refused_case
def test_frames_without_the_columns(refuses: Any) -> None:
    import pandas as pd

    frame = pd.DataFrame({"user_id": USERS, "item": ITEMS, "timestamp": TIMES})
    with refuses("'item_id'", "found user_id, item, timestamp", "did you mean 'item'|name the columns"):
        tiny().fit(frame)


QUESTIONS: list[tuple[str, str, tuple[Any, ...], dict[str, Any], str, str, str]] = [
    ("unknown-user", "recommend", (["nobody"],), {"k": 3}, "users", "nobody", "recommend_from_histories"),
    ("missing-user", "recommend", ([None],), {"k": 3}, "users", "None", "recommend_from_histories"),
    ("user-no-list", "recommend", ("u0",), {"k": 3}, "users", "'u0'", "a list is expected"),
    ("k-zero", "recommend", (["u0"],), {"k": 0}, "k", "0", "1 to 20"),
    ("k-fraction", "recommend", (["u0"],), {"k": 1.5}, "k", "1.5", "1 to 20"),
    ("k-beyond-items", "recommend", (["u0"],), {"k": 21}, "k", "21", "1 to 20"),
    ("all-seen", "recommend", (["u0"],), {"k": 20}, "k", "14 items are left for 'u0'", "allow_short=True"),
    (
        "unknown-item",
        "recommend_from_histories",
        ([["nope"]],),
        {"k": 3},
        "history 0",
        "nope",
        "unknown='skip'",
    ),
    ("zero-item", "recommend_from_histories", ([[0]],), {"k": 3}, "history 0", "0", "unknown='skip'"),
    ("flat-history", "recommend_from_histories", (["i1"],), {"k": 3}, "history 0", "'i1'", "oldest first"),
    (
        "empty-history",
        "recommend_from_histories",
        ([[]],),
        {"k": 3, "on_empty": "error"},
        "history 0",
        "no known item",
        "on_empty='popularity'",
    ),
    (
        "policy",
        "recommend_from_histories",
        ([["i1"]],),
        {"k": 3, "unknown": "oov"},
        "unknown",
        "'oov'",
        "skip or pad",
    ),
    ("unknown-history", "history", ("nobody",), {}, "user", "'nobody'", "those of the training data"),
    ("score-empty", "score", ([],), {}, "history", "got none", "at least one item"),
    ("score-unknown", "score", (["nope"],), {}, "history 0", "nope", "unknown='skip'"),
    ("candidate", "score", (["i1"], ["nope"]), {}, "candidates", "nope", "leave out"),
    ("similar", "similar_items", ("nope",), {}, "item", "nope", "leave out"),
    ("similar-k", "similar_items", ("i1",), {"k": 100}, "k", "100", "1 to 19"),
    (
        "diversity",
        "recommend",
        (["u0"],),
        {"k": 3, "diversity": float("nan")},
        "diversity",
        "nan",
        r"in \[0, 1\]",
    ),
]


@pytest.mark.parametrize(
    ("method", "given", "named", "field", "value", "fix"),
    [pytest.param(*case[1:], id=case[0]) for case in QUESTIONS],
)
@refused_case
def test_questions(
    method: str,
    given: Any,
    named: Any,
    field: str,
    value: str,
    fix: str,
    refuses: Any,
    fitted: MCLRecommender,
) -> None:
    with refuses(field, value, fix):
        getattr(fitted, method)(*given, **named)


@odd_case
def test_a_history_of_one_and_a_long_one_have_answers(fitted: MCLRecommender) -> None:
    found = fitted.recommend_from_histories([["i1"], ["i1"] * 500], k=3, as_frame=False)
    assert np.isfinite(np.asarray(found.scores, dtype=float)).all()


@pytest.mark.parametrize(
    ("epochs", "value"), [(-1, "-1"), (1.5, "1.5"), (True, "True")], ids=["negative", "fraction", "truth"]
)
@refused_case
def test_epochs_of_new_events(epochs: Any, value: str, refuses: Any, fitted: MCLRecommender) -> None:
    with refuses("^epochs", value, "0 or more", ConfigError):
        fitted.partial_fit({"u0": ["i1"]}, epochs=epochs)


@refused_case
def test_what_is_held_out(refuses: Any) -> None:
    with refuses("^val", "'lou'", "'loo', 'temporal' or None", ConfigError):
        tiny().fit({"a": [1, 2, 3]}, val="lou")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "value", "fix"),
    [
        pytest.param([[1], []], r"histories\[1\].*\[\]", "leave users without items out", id="empty"),
        pytest.param([[0, 1]], r"histories\[0\].*\[0, 1\]", "add 1", id="padding"),
        pytest.param([[1.5]], r"histories\[0\].*1.5", "item index", id="fraction"),
        pytest.param([[float("nan")]], r"histories\[0\].*nan", "item index", id="nan"),
        pytest.param([["x"]], r"histories\[0\].*str", "convert", id="text"),
        pytest.param([], "got none", "give lists", id="none"),
    ],
)
@refused_case
def test_histories_as_rows(given: Any, value: str, fix: str, refuses: Any) -> None:
    with refuses("histories", value, fix):
        SequenceInputs(given)


# Commands

HEAD = "user_id:token\titem_id:token\ttimestamp:float"


@pytest.mark.parametrize(
    ("rows", "words", "code", "told"),
    [
        pytest.param(["a\tw\tnan"], [], 3, "'nan', a whole number is expected", id="time-nan"),
        pytest.param(["a\tw\t-5"], [], 3, "is negative (-5); correct or remove", id="time-negative"),
        pytest.param(["a\t\t5"], [], 3, "item", id="item-missing"),
        pytest.param(["a\tw\t1", "a\tx\t2"], [], 3, "no user has 3 events", id="short"),
        pytest.param([], ["duplicates=dorp"], 2, "duplicates", id="policy"),
    ],
)
@refused_case
def test_a_command(
    rows: list[str], words: list[str], code: int, told: str, command: Any, tmp_path: Path
) -> None:
    path = tmp_path / "few.inter"
    path.write_text("\n".join([HEAD, *rows]) + "\n", encoding="utf-8")
    assert told in command(["train", "recsys.sasrec", f"data={path}", "device=cpu", *words], code)
