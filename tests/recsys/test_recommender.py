"""Recommending by raw ids, saving and loading without pickle, serving through MLflow."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from nearfar.errors import DataError
from nearfar.optional import installed
from nearfar.recsys import (
    Interactions,
    LeaveOneOut,
    Popularity,
    PopularityConfig,
    Recommender,
    SASRec,
    SASRecConfig,
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


def test_policies(recommender: Recommender) -> None:
    with pytest.raises(DataError, match="users: 1 unknown .nobody"):
        recommender.recommend(["u1", "nobody"])
    with pytest.raises(DataError, match="user 'nobody' is unknown"):
        recommender.history("nobody")
    with pytest.raises(DataError, match="history 0: 1 unknown items .i99"):
        recommender.recommend_from_histories([["i1", "i99"]], k=2)
    skipped = recommender.recommend_from_histories([["i1", "i99"]], k=2, unknown="skip")
    assert skipped["item"].tolist() == recommender.recommend_from_histories([["i1"]], k=2)["item"].tolist()
    with pytest.raises(DataError, match="history 1 has no known item"):
        recommender.recommend_from_histories([["i1"], ["i99"]], k=2, unknown="skip")
    with pytest.raises(DataError, match="history 0 has no known item"):
        recommender.recommend_from_histories([[]], k=2)
    for k in (0, 10_000):
        with pytest.raises(DataError, match="k: 1 to"):
            recommender.recommend(["u1"], k=k)
    everything = list(recommender.data.item_ids)
    with pytest.raises(DataError, match="fewer than 1 unseen items are left for row 0"):
        recommender.recommend_from_histories([everything], k=1)
    assert len(recommender.recommend([], k=3)) == 0


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
    description = json.loads((folder / "recommender.json").read_text(encoding="utf-8"))
    (folder / "recommender.json").write_text(json.dumps(description | {"format": 99}), encoding="utf-8")
    with pytest.raises(DataError, match="has format 99"):
        Recommender.load(folder)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "love.txt").touch()
    with pytest.raises(DataError, match="not empty .love.txt"):
        recommender.save(tmp_path / "letters")


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
