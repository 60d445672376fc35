"""Checking and sorting of interactions, and the leave-one-out split."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from nearfar.errors import DataError
from nearfar.recsys import Interactions, leave_one_out


def sequences(data: Interactions) -> dict[str, list[str]]:
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
    assert sequences(data) == {"7": ["2", "1"]}
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
        ("1 rows have no time", ["a"], ["x"], np.array(["NaT"], dtype="datetime64[s]")),
    ],
)
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
