"""Recommending by raw ids, saving and loading without pickle, serving through MLflow."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import torch

from nearfar.errors import DataError, DivergedError
from nearfar.optional import installed
from nearfar.recsys import (
    Interactions,
    LeaveOneOut,
    Popularity,
    PopularityConfig,
    Recommender,
    SASRec,
    SASRecConfig,
    leave_one_out,
)
from nearfar.recsys.datasets import Dataset
from nearfar.recsys.serving import pyfunc_arguments


@pytest.fixture
def recommender(split: LeaveOneOut) -> Recommender:
    method = SASRec(SASRecConfig(dim=16, inner_dim=32, max_length=8, device="cpu"), split)
    return Recommender.from_method(method, Dataset("toy", "toy", split.data, {"i1": "One"}))


def test_recommend_equals_sorting_the_scores(recommender: Recommender, interactions: Interactions) -> None:
    users = ["u3", "u7", "u3"]
    for exclude_seen in (True, False):
        frame = recommender.recommend(users, k=4, exclude_seen=exclude_seen)
        assert list(frame.columns) == ["user", "item", "score", "rank"]
        assert frame["user"].tolist() == ["u3"] * 4 + ["u7"] * 4 + ["u3"] * 4
        assert frame["rank"].tolist() == [1, 2, 3, 4] * 3
        for block, user in enumerate(users):
            history = interactions.sequence(interactions.user_ids.index(user))
            scores = recommender.scorer.score([history])[0].numpy()
            order = [
                interactions.item_ids[i]
                for i in np.argsort(-scores, kind="stable")
                if not exclude_seen or i + 1 not in history
            ]
            rows = frame.iloc[4 * block : 4 * block + 4]
            assert rows["item"].tolist() == order[:4]
            assert rows["score"].is_monotonic_decreasing


def test_histories_and_stored_users_agree(recommender: Recommender) -> None:
    by_user = recommender.recommend(["u5"], k=3)
    by_history = recommender.recommend_from_histories([recommender.history("u5")], k=3)
    assert by_user["item"].tolist() == by_history["item"].tolist()


def test_users_and_items_nobody_knows(recommender: Recommender, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match="users: 1 unknown .nobody"):
        recommender.recommend(["u1", "nobody"])
    with pytest.raises(DataError, match="users: 15 unknown .0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ..."):
        recommender.recommend([str(n) for n in range(15)])
    for nobody in ("nobody", None, float("nan"), ["u1"]):
        with pytest.raises(DataError, match="is unknown"):
            recommender.history(nobody)
    with pytest.raises(DataError, match="history 0: 1 unknown items .i99"):
        recommender.recommend_from_histories([["i1", "i99"]], k=2)
    assert capsys.readouterr().err == ""
    rows: list[list[object]] = [["i1", "i99"], ["i1"], ["i99", None, "i1"]]
    skipped = recommender.recommend_from_histories(rows, k=2, unknown="skip")
    assert (
        capsys.readouterr().err
        == "nearfar: 3 items of histories are not in the vocabulary and were left out\n"
    )
    assert (
        skipped["item"].tolist() == recommender.recommend_from_histories([["i1"]] * 3, k=2)["item"].tolist()
    )
    with pytest.raises(DataError, match="unknown: error, skip or pad expected, got 'ignore'"):
        recommender.recommend_from_histories([["i1"]], unknown="ignore")  # type: ignore[arg-type]


def test_padding_keeps_the_places_of_unknown_items(recommender: Recommender) -> None:
    padded = recommender.encode([["i1", "i99", "i2", "i98"]], unknown="pad")
    index = {item: place for place, item in enumerate(recommender.data.item_ids, 1)}
    masked = recommender.scorer.embed([np.array([index["i1"], 0, index["i2"], 0])])  # type: ignore[attr-defined]
    assert torch.equal(torch.from_numpy(padded), masked)
    assert not np.allclose(padded, recommender.encode([["i1", "i2"]]))
    frame = recommender.recommend_from_histories([["i1", "i99"]], k=20, unknown="pad")
    assert "i1" not in frame["item"].tolist()
    # The model sees 8 places: with the only known item further back, it sees nothing of the history.
    far = recommender.recommend_from_histories([["i1"] + ["i99"] * 8], k=3, unknown="pad")
    assert far["item"].tolist() == popular(recommender, {"i1"})[:3]


def popular(recommender: Recommender, seen: set[str]) -> list[str]:
    """Items by falling number of events, ties by index."""
    counts = np.bincount(recommender.data.items, minlength=recommender.data.num_items + 1)[1:]
    order = [recommender.data.item_ids[i] for i in np.argsort(-counts, kind="stable")]
    return [item for item in order if item not in seen]


def test_histories_without_a_known_item(recommender: Recommender, capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[list[object]] = [["i1"], [], ["i99", None], ["i2"]]
    frame = recommender.recommend_from_histories(rows, k=3, unknown="skip")
    assert "without a known item: 2 of 4 histories" in capsys.readouterr().err
    assert frame["user"].tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    for row in (1, 2):
        part = frame[frame["user"] == row]
        assert part["item"].tolist() == popular(recommender, set())[:3]
        assert part["score"].is_monotonic_decreasing
    for row, history in ((0, ["i1"]), (3, ["i2"])):
        alone = recommender.recommend_from_histories([history], k=3)
        assert frame[frame["user"] == row]["item"].tolist() == alone["item"].tolist()
    assert np.isfinite(frame["score"]).all()
    left_out = recommender.recommend_from_histories(rows, k=3, unknown="skip", on_empty="empty")
    assert left_out["user"].tolist() == [0] * 3 + [3] * 3
    arrays = recommender.recommend_from_histories(rows, k=3, unknown="skip", on_empty="empty", as_frame=False)
    assert arrays.counts.tolist() == [3, 0, 0, 3]
    with pytest.raises(DataError, match="history 1 has no known item .2 such histories"):
        recommender.recommend_from_histories(rows, k=3, unknown="skip", on_empty="error")
    with pytest.raises(DataError, match="on_empty: popularity, error or empty expected"):
        recommender.recommend_from_histories(rows, unknown="skip", on_empty="zero")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="history 1 has no known item; at least one"):
        recommender.encode([["i1"], []])
    with pytest.raises(DataError, match="history: at least one item is needed"):
        recommender.score([])


@pytest.mark.parametrize("k", [0, -1, 31, 10_000, 2.5, True, None, "3"])
@pytest.mark.row("B03", bad_inputs=1)
def test_how_many_is_checked(recommender: Recommender, k: object) -> None:
    with pytest.raises(ValueError, match="k: 1 to 30 .the catalogue. expected"):
        recommender.recommend(["u1"], k=k)  # type: ignore[arg-type]


def test_fewer_items_left_than_asked_for(recommender: Recommender) -> None:
    everything = list(recommender.data.item_ids)
    assert len(everything) == 30
    with pytest.raises(ValueError, match="k: 0 items are left for 0, fewer than 1 .1 such rows"):
        recommender.recommend_from_histories([everything], k=1)
    with pytest.raises(DataError, match="k: 2 items are left for 'b', fewer than 3 .1 such rows"):
        recommender.recommend_from_histories({"a": ["i1"], "b": everything[2:]}, k=3)
    short = recommender.recommend_from_histories(
        {"a": ["i1"], "b": everything[2:], "c": everything}, k=3, allow_short=True
    )
    assert short["user"].tolist() == ["a"] * 3 + ["b"] * 2
    assert short["rank"].tolist() == [1, 2, 3, 1, 2]
    assert set(short["item"][3:]) == set(everything[:2])
    beyond = recommender.recommend(["u1"], k=10_000, exclude_seen=False, allow_short=True)
    assert sorted(beyond["item"]) == sorted(everything)
    arrays = recommender.recommend_from_histories([everything[2:]], k=9, allow_short=True, as_frame=False)
    assert arrays.items.shape == arrays.scores.shape == (1, 9)
    assert arrays.counts.tolist() == [2]
    assert not np.isnan(arrays.scores).any()


def test_allowed_and_blocked_items(recommender: Recommender, capsys: pytest.CaptureFixture[str]) -> None:
    full = recommender.recommend(["u3", "u4"], k=30, exclude_seen=False)
    allowed = [f"i{n}" for n in range(0, 30, 2)]

    def expected(user: str, chosen: set[str], k: int) -> list[str]:
        return [item for item in full[full["user"] == user]["item"] if item in chosen][:k]

    some = recommender.recommend(["u3", "u4"], k=5, exclude_seen=False, allowed_items=[*allowed, "i99"])
    assert "allowed_items: 1 ids are not in the vocabulary" in capsys.readouterr().err
    assert some["item"].tolist() == [*expected("u3", set(allowed), 5), *expected("u4", set(allowed), 5)]
    rest = recommender.recommend(["u3"], k=5, exclude_seen=False, blocked_items=iter([*allowed, "i99", None]))
    assert capsys.readouterr().err == ""
    assert rest["item"].tolist() == expected("u3", set(recommender.data.item_ids) - set(allowed), 5)
    both = recommender.recommend(
        ["u3"], k=9, exclude_seen=True, allowed_items=allowed, blocked_items=["i0", "i2"], allow_short=True
    )
    left = set(allowed) - {"i0", "i2"} - set(recommender.history("u3"))
    assert both["item"].tolist() == expected("u3", left, 9)
    with pytest.raises(DataError, match="k: 1 to 2 .the catalogue. expected, got 3"):
        recommender.recommend(["u3"], k=3, allowed_items=["i0", "i2"])
    with pytest.raises(DataError, match="no known item is left to recommend"):
        recommender.recommend(["u3"], allowed_items=["i99"])
    with pytest.raises(DataError, match="allowed_items: a list is expected, got 'i1'"):
        recommender.recommend(["u3"], allowed_items="i1")


def test_what_is_no_list_of_histories(recommender: Recommender) -> None:
    with pytest.raises(DataError, match="users: a list is expected, got 'u1'"):
        recommender.recommend("u1")
    with pytest.raises(DataError, match="history 0 is 'i1'; a sequence of item ids"):
        recommender.recommend_from_histories(["i1", "i2"])
    with pytest.raises(DataError, match="history 1 is None; a sequence"):
        recommender.recommend_from_histories([["i1"], None])  # type: ignore[list-item]
    with pytest.raises(DataError, match="histories: a list is expected, got 3"):
        recommender.encode(3)  # type: ignore[arg-type]
    nothing: list[dict[str, list[str]]] = [{}]
    for nobody in ([], *nothing):
        answer = recommender.recommend_from_histories(nobody, k=3)
        assert list(answer.columns) == ["user", "item", "score", "rank"]
        assert len(answer) == 0
    assert len(recommender.recommend([], k=3)) == 0
    assert recommender.encode([]).shape == (0, 16)


def test_vectors_and_scores(recommender: Recommender) -> None:
    histories = [recommender.history(f"u{n}") for n in range(9)]
    users, items = recommender.encode(histories), recommender.item_vectors
    assert users.dtype == items.dtype == np.float32
    assert (users.shape, items.shape) == ((9, 16), (30, 16))
    direct = recommender.scorer.score([recommender.data.sequence(recommender.data.user_ids.index("u4"))])[0]
    assert np.allclose(users[4] @ items.T, direct, atol=1e-6)
    assert np.allclose(recommender.score(histories[4]), direct, atol=1e-6)
    chosen = recommender.score(histories[4], ["i7", "i2", "i7"])
    where = [recommender.data.item_ids.index(item) for item in ("i7", "i2", "i7")]
    assert np.allclose(chosen, direct[where], atol=1e-6)
    with pytest.raises(DataError, match="candidates: 1 unknown items .i99"):
        recommender.score(histories[4], ["i1", "i99"])
    items[:] = 0  # a copy: the model is not changed by it
    assert recommender.item_vectors.any()


def test_similar_items(recommender: Recommender) -> None:
    vectors = recommender.item_vectors.astype(np.float64)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    place = recommender.data.item_ids.index("i3")
    cosine = units @ units[place]
    order = [i for i in np.argsort(-cosine, kind="stable") if i != place]
    frame = recommender.similar_items("i3", k=29)
    assert frame["item"].tolist() == [recommender.data.item_ids[i] for i in order]
    assert np.allclose(frame["score"], cosine[order], atol=1e-6)
    assert frame["rank"].tolist() == list(range(1, 30))
    with pytest.raises(DataError, match="k: 1 to 29 .other items. expected, got 30"):
        recommender.similar_items("i3", k=30)
    with pytest.raises(DataError, match="item: 1 unknown items .i99"):
        recommender.similar_items("i99")
    with torch.no_grad():
        recommender.scorer.item.weight[1:3] = 0  # type: ignore[attr-defined]
    assert np.isfinite(recommender.similar_items("i3", k=29)["score"]).all()
    assert np.isfinite(recommender.similar_items(recommender.data.item_ids[0], k=29)["score"]).all()


def test_popularity_has_scores_but_no_vectors(split: LeaveOneOut) -> None:
    recommender = Recommender(Popularity(PopularityConfig(), split).scorer, split.data)
    trained = np.concatenate([split.train(user) for user in range(split.data.num_users)])
    counts = np.bincount(trained, minlength=31)[1:]
    assert recommender.score(["i1"]).tolist() == counts.tolist()
    frame = recommender.recommend(["u1", "u2"], k=4, allowed_items=[f"i{n}" for n in range(25)])
    for user in ("u1", "u2"):
        seen = set(recommender.history(user))
        order = [split.data.item_ids[i] for i in np.argsort(-counts, kind="stable")]
        left = [item for item in order if item not in seen and int(item[1:]) < 25]
        assert frame[frame["user"] == user]["item"].tolist() == left[:4]
    with pytest.raises(DataError, match="ItemCounts has no user and item vectors"):
        recommender.encode([["i1"]])
    with pytest.raises(DataError, match="no user and item vectors"):
        recommender.similar_items("i1")


def test_the_order_and_size_of_batches_change_nothing(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = [f"u{n}" for n in range(40)]
    whole = recommender.recommend(users, k=5)
    monkeypatch.setattr("nearfar.recsys.retrieval.BATCH_SIZE", 3)
    pieces = recommender.recommend(users, k=5)
    assert pieces[["user", "item", "rank"]].equals(whole[["user", "item", "rank"]])
    assert np.allclose(pieces["score"], whole["score"], atol=1e-6)


def test_a_model_that_diverged_recommends_nothing(recommender: Recommender) -> None:
    with torch.no_grad():
        recommender.scorer.item.weight[7] = torch.nan  # type: ignore[attr-defined]
    with pytest.raises(DivergedError, match="NaN"):
        recommender.recommend(["u1"], k=2, exclude_seen=False)


IDS: dict[str, Callable[[int], Any]] = {
    "int": lambda n: 1000 - n,
    "str": str,
    "uuid": lambda n: UUID(int=n),
    "tuple": lambda n: ("shop", n),
    "mixed": lambda n: n if n % 2 else f"item {n}",
}


@pytest.mark.parametrize("kind", IDS)
def test_ids_come_back_as_they_were(kind: str, tmp_path: Path) -> None:
    make = IDS[kind]
    rng = np.random.default_rng(0)
    sequences = {make(user): [make(int(i)) for i in rng.integers(20, size=6)] for user in range(12)}
    data = Interactions.from_sequences(sequences)
    method = SASRec(SASRecConfig(dim=8, inner_dim=8, max_length=4, device="cpu"), leave_one_out(data))
    titles = {data.item_ids[0]: "First"}
    recommender = Recommender.from_method(method, Dataset("ids", "ids", data, titles))
    asked = [make(3), make(0)]
    frame = recommender.recommend(asked, k=2)
    assert frame["user"].tolist() == [asked[0]] * 2 + [asked[1]] * 2
    for column, known in (("item", data.item_ids), ("user", data.user_ids)):
        types = {value: type(value) for value in known}
        assert all(type(value) is types[value] for value in frame[column].tolist())
    recommender.save(tmp_path / "model")
    loaded = Recommender.load(tmp_path / "model", "cpu")
    assert loaded.data.item_ids == data.item_ids
    assert [type(item) for item in loaded.data.item_ids] == [type(item) for item in data.item_ids]
    assert loaded.titles == titles
    assert loaded.recommend(asked, k=2).equals(frame)
    # At the boundary of a served model everything is text.
    assert loaded.recommend([str(user) for user in asked], k=2).equals(frame)
    text = [[str(item) for item in loaded.history(asked[0])]]
    assert loaded.recommend_from_histories(text, k=2)["item"].tolist() == frame["item"].tolist()[:2]


def test_ids_that_cannot_come_back_are_not_saved(tmp_path: Path) -> None:
    days = [date(2024, 1, day) for day in range(1, 9)]
    data = Interactions.from_sequences([days])
    method = SASRec(SASRecConfig(dim=8, inner_dim=8, max_length=4, device="cpu"), leave_one_out(data))
    recommender = Recommender.from_method(method, Dataset("days", "days", data))
    assert recommender.recommend([0], k=1, exclude_seen=False)["item"][0] in days
    with pytest.raises(DataError, match="item ids of type date .*convert the column, for instance to text"):
        recommender.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("kind", ["sasrec", "popularity"])
def test_save_and_load(recommender: Recommender, split: LeaveOneOut, tmp_path: Path, kind: str) -> None:
    if kind == "popularity":
        method = Popularity(PopularityConfig(), split)
        recommender = Recommender.from_method(method, Dataset("toy", "toy", split.data))
    recommender.save(tmp_path / "model")
    loaded = Recommender.load(tmp_path / "model", device="cpu")
    users = list(split.data.user_ids)
    before, after = recommender.recommend(users, k=5), loaded.recommend(users, k=5)
    assert before.equals(after)
    assert loaded.titles == recommender.titles
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["model.safetensors", "recommender.json"]


def test_folders_that_are_no_recommender(recommender: Recommender, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a saved recommender"):
        Recommender.load(tmp_path / "nothing")
    folder = tmp_path / "model"
    recommender.save(folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(DataError, match="not a saved recommender"):
        Recommender.load(folder)
    recommender.save(folder)
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(DataError, match="damaged, or not the one that recommender.json describes"):
        Recommender.load(folder)
    recommender.save(folder)
    description = json.loads((folder / "recommender.json").read_text(encoding="utf-8"))
    (folder / "recommender.json").write_text(json.dumps(description | {"format": 99}), encoding="utf-8")
    with pytest.raises(DataError, match="has format 99"):
        Recommender.load(folder)
    for broken in ("[]", "{}", "no json", json.dumps(description | {"scorer": "oracle"})):
        (folder / "recommender.json").write_text(broken, encoding="utf-8")
        with pytest.raises(DataError, match="not a saved recommender|has format None"):
            Recommender.load(folder)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "love.txt").touch()
    with pytest.raises(DataError, match="not empty .love.txt"):
        recommender.save(tmp_path / "letters")


def test_a_folder_of_the_first_format_is_read(recommender: Recommender, tmp_path: Path) -> None:
    recommender.save(tmp_path)
    place = tmp_path / "recommender.json"
    description = json.loads(place.read_text(encoding="utf-8"))
    del description["weights"]
    place.write_text(json.dumps(description | {"format": 1}), encoding="utf-8")
    assert Recommender.load(tmp_path, "cpu").recommend(["u1"], k=3).equals(recommender.recommend(["u1"], k=3))


@pytest.mark.skipif(not installed("mlflow"), reason="mlflow is not installed")
def test_served_model_answers_like_the_recommender(recommender: Recommender, tmp_path: Path) -> None:
    import mlflow
    import pandas as pd

    recommender.save(tmp_path / "model")
    arguments = dict(pyfunc_arguments(tmp_path / "model"))
    del arguments["name"]
    mlflow.pyfunc.save_model(tmp_path / "served", **arguments)
    served = mlflow.pyfunc.load_model(str(tmp_path / "served"))
    histories = [["i1", "i2"], ["i5"]]
    answer = served.predict(pd.DataFrame({"history": histories}), params={"k": 3})
    expected = recommender.recommend_from_histories(histories, k=3)
    assert [item for row in answer["items"] for item in row] == expected["item"].tolist()
    assert np.allclose([score for row in answer["scores"] for score in row], expected["score"])
    assert not list((tmp_path / "served").rglob("*.pkl"))


def test_scoring_leaves_the_callers_randomness_alone(recommender: Recommender) -> None:
    before = torch.get_rng_state()
    recommender.recommend(["u1"], k=2)
    assert torch.equal(torch.get_rng_state(), before)
