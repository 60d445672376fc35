"""MCLRec inside RecBole: found by name, trained by its Trainers, and the same model as nearfar's."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from nearfar.errors import ConfigError, DataError
from nearfar.optional import PACKAGES, installed
from nearfar.recsys import leave_one_out, load_dataset, register_recbole
from nearfar.recsys.example import ring
from nearfar.recsys.recbole import RecBoleSettings, recbole_session, to_recommender
from nearfar.recsys.recbole.conversion import to_encoder, to_interactions
from nearfar.recsys.recbole.settings import FIXED

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(not installed("recbole"), reason=f"needs RecBole: {PACKAGES['recbole'].command}"),
]

COLUMNS = {"inter": ["user_id", "item_id", "timestamp"]}
SMALL = {
    "data_path": ".",
    "load_col": COLUMNS,
    "show_progress": False,
    "use_gpu": False,
    "epochs": 1,
    "train_batch_size": 64,
    "hidden_size": 16,
    "inner_size": 32,
    "MAX_ITEM_LIST_LENGTH": 10,
    "valid_metric": "NDCG@10",
}


@pytest.fixture
def session(tmp_path: Path) -> Iterator[type[Any]]:
    ring(tmp_path / "ring")
    with recbole_session() as model:
        yield model


def make_config(model: Any = "MCLRec", **settings: Any) -> Any:
    from recbole.config import Config

    return Config(model=model, dataset="ring", config_dict=SMALL | settings)


def prepare(model: Any = "MCLRec", **settings: Any) -> SimpleNamespace:
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    config = make_config(model, **settings)
    init_seed(config["seed"], reproducibility=True)
    dataset = create_dataset(config)
    train, valid, test = data_preparation(config, dataset)
    network = get_model(config["model"])(config, train._dataset)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, network)
    return SimpleNamespace(
        config=config, dataset=dataset, train=train, valid=valid, test=test, network=network, trainer=trainer
    )


def rows_of(loader: Any) -> Any:
    """The first batch of a loader, without what evaluation adds to it."""
    batch = next(iter(loader))
    return batch[0] if isinstance(batch, tuple) else batch


def histories(rows: Any) -> list[np.ndarray]:
    lists, lengths = rows["item_id_list"].numpy(), rows["item_length"].tolist()
    return [row[:length] for row, length in zip(lists, lengths, strict=True)]


def run_python(program: str, folder: Path) -> str:
    """Output of a program in a process of its own: run_recbole changes logging and seeds for good."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_registering_twice_changes_nothing(session: type[Any]) -> None:
    from recbole import trainer
    from recbole.config import Config
    from recbole.utils import get_model, get_trainer

    before = (vars(Config)["_load_internal_config_dict"], trainer.MCLRecTrainer)
    assert register_recbole() is session
    assert (vars(Config)["_load_internal_config_dict"], trainer.MCLRecTrainer) == before
    assert get_model("MCLRec") is session
    assert get_trainer(session.type, "MCLRec") is trainer.MCLRecTrainer
    assert get_trainer(session.type, "SASRec") is trainer.Trainer


def test_registering_alone_and_sessions_leave_anomaly_detection_as_it_was(tmp_path: Path) -> None:
    out = run_python(
        """
        import torch
        from nearfar.interop.recbole import compat
        from nearfar.recsys import register_recbole
        from nearfar.recsys.recbole import recbole_session
        model = register_recbole()
        seen = [torch.is_anomaly_enabled()]
        with compat():
            from recbole.utils import get_model
            seen.append(get_model("MCLRec") is model)
        for before in (False, True):
            torch.autograd.set_detect_anomaly(before)
            with recbole_session():
                seen.append(torch.is_anomaly_enabled())
            seen.append(torch.is_anomaly_enabled())
        print(seen)
        """,
        tmp_path,
    )
    assert out == "[False, True, False, False, False, True]"


@pytest.mark.parametrize("by_name", [True, False])
def test_config_has_every_default(session: type[Any], by_name: bool) -> None:
    config = make_config("MCLRec" if by_name else session)
    expected = RecBoleSettings(hidden_size=16, inner_size=32).model_dump() | dict(FIXED)
    assert {name: config[name] for name in expected} == expected
    assert config["model"] == "MCLRec"
    # No negatives are drawn: with RecBole's own default half of every batch would be noise.
    assert config["train_neg_sample_args"]["distribution"] == "none"
    assert config["eval_args"]["split"] == {"LS": "valid_and_test"}


def test_other_models_keep_their_own_defaults(session: type[Any]) -> None:
    config = make_config("GRU4Rec", train_neg_sample_args=None)
    assert config["cl_beta"] is None
    assert config["hidden_act"] is None


def test_names_do_not_clash_with_recboles(session: type[Any]) -> None:
    from recbole.utils import argument_list

    taken = {name for names in vars(argument_list).values() if isinstance(names, list) for name in names}
    # Read by RecBole's transforms, its Trainer and other models of its own.
    taken |= {
        "beta",
        "eta",
        "gamma",
        "mask_ratio",
        "crop_ratio",
        "reorder_ratio",
        "reg_weight",
        "lambda",
        "tau",
    }
    assert not taken & set(RecBoleSettings.model_fields)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_heads": 3}, r"n_heads \(3\) must divide hidden_size \(16\)"),
        ({"cl_schedule": "both"}, "cl_schedule: .*'both'"),
        ({"hidden_dropout_prob": 1.5}, "hidden_dropout_prob: .*1.5"),
        ({"lmd": -1}, "lmd: .*-1"),
        ({"loss_type": "BPR"}, "loss_type: MCLRec has 'CE' only, got 'BPR'"),
        ({"hidden_act": "relu"}, "hidden_act: MCLRec has 'gelu' only, got 'relu'"),
    ],
)
def test_wrong_settings_are_refused(session: type[Any], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare(**settings)


def test_scores_are_those_of_the_encoder(session: type[Any]) -> None:
    parts = prepare()
    model, rows = parts.network.eval(), rows_of(parts.test)
    lengths = rows["item_length"]
    assert lengths.min() < lengths.max()
    with torch.no_grad():
        scores = model.full_sort_predict(rows)
        assert scores.shape == (len(rows), parts.dataset.item_num)
        assert torch.isinf(scores[:, 0]).all()
        expected = model.encoder.score(histories(rows))
        assert torch.equal(scores[:, 1:], expected)
        # RecBole's padded rows, longer than the longest history, and one at a time.
        states = model.encoder.last(rows["item_id_list"], lengths)
        assert (model.encoder.logits(states) - expected).abs().max() < 1e-6
        single = torch.cat([model.full_sort_predict(rows[[place]]) for place in range(len(rows))])
        assert (single[:, 1:] - expected).abs().max() < 1e-6
        assert (model.predict(rows) - scores.gather(1, rows["item_id"][:, None])[:, 0]).abs().max() < 1e-6


def test_recboles_own_sasrec_has_the_scores_of_our_encoder(session: type[Any]) -> None:
    parts = prepare("SASRec", train_neg_sample_args=None, n_layers=3)
    for parameter in parts.network.parameters():
        parameter.data.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    model, rows = parts.network.double().eval(), rows_of(parts.test)
    with torch.no_grad():
        expected = model.full_sort_predict(rows)[:, 1:]
        found = to_encoder(model).double().score(histories(rows))
    assert expected.abs().max() > 0.1
    # RecBole hides keys by subtracting 10,000 instead of leaving them out.
    assert (found - expected).abs().max() < 1e-6


def test_a_trained_model_becomes_a_recommender(session: type[Any], tmp_path: Path) -> None:
    parts = prepare(epochs=2)
    parts.trainer.fit(parts.train, parts.valid, verbose=False)
    rec = to_recommender(parts.network, parts.dataset)
    data = load_dataset(str(tmp_path / "ring" / "ring.inter")).interactions
    assert set(rec.data.user_ids) == set(data.user_ids)
    for place, user in enumerate(data.user_ids):
        assert rec.history(user) == [data.item_ids[item - 1] for item in data.sequence(place)]
    rec.save(tmp_path / "saved_recommender")
    frame = type(rec).load(tmp_path / "saved_recommender").recommend(["u3"], k=5, exclude_seen=False)
    numbers = parts.dataset.token2id("item_id", np.array(rec.history("u3")))
    scores = parts.network.encoder.score([numbers])[0]
    best = scores.argsort(descending=True)[:5] + 1
    assert frame["item"].tolist() == list(parts.dataset.id2token("item_id", best))


def test_histories_of_a_dataset_before_and_after_its_split(session: type[Any]) -> None:
    from recbole.data import create_dataset

    whole, split = create_dataset(make_config()), prepare().dataset
    before, after = to_interactions(whole), to_interactions(split)
    assert before.num_users == 40
    assert before.digest() == after.digest()


def test_conversion_refuses_what_does_not_belong_together(session: type[Any], tmp_path: Path) -> None:
    parts = prepare()
    with pytest.raises(DataError, match="got GRU4Rec"):
        to_encoder(prepare("GRU4Rec", train_neg_sample_args=None).network)
    with pytest.raises(DataError, match="hidden_act='gelu'.*got 'relu'"):
        to_encoder(prepare("SASRec", train_neg_sample_args=None, hidden_act="relu").network)
    ring(tmp_path / "ring", num_items=20)
    with pytest.raises(DataError, match="the data set has 20 items, the model 30"):
        to_recommender(parts.network, prepare().dataset)


def test_run_by_name_then_load_in_another_process(tmp_path: Path) -> None:
    ring(tmp_path / "ring")
    settings = SMALL | {"epochs": 2, "lmd": 0.1}
    begin = """
        from pathlib import Path
        from nearfar.recsys.recbole import recbole_session
        with recbole_session():
            from recbole.quick_start import load_data_and_model, run_recbole
            from recbole.utils import get_trainer
    """
    trained = run_python(
        f"""{begin}
            result = run_recbole("MCLRec", "ring", config_dict={settings!r})
        print(float(result["test_result"]["ndcg@10"]), float(result["best_valid_score"]))
        """,
        tmp_path,
    )
    loaded = run_python(
        f"""{begin}
            checkpoint, = Path("saved").glob("*.pth")
            config, model, dataset, train, valid, test = load_data_and_model(str(checkpoint))
            trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
            scores = [trainer.evaluate(part, load_best_model=False)["ndcg@10"] for part in (test, valid)]
        print(*map(float, scores))
        """,
        tmp_path,
    )
    assert loaded == trained
    assert float(trained.split()[0]) > 0.2  # random is 0.15


def held_out(loader: Any, dataset: Any) -> dict[str, str]:
    rows, names = loader._dataset.inter_feat, dataset.field2id_token
    users, items = names["user_id"][rows["user_id"]], names["item_id"][rows["item_id"]]
    return dict(zip(users.tolist(), items.tolist(), strict=True))


def movielens(rank_time: bool, **settings: Any) -> list[dict[str, str]]:
    """Validation and test items of every user, as RecBole has them."""
    with recbole_session(rank_time=rank_time) as model:
        from recbole.config import Config
        from recbole.data import create_dataset, data_preparation

        config = Config(model=model, dataset="ml-100k", config_dict={"load_col": COLUMNS} | settings)
        dataset = create_dataset(config)
        _, valid, test = data_preparation(config, dataset)
    return [held_out(valid, dataset), held_out(test, dataset)]


def test_held_out_items_of_movielens_are_ours() -> None:
    split = leave_one_out(load_dataset("ml-100k").interactions)
    data = split.data
    users = [data.user_ids[user] for user in split.users]
    ours = [
        dict(zip(users, (data.item_ids[item - 1] for item in split.targets(part)), strict=True))
        for part in ("val", "test")
    ]
    assert movielens(rank_time=True) == ours
    rounded = movielens(rank_time=False, normalize_all=False)
    assert np.mean([rounded[1][user] != ours[1][user] for user in users]) == pytest.approx(0.158, abs=5e-4)


def test_the_stock_trainer_trains_it(session: type[Any]) -> None:
    from recbole.trainer import Trainer

    parts = prepare(epochs=3, learning_rate=0.01)
    trainer = Trainer(parts.config, parts.network)
    trainer.fit(parts.train, parts.valid, verbose=False)
    losses = list(trainer.train_loss_dict.values())
    assert losses[-1] < losses[0]
    assert trainer.evaluate(parts.test)["ndcg@10"] > 0.2
