"""The estimator: fit on events of any make, ask, take in new events, evaluate, save and load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from nearfar.errors import ConfigError, DataError
from nearfar.optional import installed
from nearfar.recsys import (
    Interactions,
    MCLRecommender,
    Popularity,
    PopularityConfig,
    Recommender,
    leave_one_out,
    load_dataset,
)
from nearfar.recsys.growth import append_events, vectors_of_new_items
from nearfar.recsys.ranking import evaluate, ranking_metrics
from nearfar.recsys.split import LeaveOneOut, nothing_held_out, temporal_split

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "recbole"
SMALL: dict[str, Any] = {
    "dim": 8,
    "inner_dim": 8,
    "num_layers": 1,
    "max_length": 10,
    "targets_per_batch": 64,
    "epochs": 2,
    "seed": 1,
    "device": "cpu",
    "num_threads": 1,
    "optim__lr": 1e-2,
    "contrast": {"rows": 8},
}


def ring(users: int = 40, places: int = 30, seed: int = 0) -> pd.DataFrame:
    """Users with text ids who walk around a ring of items with integer ids, in shuffled rows."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        steps = rng.integers(1, 4, size=int(rng.integers(5, 20)))
        walk = (int(rng.integers(places)) + np.cumsum(steps)) % places
        rows += [(f"u{user}", int(place), 1_000_000 + time) for time, place in enumerate(walk)]
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    return frame.sample(frac=1, random_state=0)


@pytest.fixture(scope="module")
def fitted() -> MCLRecommender:
    """Fitted once; nothing may change it."""
    return MCLRecommender(**SMALL).fit(ring())


def weights(recommender: MCLRecommender) -> dict[str, torch.Tensor]:
    """Of the trained model."""
    return recommender.scorer.state_dict()


def equal(first: MCLRecommender, second: MCLRecommender) -> bool:
    """Whether two have the same weights, bit for bit."""
    one, other = weights(first), weights(second)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_settings_in_every_spelling() -> None:
    plain = MCLRecommender(epochs=5, optim={"lr": 0.01}, contrast__rows=8, **{"augmenters.weight": 0.5})
    assert plain.config.optim.lr == 0.01
    assert plain.config.contrast.rows == 8
    assert plain.config.augmenters.weight == 0.5
    assert repr(plain) == "MCLRecommender(epochs=5, optim.lr=0.01, contrast.rows=8, augmenters.weight=0.5)"
    params = plain.get_params()
    assert (params["epochs"], params["contrast.rows"], params["dim"]) == (5, 8, 64)
    assert not [name for name in params if name.startswith(("data", "tracking", "columns", "output"))]
    assert MCLRecommender(**params).config == plain.config
    assert plain.set_params(epochs=7) is plain
    assert (plain.config.epochs, plain.config.optim.lr) == (7, 0.01)


@pytest.mark.parametrize(
    ("message", "hyper"),
    [
        ("unknown key 'epoch' .*did you mean 'epochs'", {"epoch": 3}),
        ("unknown key 'contrast.wait' .*did you mean 'contrast.weight'", {"contrast__wait": 3}),
        ("optim.lr: .*greater than 0.*got -1", {"optim": {"lr": -1}}),
        ("num_heads .3. must divide dim", {"num_heads": 3}),
        ("data: no setting of the estimator; give the data to fit", {"data": "ml-100k"}),
        (
            "tracking.enabled: no setting of the estimator; an estimator records nothing",
            {"tracking__enabled": True},
        ),
        ("columns.user: no setting of the estimator; name the columns in fit", {"columns": {"user": "u"}}),
    ],
)
def test_wrong_settings_are_named(message: str, hyper: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=message):
        MCLRecommender(**hyper)
    estimator = MCLRecommender(epochs=3)
    with pytest.raises(ConfigError, match=message):
        estimator.set_params(**hyper)
    assert estimator.config.epochs == 3


@pytest.mark.skipif(not installed("sklearn"), reason="scikit-learn is not installed")
def test_scikit_learn_clones_it(fitted: MCLRecommender) -> None:
    from sklearn.base import clone
    from sklearn.model_selection import ParameterGrid

    copy = clone(fitted)
    assert copy.config == fitted.config
    assert copy.get_params() == fitted.get_params()
    with pytest.raises(DataError, match="not fitted yet; call fit first"):
        copy.recommend(["u1"])
    for params in ParameterGrid({"optim__lr": [0.1, 0.2]}):
        assert clone(fitted).set_params(**params).config.optim.lr == params["optim__lr"]


def test_nothing_works_before_fit(tmp_path: Path) -> None:
    estimator = MCLRecommender(**SMALL)
    for ask in (
        lambda: estimator.recommend(["u1"]),
        lambda: estimator.recommend_from_histories([[1]]),
        lambda: estimator.encode([[1]]),
        lambda: estimator.item_vectors,
        lambda: estimator.evaluate(),
        lambda: estimator.partial_fit(ring()),
        lambda: estimator.save(tmp_path / "model"),
    ):
        with pytest.raises(DataError, match="this MCLRecommender is not fitted yet"):
            ask()
    assert not (tmp_path / "model").exists()


def test_fit_and_ask(fitted: MCLRecommender) -> None:
    frame = fitted.recommend(["u3", "u1"], k=4)
    assert list(frame.columns) == ["user", "item", "score", "rank"]
    assert frame["user"].tolist() == ["u3"] * 4 + ["u1"] * 4
    assert all(isinstance(item, int) for item in frame["item"].tolist())
    assert not set(frame["item"][:4]) & set(fitted.history("u3"))
    by_history = fitted.recommend_from_histories([fitted.history("u3")], k=4)
    assert by_history["item"].tolist() == frame["item"].tolist()[:4]
    scores = fitted.score(fitted.history("u3"), frame["item"].tolist()[:4])
    assert np.allclose(scores, frame["score"][:4], atol=1e-6)
    assert fitted.encode([fitted.history("u3")]).shape == (1, 8)
    assert fitted.item_vectors.shape == (30, 8)
    assert len(fitted.similar_items(7, k=3)) == 3
    assert fitted.fit_result_ is not None
    assert fitted.fit_result_.epochs == 2


def test_equal_seeds_give_equal_weights(fitted: MCLRecommender) -> None:
    global_state = torch.get_rng_state()
    again = MCLRecommender(**SMALL).fit(ring())
    assert torch.equal(torch.get_rng_state(), global_state)
    assert equal(fitted, again)
    assert not equal(fitted, MCLRecommender(**{**SMALL, "seed": 2}).fit(ring()))
    # A second fit begins anew.
    assert equal(again.fit(ring()), fitted)


@pytest.mark.parametrize("make", ["renamed", "sequences", "lists", "interactions", "polars", "arrow"])
def test_data_of_every_make_train_the_same(fitted: MCLRecommender, make: str) -> None:
    frame = ring()
    names: dict[str, Any] = {}
    data: Any
    if make == "renamed":
        data = frame.rename(columns={"user_id": "who", "item_id": "what", "timestamp": "when"})
        data["when"] = pd.to_datetime(data["when"], unit="s", utc=True)
        names = {"user": "who", "item": "what", "time": "when"}
    elif make in ("sequences", "lists"):
        ordered: dict[Any, Any] = (
            frame.sort_values("timestamp").groupby("user_id")["item_id"].agg(list).to_dict()
        )
        data = ordered if make == "sequences" else [ordered[user] for user in sorted(ordered)]
    elif make == "interactions":
        data = Interactions.from_frame(frame)
    elif make == "polars":
        data = pytest.importorskip("polars").DataFrame(frame.to_dict("list"))
    else:
        data = pytest.importorskip("pyarrow").table(frame.to_dict("list"))
    assert equal(MCLRecommender(**SMALL).fit(data, **names), fitted)


@pytest.mark.parametrize(
    ("message", "data"),
    [
        ("no interactions", ring()[:0]),
        ("no column 'timestamp'", ring().drop(columns="timestamp")),
        ("rows have no user id", ring().assign(user_id=ring()["user_id"].where(ring()["user_id"] != "u3"))),
        ("rows have no item id", ring().assign(item_id=[np.nan, *[1.0] * (len(ring()) - 1)])),
        ("time of row 0 is nan", ring().assign(timestamp=[np.nan, *[1.0] * (len(ring()) - 1)])),
        ("no user has 3 events", pd.DataFrame({"user_id": [1, 2], "item_id": [1, 2], "timestamp": [1, 2]})),
        ("a frame, Interactions or item sequences expected, got int", 3),
        ("a frame, Interactions or item sequences expected, got str", "ml-100k"),
        ("a sequence of item ids is expected", ["abc"]),
    ],
)
def test_data_that_cannot_be_used(message: str, data: Any) -> None:
    estimator = MCLRecommender(**SMALL)
    with pytest.raises(DataError, match=message):
        estimator.fit(data)
    with pytest.raises(DataError, match="not fitted"):
        estimator.history("u1")


def test_users_with_one_event_are_known_and_not_evaluated() -> None:
    frame = pd.concat([ring(), pd.DataFrame({"user_id": ["one"], "item_id": [5], "timestamp": [3]})])
    estimator = MCLRecommender(**SMALL).fit(frame)
    assert estimator.history("one") == [5]
    assert len(estimator.recommend(["one"], k=3)) == 3
    assert estimator.split_ is not None
    assert len(estimator.split_.users) == 40
    assert estimator.data.num_users == 41


def test_callbacks_are_told_and_may_end_training(fitted: MCLRecommender) -> None:
    told: list[tuple[int, float]] = []
    again = MCLRecommender(**SMALL).fit(
        ring(), callbacks=[lambda m, epoch: told.append((epoch, m["val/hr_at_10"]))]
    )
    assert [epoch for epoch, _ in told] == [0, 1, 2]
    assert again.fit_result_ is not None
    best = max(told, key=lambda pair: pair[1])
    assert fitted.evaluate("val", k=10)["ndcg_at_10"] == max(
        entry["val/ndcg_at_10"] for entry in again.fit_result_.history
    )
    assert best[1] > 0

    class EnoughError(Exception):
        pass

    def stop(metrics: object, epoch: int) -> None:
        if epoch == 1:
            raise EnoughError

    before = weights(again)
    with pytest.raises(EnoughError):
        again.fit(ring(seed=5), callbacks=[stop])
    assert equal(again, fitted)
    assert weights(again).keys() == before.keys()
    with pytest.raises(ConfigError, match="callbacks: they are told of validations, and val=None has none"):
        again.fit(ring(), val=None, callbacks=[stop])
    with pytest.raises(ConfigError, match="val: 'loo', 'temporal' or None expected, got 'last'"):
        again.fit(ring(), val="last")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="selection.metric: 'val/auc' is not measured"):
        MCLRecommender(**SMALL, selection__metric="val/auc").fit(ring())


def test_patience_ends_training_and_the_best_weights_stay() -> None:
    settings = {**SMALL, "epochs": 30, "optim__lr": 1.0, "selection__patience": 2}
    estimator = MCLRecommender(**settings).fit(ring())
    result = estimator.fit_result_
    assert result is not None
    assert result.stopped_early
    assert result.epochs < 30
    best = max(entry["val/ndcg_at_10"] for entry in result.history)
    assert estimator.evaluate("val", k=10)["ndcg_at_10"] == best


def test_evaluate_what_was_held_out(fitted: MCLRecommender) -> None:
    split = leave_one_out(Interactions.from_frame(ring()))
    assert fitted.evaluate() == evaluate(fitted.scorer.score, split, "test")
    assert fitted.evaluate("val", k=7) == evaluate(fitted.scorer.score, split, "val", cutoffs=[7])
    some = fitted.evaluate(metrics=["ndcg"], k=[3, 9], exclude_seen=True)
    assert list(some) == ["ndcg_at_3_filtered", "ndcg_at_9_filtered"]
    assert list(fitted.evaluate(metrics=["hr"], k=3, exclude_seen=False)) == ["hr_at_3"]
    assert list(fitted.evaluate(metrics=["hr"], k=3)) == ["hr_at_3", "hr_at_3_filtered"]
    with pytest.raises(ConfigError, match="metrics: 'ndgc' is not measured; did you mean 'ndcg'"):
        fitted.evaluate(metrics=["ndgc"])
    for cutoffs in ([0], [], [5, -1]):
        with pytest.raises(ConfigError, match="k: one or more list lengths"):
            fitted.evaluate(k=cutoffs)
    with pytest.raises(ConfigError, match="'val', 'test' or events expected, got 'train'"):
        fitted.evaluate("train")


def test_evaluate_on_what_came_next(fitted: MCLRecommender, capsys: pytest.CaptureFixture[str]) -> None:
    later = pd.DataFrame(
        {
            "user_id": ["u1", "u1", "u2", "stranger", "u3"],
            "item_id": [9, 3, 4, 4, "new"],
            "timestamp": [11, 10, 12, 13, 14],
        }
    )
    found = fitted.evaluate(later, k=[5, 30])
    said = capsys.readouterr().err
    assert "1 users have no stored history" in said
    assert "1 targets are items that the model does not know" in said
    for suffix, exclude in (("", False), ("_filtered", True)):
        ranks = [30]  # the unknown item is behind all others
        for user, target in (("u1", 3), ("u2", 4)):
            history = fitted.history(user)
            scores = fitted.score(history)
            own = scores[list(fitted.data.item_ids).index(target)]
            ahead = [i for s, i in zip(scores, fitted.data.item_ids, strict=True) if s >= own and i != target]
            ranks.append(sum(item not in history for item in ahead) if exclude else len(ahead))
        expected = ranking_metrics(np.array(ranks), [5, 30])
        assert {name: found[name + suffix] for name in expected} == pytest.approx(expected)
    with pytest.raises(DataError, match="no user of these events is known"):
        fitted.evaluate([["x"]])
    only_new = fitted.evaluate({"u1": ["new"]}, k=5)
    assert set(only_new.values()) == {0.0}


def test_temporal_split() -> None:
    data = Interactions.from_columns(
        list("aaaaabbbcccd"),
        [*range(1, 6), *range(1, 4), *range(1, 4), 9],
        [1, 2, 3, 8, 9, 1, 8, 9, 8, 9, 9, 1],
    )
    split = temporal_split(data, 0.5)  # six of twelve are before 8
    assert (split.train_ends - data.offsets[:-1]).tolist() == [3, 1, 0, 1]
    assert [data.user_ids[u] for u in split.users] == ["a", "b"]
    assert [data.item_ids[i - 1] for i in split.targets("val")] == [4, 2]
    assert [data.item_ids[i - 1] for i in split.targets("test")] == [5, 3]
    assert split.history(0, "test").tolist() == data.sequence(0)[:4].tolist()
    assert data.times is not None
    trained = [data.times[data.offsets[u] : split.train_ends[u]] for u in range(4)]
    assert max(times.max(initial=0) for times in trained) < 8
    with pytest.raises(DataError, match="needs times"):
        temporal_split(Interactions.from_sequences([list("abc")]))
    with pytest.raises(DataError, match="no user has an event before and two events after"):
        temporal_split(Interactions.from_columns(["a", "a", "b"], [1, 2, 3], [1, 2, 3]))
    with pytest.raises(DataError, match="nothing|no next item"):
        temporal_split(Interactions.from_columns(["a"] * 3, [1, 2, 3], [1, 2, 2]), 0.5)
    with pytest.raises(DataError, match="no next item"):
        nothing_held_out(Interactions.from_sequences([["a"], ["b"]]))


def test_other_ways_to_hold_out() -> None:
    rows = ring()
    rows["timestamp"] += rows["user_id"].str[1:].astype(int) * 3
    timed = MCLRecommender(**SMALL).fit(rows, val="temporal")
    assert timed.split_ is not None
    assert 0 < len(timed.split_.users) < 40
    assert 0 <= timed.evaluate("test", k=10)["hr_at_10"] <= 1
    everything = MCLRecommender(**SMALL).fit(rows, val=None)
    assert everything.fit_result_ is not None
    assert everything.fit_result_.history == []
    assert everything.fit_result_.epochs == 2
    with pytest.raises(DataError, match="nothing was held out"):
        everything.evaluate()


def test_save_and_load(fitted: MCLRecommender, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    fitted.save(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["model.safetensors", "recommender.json"]
    loaded = MCLRecommender.load(folder, "cpu")
    assert equal(loaded, fitted)
    assert loaded.get_params() == fitted.get_params()
    users = list(fitted.data.user_ids)
    assert loaded.recommend(users, k=5).equals(fitted.recommend(users, k=5))
    assert loaded.evaluate() == fitted.evaluate()
    plain = Recommender.load(folder, "cpu")
    assert plain.recommend(users, k=5).equals(fitted.recommend(users, k=5))
    # The augmenters come along: training goes on as it would have.
    new = {"u1": [3, 4], "fresh": [5, 6, 7]}
    one = MCLRecommender.load(folder, "cpu").partial_fit(new, epochs=1)
    assert fitted._method is not None
    other = MCLRecommender.load(folder, "cpu")
    other._method = fitted._method
    assert equal(one, other.partial_fit(new, epochs=1))


def test_averaged_weights_are_saved_and_loaded(tmp_path: Path) -> None:
    estimator = MCLRecommender(**SMALL, average=0.9).fit(ring())
    estimator.save(tmp_path)
    loaded = MCLRecommender.load(tmp_path, "cpu")
    assert equal(loaded, estimator)
    assert estimator._method is not None
    assert loaded._method is not None
    states = (estimator._method.state_dict(), loaded._method.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    grown = loaded.partial_fit([[0, "new", 1]])
    assert grown.item_vectors.shape == (31, 8)


def test_folders_that_hold_no_estimator(fitted: MCLRecommender, tmp_path: Path) -> None:
    Recommender(fitted.scorer, fitted.data).save(tmp_path / "plain")
    with pytest.raises(DataError, match="no MCLRecommender; use Recommender.load"):
        MCLRecommender.load(tmp_path / "plain", "cpu")
    fitted.save(tmp_path / "model")
    path = tmp_path / "model" / "recommender.json"
    description = json.loads(path.read_text(encoding="utf-8"))
    description["estimator"]["config"]["dim"] = 16
    path.write_text(json.dumps(description), encoding="utf-8")
    with pytest.raises(DataError, match="is no saved MCLRecommender"):
        MCLRecommender.load(tmp_path / "model", "cpu")


def test_new_events_are_histories_and_change_no_weight(fitted: MCLRecommender, tmp_path: Path) -> None:
    fitted.save(tmp_path)
    grown = MCLRecommender.load(tmp_path, "cpu")
    new = pd.DataFrame({"user_id": ["u1", "fresh", "u1"], "item_id": [4, 5, 3], "timestamp": [9, 1, 8]})
    assert grown.partial_fit(new) is grown
    assert grown.history("u1") == [*fitted.history("u1"), 3, 4]
    assert grown.history("fresh") == [5]
    assert grown.data.item_ids == fitted.data.item_ids
    assert equal(grown, fitted)
    assert grown.recommend(["u2"], k=5).equals(fitted.recommend(["u2"], k=5))
    expected = fitted.recommend_from_histories([grown.history("u1")], k=5)
    assert grown.recommend(["u1"], k=5)["item"].tolist() == expected["item"].tolist()
    with pytest.raises(DataError, match="nothing was held out .*partial_fit"):
        grown.evaluate()
    with pytest.raises(ConfigError, match="epochs: 0 or more"):
        grown.partial_fit(new, epochs=-1)
    with pytest.raises(DataError, match="no interactions"):
        grown.partial_fit(new[:0])


def test_new_items_begin_between_those_they_occur_with(fitted: MCLRecommender, tmp_path: Path) -> None:
    fitted.save(tmp_path)
    grown = MCLRecommender.load(tmp_path, "cpu")
    grown.partial_fit({"u1": ["new"], "fresh": [5, "new", 5, "other"], "alone": ["lonely"]})
    assert grown.data.item_ids == (*fitted.data.item_ids, "lonely", "new", "other")
    before, after = fitted.item_vectors.astype(np.float64), grown.item_vectors
    assert np.array_equal(after[:30], fitted.item_vectors)
    rows = [list(fitted.data.item_ids).index(item) for item in [*fitted.history("u1"), 5, 5]]
    assert np.allclose(after[31], before[rows].mean(0), atol=1e-6)
    assert np.allclose(after[32], before[list(fitted.data.item_ids).index(5)], atol=1e-6)
    assert np.allclose(after[30], before.mean(0), atol=1e-6)
    history = fitted.history("u2")
    assert np.allclose(grown.score(history)[:30], fitted.score(history), atol=1e-6)
    assert {"new", "other", "lonely"} <= set(grown.recommend(["u2"], k=33, exclude_seen=False)["item"])
    trained = MCLRecommender.load(tmp_path, "cpu").partial_fit({"fresh": [5, "new", 5]}, epochs=1)
    assert trained.fit_result_ is not None
    assert trained.fit_result_.epochs == 1
    assert not torch.equal(weights(trained)["item.weight"][:31], weights(fitted)["item.weight"])
    assert trained.config.epochs == 2


def test_appended_events_against_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    old = {f"u{u}": [f"i{i}" for i in rng.integers(9, size=5)] for u in range(6)}
    new = {f"u{u}": [f"i{i}" for i in rng.integers(5, 13, size=3)] for u in range(4, 9)}
    data = append_events(Interactions.from_sequences(old), Interactions.from_sequences(new))
    joined = {user: [*old.get(user, []), *new.get(user, [])] for user in {**old, **new}}
    found = {u: [data.item_ids[i - 1] for i in data.sequence(n)] for n, u in enumerate(data.user_ids)}
    assert found == joined
    known = len({item for items in old.values() for item in items})
    weights = torch.randn(known + 1, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    grown = vectors_of_new_items(weights, data)
    assert torch.equal(grown[: known + 1], weights)
    for index in range(known + 1, data.num_items + 1):
        company = [
            weights[item]
            for user in range(data.num_users)
            for own in data.sequence(user)
            if own == index
            for item in data.sequence(user)
            if item <= known
        ]
        assert torch.allclose(grown[index], torch.stack(company).mean(0))


class Following:
    """Scores items by how often they directly followed the last item of the history, in training."""

    def __init__(self, split: LeaveOneOut) -> None:
        from scipy.sparse import csr_matrix

        pasts, nexts = zip(
            *((i[:-1], i[1:]) for i in map(split.train, range(split.data.num_users))), strict=True
        )
        places = (np.concatenate(pasts), np.concatenate(nexts))
        shape = (split.data.num_items + 1,) * 2
        self.counts = csr_matrix((np.ones(len(places[0]), np.float32), places), shape=shape)

    def score(self, histories: list[NDArray[np.int64]]) -> torch.Tensor:
        """As of a scorer."""
        rows = self.counts[[int(history[-1]) for history in histories]]
        return torch.from_numpy(rows.toarray()[:, 1:])


def test_sanity_floor() -> None:
    """On a ring what comes next follows from the last item: popularity knows nothing, co-occurrence a lot."""
    split = leave_one_out(Interactions.from_frame(ring(users=150)))
    popularity = evaluate(Popularity(PopularityConfig(), split).scorer.score, split, "test")
    following = evaluate(Following(split).score, split, "test")
    chance = 10 / 30
    # Below chance rather than at it: an item held out more often is trained on less often.
    assert 0.05 < popularity["hr_at_10"] < chance + 3 * np.sqrt(chance * (1 - chance) / 150)
    assert following["hr_at_5"] > 0.95
    assert following["mrr_at_10"] > 2 * popularity["mrr_at_10"]
    settings = {**SMALL, "dim": 16, "inner_dim": 32, "epochs": 8, "optim__lr": 2e-2, "dropout": 0.0}
    model = MCLRecommender(**settings).fit(split.data).evaluate()
    assert model["hr_at_5"] > 0.9
    assert model["mrr_at_10"] > 2 * popularity["mrr_at_10"]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared benchmark data are not beside this checkout")
def test_sanity_floor_on_real_data() -> None:
    split = leave_one_out(load_dataset("amazon-beauty", SHARED).interactions)
    popularity = evaluate(Popularity(PopularityConfig(), split).scorer.score, split, "test")
    following = evaluate(Following(split).score, split, "test")
    assert popularity["hr_at_10"] == pytest.approx(0.0106, abs=5e-5)
    assert following["hr_at_10"] == pytest.approx(0.0511, abs=5e-5)
    assert following["ndcg_at_10_filtered"] == pytest.approx(0.0354, abs=5e-5)
