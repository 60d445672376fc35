"""P10: ids of any kind are numbered, found again and written down without becoming others."""

from __future__ import annotations

import json
from datetime import date
from random import Random
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from nearfar.errors import DataError
from nearfar.recsys import Interactions
from nearfar.recsys.vocabulary import (
    Vocabulary,
    ids_from_json,
    ids_to_json,
    index_ids,
    is_missing,
    lookalikes,
)

pytest.importorskip("hypothesis", reason="hypothesis is not installed")

from hypothesis import assume, example, given
from hypothesis import strategies as st

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
whole = st.integers(-(2**70), 2**70)
numbers = whole | st.floats(allow_nan=False)
saved = words | numbers | st.uuids() | st.tuples(st.integers(0, 9), words)
anything = saved | st.dates() | st.booleans()
# One kind in a column, or all kinds at once.
columns = st.one_of(
    *(st.lists(kind, min_size=1, max_size=15) for kind in (words, whole, numbers, st.uuids(), anything))
)


def clash(values: list[Any]) -> bool:
    """Whether two ids that differ have the same text."""
    texts: dict[str, Any] = {}
    return any(texts.setdefault(str(value), value) != value for value in dict.fromkeys(values))


@pytest.mark.row("P10")
@given(columns, st.randoms(use_true_random=False))
@example(
    [0, "a", 1.0, 0.0], Random(0)
)  # which of 0 and 0.0 was kept once depended on the order of rows, and so all
def test_raw_to_index_to_raw(values: list[Any], random: Any) -> None:
    if clash(values):
        with pytest.raises(DataError, match="have the same text; convert the column to one type"):
            index_ids(values, "item", "data")
        return
    ids, places = index_ids(values, "item", "data")
    assert [ids[place] for place in places] == values
    assert len(set(ids)) == len(ids) == len(set(values))
    assert places.dtype == np.int64
    vocabulary = Vocabulary(ids)
    assert [vocabulary.find(value) for value in values] == places.tolist()
    # 1 and 1.0 are one id, whose text is that of the one kept.
    by_text = [vocabulary.find(str(ids[place])) for place in places]
    assert by_text == places.tolist(), "an id may be given as its text"
    assert vocabulary.column(places).tolist() == values
    shuffled = random.sample(values, len(values))
    again = index_ids(shuffled, "item", "data")[0]
    assert [(type(value), value) for value in again] == [(type(value), value) for value in ids], (
        "rows' order decides"
    )
    if all(type(value) is str for value in values) or all(type(value) in (int, float) for value in values):
        assert list(ids) == sorted(ids)


@pytest.mark.row("P10")
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=15))
@example([-(2**63)])  # the smallest int64 was once taken for none
def test_arrays_and_lists_of_integers_give_the_same(values: list[int]) -> None:
    ids, places = index_ids(values, "item", "data")
    again, others = index_ids(np.array(values), "item", "data")
    assert ids == again
    assert all(type(value) is int for value in again)
    assert np.array_equal(places, others)
    assert Vocabulary(ids).column(places).dtype == np.int64


@pytest.mark.row("P10")
@given(columns, anything)
def test_unknown_ids_are_nobody(values: list[Any], stranger: Any) -> None:
    assume(not clash(values))
    vocabulary = Vocabulary(index_ids(values, "item", "data")[0])
    known = {str(value) for value in vocabulary}
    assert (vocabulary.find(stranger) is None) == (stranger not in values and str(stranger) not in known)
    nobody: list[Any] = [None, "", float("nan"), [], {}]
    for nothing in nobody:
        assert vocabulary.find(nothing) is None


@pytest.mark.row("P10")
@given(st.lists(saved, max_size=10))
def test_ids_survive_json(values: list[Any]) -> None:
    text = json.dumps(ids_to_json(values, "item"))
    back = ids_from_json(json.loads(text))
    assert back == tuple(values)
    assert [type(value) for value in back] == [type(value) for value in values]


@pytest.mark.row("P10")
@given(columns, st.sampled_from([None, "", float("nan"), np.datetime64("NaT")]), st.data())
def test_missing_ids_are_refused_with_their_row(values: list[Any], nothing: Any, data: st.DataObject) -> None:
    row = data.draw(st.integers(0, len(values)))
    assert is_missing(nothing)
    with pytest.raises(DataError, match=rf"1 rows have no user id \(rows {row}\)"):
        index_ids([*values[:row], nothing, *values[row:]], "user", "data")


@pytest.mark.row("P10")
@given(st.lists(words, min_size=1, max_size=10, unique=True))
def test_ids_that_look_alike_stay_apart(values: list[str]) -> None:
    """White space and Unicode's forms are said, never merged."""
    ids, places = index_ids(values, "item", "data")
    assert len(ids) == len(values)
    spaced = [*values, *(f"{value} " for value in values)]
    distinct = dict.fromkeys(spaced)
    assert len(index_ids(spaced, "item", "data")[0]) == len(distinct)
    assert lookalikes(tuple(distinct), "item")
    assert not lookalikes(("a", "b", 1, UUID(int=0), date(2020, 1, 1)), "item")
    assert [ids[place] for place in places] == values


@pytest.mark.row("P10")
@given(st.data())
def test_interactions_keep_what_everybody_did(data: st.DataObject) -> None:
    """Through a data set and back, whatever the order of its rows."""
    kind = st.sampled_from([words, whole, st.uuids()])
    user, item = (
        st.sampled_from(data.draw(st.lists(data.draw(kind), min_size=1, max_size=4))) for _ in range(2)
    )
    rows = data.draw(st.lists(st.tuples(user, item, st.integers(0, 9)), min_size=1, max_size=12))
    shuffled = data.draw(st.permutations(rows))
    users, items, times = (list(column) for column in zip(*shuffled, strict=True))
    found = Interactions.from_columns(users, items, times, ties="item")
    back = [
        (found.user_ids[u], found.item_ids[i - 1], int(when))
        for u in range(found.num_users)
        for i, when in zip(
            found.sequence(u),
            (found.times if found.times is not None else [])[found.offsets[u] :],
            strict=False,
        )
    ]
    assert sorted(map(repr, back)) == sorted(map(repr, rows))
    users, items, times = (list(column) for column in zip(*rows, strict=True))
    assert Interactions.from_columns(users, items, times, ties="item").digest() == found.digest()
