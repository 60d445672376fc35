"""Checking and sorting of interactions, and the leave-one-out split."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import numpy as np
import pandas as pd
import pytest

from nearfar.errors import DataError
from nearfar.recsys import Interactions, leave_one_out
from nearfar.recsys.vocabulary import Vocabulary, ids_from_json, ids_to_json


class MinimalFrame:
    """What a frame of an unknown make has in common with the others: names, columns, ``to_numpy``."""

    class Column:
        """One column."""

        def __init__(self, values: object) -> None:
            self.values = np.asarray(values)

        def to_numpy(self) -> np.ndarray:
            """The values."""
            return self.values

    def __init__(self, columns: dict[str, object]) -> None:
        self._columns = columns
        self.columns = list(columns)

    def __getitem__(self, name: str) -> MinimalFrame.Column:
        return self.Column(self._columns[name])


def sequences(data: Interactions) -> dict[object, list[object]]:
    """Raw ids in order, by user."""
    return {
        user: [data.item_ids[i - 1] for i in data.sequence(index)] for index, user in enumerate(data.user_ids)
    }


def test_sorted_by_time_with_ties_in_row_order() -> None:
    data = Interactions.from_columns(["b", "a", "a", "b", "a"], ["x", "y", "z", "y", "x"], [5, 3, 3, 1, 2])
    assert sequences(data) == {"a": ["x", "y", "z"], "b": ["y", "x"]}


def test_unix_times_one_second_apart_keep_their_order() -> None:
    """In float32 these times are equal."""
    times = [881250949, 881250948, 881250947]
    assert np.float32(times[0]) == np.float32(times[2])
    assert sequences(Interactions.from_columns(["u"] * 3, list("cba"), times)) == {"u": ["a", "b", "c"]}


@pytest.mark.row("D05")
def test_ties_by_item_do_not_depend_on_row_order() -> None:
    rng = np.random.default_rng(0)
    users, items = rng.integers(5, size=200), rng.integers(20, size=200)
    times = rng.integers(10, size=200)
    first = Interactions.from_columns(users, items, times, ties="item")
    order = rng.permutation(200)
    again = Interactions.from_columns(users[order], items[order], times[order], ties="item")
    assert first.digest() == again.digest()
    by_row = Interactions.from_columns(users[order], items[order], times[order])
    assert first.digest() != by_row.digest()


def test_integer_text_and_datetime_ids_and_times() -> None:
    when = np.array(["2020-01-02", "2020-01-01"], dtype="datetime64[D]")
    data = Interactions.from_columns([7, 7], [1, 2], when)
    assert sequences(data) == {7: [2, 1]}
    float_times = Interactions.from_columns([7, 7], [1, 2], np.array([2.0, 1.0]))
    assert sequences(float_times) == sequences(data)


def test_duplicates_follow_the_policy() -> None:
    columns = (["u"] * 4, ["a", "b", "a", "a"], [1, 1, 1, 2])
    kept = Interactions.from_columns(*columns)
    assert sequences(kept) == {"u": ["a", "b", "a", "a"]}
    assert "1 rows repeat" in kept.warnings[0]
    dropped = Interactions.from_columns(*columns, duplicates="drop")
    assert sequences(dropped) == {"u": ["a", "b", "a"]}
    with pytest.raises(DataError, match="1 rows repeat"):
        Interactions.from_columns(*columns, duplicates="error")


def test_consecutive_duplicates_are_those_that_follow_each_other_in_one_sequence() -> None:
    users = ["u", "v", "u", "v", "u", "u", "u"]
    items = ["a", "a", "a", "b", "b", "a", "a"]
    data = Interactions.from_columns(users, items, [1, 2, 3, 4, 5, 6, 9], duplicates="drop_consecutive")
    assert sequences(data) == {"u": ["a", "b", "a"], "v": ["a", "b"]}
    assert data.warnings == ("2 rows repeat the item before them and were dropped",)
    assert data.times is not None
    assert data.times.tolist() == [1, 5, 6, 2, 4]
    assert Interactions.from_sequences([list("ab")], duplicates="drop_consecutive").warnings == ()


@pytest.mark.parametrize(
    ("message", "users", "items", "times"),
    [
        ("no interactions", [], [], []),
        ("differ in length", ["a"], ["x", "y"], [1]),
        ("2 rows have no user id", [None, "a", math.nan], ["x", "y", "z"], [1, 2, 3]),
        ("1 rows have no item id", ["a"], [""], [1]),
        ("2 rows have no item id", ["a", "b"], [pd.NA, pd.NaT], [1, 2]),
        ("time of row 1 is nan", ["a", "a"], ["x", "y"], [1.0, math.nan]),
        ("time of row 0 is inf", ["a"], ["x"], [math.inf]),
        ("time of row 0 is negative", ["a"], ["x"], [-1]),
        ("cannot be ordered exactly", ["a"], ["x"], [0.5]),
        ("cannot be ordered exactly", ["a"], ["x"], np.array([1.0], dtype=np.float32)),
        ("times must be integers", ["a"], ["x"], ["monday"]),
        ("got 'monday' .str.; parse", ["a"], ["x"], pd.Series(["monday"], dtype=object)),
        ("2 rows have no time .rows 0, 2", ["a"] * 3, list("xyz"), np.array([None, 1, pd.NA], dtype=object)),
        ("got True", ["a"], ["x"], np.array([True], dtype=object)),
        ("row 0, 18446744073709551615, does not fit", ["a"], ["x"], np.array([2**64 - 1], dtype=np.uint64)),
        (
            "row 1, 9223372036854775808, does not fit",
            ["a"] * 2,
            ["x"] * 2,
            np.array([1, 2**63], dtype=object),
        ),
        ("row 0, 1e.19, does not fit", ["a"], ["x"], np.array([1e19])),
        (
            "some have none",
            ["a"] * 2,
            ["x"] * 2,
            [datetime(2024, 1, 1), datetime(2024, 1, 1, tzinfo=UTC)],
        ),
        ("user id of row 1 is .1.; a hashable", ["a", [1]], ["x", "y"], [1, 2]),
        ("the item ids 1 .int. and '1' .str. have the same text", ["a"] * 2, [1, "1"], [1, 2]),
        ("the user ids .*have the same text", [UUID(int=7), str(UUID(int=7))], ["x"] * 2, [1, 2]),
        ("1 rows have no time", ["a"], ["x"], np.array(["NaT"], dtype="datetime64[s]")),
    ],
)
@pytest.mark.row("B03", bad_inputs=1)
def test_bad_columns_are_refused(
    message: str, users: list[object], items: list[object], times: object
) -> None:
    with pytest.raises(DataError, match=message):
        Interactions.from_columns(users, items, times)  # type: ignore[arg-type]


def test_leave_one_out() -> None:
    data = Interactions.from_sequences({"long": list("abcd"), "three": list("abc"), "two": list("ba")})
    split = leave_one_out(data)
    name = dict(enumerate(data.item_ids, 1))
    assert [data.user_ids[u] for u in split.users] == ["long", "three"]

    def raw(items: np.ndarray) -> str:
        return "".join(name[int(i)] for i in items)

    assert [raw(split.train(u)) for u in range(3)] == ["ab", "a", "ba"]
    assert [raw(split.history(u, "val")) for u in split.users] == ["ab", "a"]
    assert [raw(split.history(u, "test")) for u in split.users] == ["abc", "ab"]
    assert raw(split.targets("val")) == "cb"
    assert raw(split.targets("test")) == "dc"


def test_split_needs_somebody_to_evaluate_and_something_to_learn() -> None:
    with pytest.raises(DataError, match="3 events"):
        leave_one_out(Interactions.from_sequences({"a": list("xy"), "b": ["x"]}))
    with pytest.raises(DataError, match="nothing|no next item"):
        leave_one_out(Interactions.from_sequences({"a": list("xyz")}))


MIXED = (10, 9, "b", "a", 2.5, UUID(int=3), ("x", 1))


def test_ids_keep_their_type_and_their_order() -> None:
    data = Interactions.from_columns([10, 9, 10], np.array(["x", "y", "x"]), [1, 2, 3])
    assert data.user_ids == (9, 10)  # by value; as text "10" would be first
    assert [type(user) for user in data.user_ids] == [int, int]
    assert [type(item) for item in data.item_ids] == [str, str]
    shuffled = Interactions.from_columns(MIXED[::-1], ["i"] * 7, None)
    straight = Interactions.from_columns(MIXED, ["i"] * 7, None)
    assert shuffled.user_ids == straight.user_ids
    assert set(straight.user_ids) == set(MIXED)
    assert Interactions.from_columns([1, 1.0, np.int64(1)], ["i"] * 3, None).num_users == 1


def test_a_vocabulary_finds_ids_by_value_and_by_text() -> None:
    known = Vocabulary(MIXED)
    for place, value in enumerate(MIXED):
        assert known.find(value) == known.find(str(value)) == place
    assert known.find(np.int64(9)) == 1
    strangers: list[object] = [None, math.nan, pd.NA, pd.NaT, "", [1], {}, 8, "None", "nan"]
    for stranger in strangers:
        assert known.find(stranger) is None
    assert known.column(np.array([6, 0])).tolist() == [("x", 1), 10]
    assert Vocabulary((5, 6)).column(np.array([1, 0])).dtype == np.int64
    assert Vocabulary((5, 2**70)).column(np.array([1])).tolist() == [2**70]


def test_ids_come_back_from_json_as_what_they_were() -> None:
    import json

    ids = (*MIXED, True, (1, (UUID(int=4), "y")), "\ud800", 2**70)
    back = ids_from_json(json.loads(json.dumps(ids_to_json(ids, "item"))))
    assert back == ids
    assert [type(value) for value in back] == [type(value) for value in ids]
    with pytest.raises(DataError, match="user ids of type date .*convert the column"):
        ids_to_json([datetime(2024, 1, 1).date()], "user")
    with pytest.raises(ValueError, match="not an id"):
        ids_from_json([{"pickle": "x"}])


@pytest.mark.parametrize("make", ["pandas", "arrow", "minimal", "mapping", "polars"])
def test_frames_of_any_make(make: str) -> None:
    columns = {"who": [7, 8, 7, 7], "what": ["a", "b", "c", "d"], "when": [30, 10, 20, 30], "rest": [0] * 4}
    frame: object
    if make == "pandas":
        frame = pd.DataFrame(columns, index=[5, 5, 0, -1])  # not contiguous, not unique
    elif make == "arrow":
        frame = pytest.importorskip("pyarrow").table(columns)
    elif make == "polars":
        frame = pytest.importorskip("polars").DataFrame(columns)
    else:
        frame = MinimalFrame(columns) if make == "minimal" else columns
    data = Interactions.from_frame(frame, "who", "what", "when")
    assert sequences(data) == {7: ["c", "a", "d"], 8: ["b"]}
    in_order = Interactions.from_frame(frame, "who", "what", time=None)
    assert sequences(in_order) == {7: ["a", "c", "d"], 8: ["b"]}
    assert in_order.times is None
    with pytest.raises(DataError, match="no column 'wat' .found who, what, when, rest.; did you mean 'what'"):
        Interactions.from_frame(frame, "who", "wat", "when")


def test_frames_that_are_refused() -> None:
    with pytest.raises(DataError, match="no interactions"):
        Interactions.from_frame(pd.DataFrame({"user_id": [], "item_id": [], "timestamp": []}))
    twice = pd.DataFrame([[1, 2, 3, 4]], columns=["user_id", "user_id", "item_id", "timestamp"])
    with pytest.raises(DataError, match="several columns 'user_id'"):
        Interactions.from_frame(twice)
    holes = pd.DataFrame({"user_id": [1, None], "item_id": ["a", "b"], "timestamp": [1, 2]})
    with pytest.raises(DataError, match="1 rows have no user id .rows 1"):
        Interactions.from_frame(holes)
    nullable = pd.DataFrame(
        {"user_id": [1, 1], "item_id": ["a", "b"], "timestamp": pd.array([1, None], "Int64")}
    )
    with pytest.raises(DataError, match="the time of row 1 is nan"):
        Interactions.from_frame(nullable)


def zoned(hours: int, minute: int) -> datetime:
    """Noon and some minutes at an offset from UTC."""
    return datetime(2024, 5, 1, 12, minute, tzinfo=timezone(timedelta(hours=hours)))


@pytest.mark.parametrize("how", ["python", "object", "series", "arrow", "polars"])
def test_times_with_a_zone_are_compared_as_instants(how: str) -> None:
    """By the clock on the wall the order would be b, a, c."""
    times = [zoned(0, 30), zoned(2, 20), zoned(-1, 40)]  # 12:30, 10:20 and 13:40 in UTC
    columns: dict[str, object] = {"user_id": [1] * 3, "item_id": list("abc"), "timestamp": times}
    frame: object = columns
    if how == "object":
        frame = pd.DataFrame(columns, dtype=object)
    elif how == "series":
        frame = pd.DataFrame(columns | {"timestamp": pd.to_datetime(pd.Series(times), utc=True)})
    elif how == "arrow":
        frame = pytest.importorskip("pyarrow").table(columns)
    elif how == "polars":
        frame = pytest.importorskip("polars").DataFrame(columns)
    assert sequences(Interactions.from_frame(frame)) == {1: ["b", "a", "c"]}


def test_nanoseconds_and_far_years_keep_their_order() -> None:
    base = pd.Timestamp("2024-05-01", tz="Europe/Paris")
    near = np.array([base + pd.Timedelta(2, "ns"), base + pd.Timedelta(1, "ns")], dtype=object)
    assert sequences(Interactions.from_columns([1, 1], ["b", "a"], near)) == {1: ["a", "b"]}
    far = np.array(["2600-01-01", "2000-01-01"], dtype="datetime64[s]")  # outside 64 bits of nanoseconds
    assert sequences(Interactions.from_columns([1, 1], ["b", "a"], far)) == {1: ["a", "b"]}
    dates = [datetime(2024, 5, 2).date(), datetime(2024, 5, 1).date()]
    assert sequences(Interactions.from_columns([1, 1], ["b", "a"], dates)) == {1: ["a", "b"]}


def test_sequences_without_user_ids() -> None:
    data = Interactions.from_sequences([["a", "b"], [], (3, "a")] + [["x"]] * 9)
    assert sequences(data) == {0: ["a", "b"], 2: [3, "a"], **{user: ["x"] for user in range(3, 12)}}
    assert data.user_ids == (0, *range(2, 12))
    assert data.warnings == ("1 users have no events and were left out",)
    arrays: list[list[object]] = [["a"], [np.int64(1), 2]]
    made = Interactions.from_sequences(sequence for sequence in arrays)
    assert sequences(made) == {0: ["a"], 1: [1, 2]}
    for wrong in (["abc"], [5], {"u": "abc"}):
        with pytest.raises(DataError, match="a sequence of item ids is expected"):
            Interactions.from_sequences(wrong)  # type: ignore[arg-type]
    empty: list[list[list[str]]] = [[], [[]]]
    for nothing in empty:
        with pytest.raises(DataError, match="no interactions"):
            Interactions.from_sequences(nothing)
    with pytest.raises(DataError, match="no interactions"):
        Interactions.from_sequences({})
