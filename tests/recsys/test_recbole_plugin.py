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
from torch import Tensor

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
    # Steps of a millisecond: threads that wait for each other take longer than the work.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with recbole_session() as model:
            yield model
    finally:
        torch.set_num_threads(before)


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
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
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


@pytest.mark.slow
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
    settings = SMALL | {"epochs": 5, "learning_rate": 0.01, "lmd": 0.1}
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


SETTINGS = {
    "hidden_dropout_prob": 0.0,
    "attn_dropout_prob": 0.0,
    "lmd": 0.3,
    "cl_beta": 0.2,
    "cl_regulariser_weight": 0.4,
    "cl_temperature": 0.7,
}


def contrast_by_hand(a: Tensor, b: Tensor, ids: Tensor, temperature: float = 1.0) -> Tensor:
    """L_con over a Gram matrix, one row after the other."""
    both, ids, size = torch.cat([a, b]), ids.repeat(2), len(a)
    losses = []
    for row in range(2 * size):
        logits = both @ both[row] / temperature
        partner = (row + size) % (2 * size)
        among = (ids != ids[row]) | (torch.arange(2 * size) == partner)
        losses.append(logits[among].logsumexp(0) - logits[partner])
    return torch.stack(losses).mean()


def regulariser_by_hand(a: Tensor, b: Tensor, ids: Tensor, temperature: float) -> Tensor:
    """R with bounds per row, in the clamped form of the paper."""
    both, ids, size = torch.cat([a, b]), ids.repeat(2), len(a)
    lowered, raised, gram = [], [], both @ both.T / temperature
    for row in range(2 * size):
        positive = gram[row, (row + size) % (2 * size)]
        negative = gram[row][ids != ids[row]]
        low, high = torch.minimum(positive, negative.max()), torch.maximum(positive, negative.max())
        lowered.append((positive - low).clamp(min=0))
        raised.append((high - negative).clamp(min=0))
    return torch.stack(lowered).mean() + torch.cat(raised).mean()


def losses_by_hand(model: Any, rows: Any, views: Any) -> dict[str, Tensor]:
    """Every term without its weight, from rows that are as long as RecBole made them."""
    s = model.settings
    states = model.encoder.last(rows["item_id_list"], rows["item_length"])
    h1, h2 = model.encoder.last(views.items, views.lengths)[views.order].chunk(2)
    w1, w2 = model.augmenters.networks
    z1, z2 = w1(h1), w2(h2)
    ids = torch.arange(len(h1)) if views.ids is None else views.ids
    pairs = ((z1, z2), (h1, z2), (h2, z1))
    return {
        "rec": torch.nn.functional.cross_entropy(
            states @ model.encoder.item.weight[1:].T, rows["item_id"] - 1
        ),
        "cl1": contrast_by_hand(h1, h2, ids, s.cl_temperature),
        "cl2": torch.stack([contrast_by_hand(*pair, ids) for pair in pairs]).sum(),
        "reg": torch.stack([regulariser_by_hand(*pair, ids, s.cl_temperature) for pair in pairs]).sum(),
    }


def gradients(loss: Tensor, module: torch.nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(module.parameters()), retain_graph=True))


def close(found: list[Tensor], expected: list[Tensor]) -> bool:
    return all(torch.allclose(a, b, rtol=1e-8, atol=1e-10) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("false_negatives", ["keep", "same_user", "same_target"])
@pytest.mark.parametrize("schedule", ["simultaneous", "joint", "paper", "official"])
def test_losses_and_where_their_gradients_go(session: type[Any], schedule: str, false_negatives: str) -> None:
    parts = prepare(cl_schedule=schedule, cl_false_negatives=false_negatives, **SETTINGS)
    model, rows = parts.network.double(), rows_of(parts.train)
    views = model.draw_views(rows)
    by_hand = losses_by_hand(model, rows, views)
    beta, rho = 0.2, 0.4
    found = model.encoder_losses(rows, views)
    expected = [by_hand["rec"], 0.3 * by_hand["cl1"], beta * by_hand["cl2"], beta * rho * by_hand["reg"]]
    assert [part.item() for part in found] == pytest.approx([part.item() for part in expected], rel=1e-9)

    loss, whole = torch.stack(found).sum(), torch.stack(expected).sum()
    own = by_hand["cl2"] + rho * by_hand["reg"]
    assert close(gradients(loss, model.encoder), gradients(whole, model.encoder))
    if schedule == "joint":
        assert close(gradients(loss, model.augmenters), gradients(whole, model.augmenters))
    elif schedule == "simultaneous":
        assert close(gradients(loss, model.augmenters), gradients(own, model.augmenters))
    else:
        loss.backward()
        assert all(parameter.grad is None for parameter in model.augmenters.parameters())
        model.zero_grad()
        second = torch.stack(model.augmenter_losses(views)).sum()
        own = by_hand["cl2"] + rho * by_hand["reg"] * (beta if schedule == "paper" else 1)
        assert second.item() == pytest.approx(own.item(), rel=1e-9)
        assert close(gradients(second, model.augmenters), gradients(own, model.augmenters))
        second.backward()
        assert all(parameter.grad is None for parameter in model.encoder.parameters())


def test_without_weights_it_is_sasrec(session: type[Any]) -> None:
    parts = prepare(lmd=0, cl_beta=0, hidden_dropout_prob=0, attn_dropout_prob=0)
    rows = rows_of(parts.train)
    (loss,) = parts.network.calculate_loss(rows)
    states = parts.network.encoder.last(rows["item_id_list"], rows["item_length"])
    expected = torch.nn.functional.cross_entropy(parts.network.encoder.logits(states), rows["item_id"] - 1)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert not parts.network.draw_views(rows)


@pytest.mark.parametrize(("schedule", "moved"), [("paper", (1, 1)), ("official", (2, 1))])
def test_alternating_schedules_move_one_after_the_other(
    session: type[Any], schedule: str, moved: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = prepare(cl_schedule=schedule)
    model, trainer = parts.network, parts.trainer
    order: list[str] = []
    descend = type(trainer)._descend

    def watched(self: Any, losses: Any, stage: str, scaler: Any) -> None:
        before = {name: weight.clone() for name, weight in model.state_dict().items()}
        descend(self, losses, stage, scaler)
        changed = {
            name.partition(".")[0]
            for name, weight in model.state_dict().items()
            if not torch.equal(weight, before[name])
        }
        assert changed == {stage}
        order.append(stage)

    monkeypatch.setattr(type(trainer), "_descend", watched)
    trainer.fit(parts.train, parts.valid, verbose=False)
    batches = len(parts.train)
    assert order == ["encoder", "augmenters", "encoder"][: sum(moved)] * batches
    for optimizer, times in zip(
        (trainer.optimizer.encoder, trainer.optimizer.augmenters), moved, strict=True
    ):
        assert {int(state["step"]) for state in optimizer.state.values()} == {times * batches}


@pytest.mark.parametrize("schedule", ["simultaneous", "paper", "official"])
def test_a_resumed_run_is_the_straight_run(session: type[Any], schedule: str) -> None:
    def run(epochs: int, resume: str | None = None) -> Any:
        parts = prepare(
            cl_schedule=schedule, epochs=epochs, train_batch_size=128, clip_grad_norm={"max_norm": 5.0}
        )
        if resume is not None:
            torch.rand(7)  # a resumed process is not where the straight one was
            parts.trainer.resume_checkpoint(resume)
            assert parts.trainer.start_epoch == 1
        parts.trainer.fit(parts.train, parts.valid, verbose=False, saved=False)
        return parts.trainer

    straight, first = run(2), run(1)
    first._save_checkpoint(0, verbose=False)
    resumed = run(2, first.saved_model_file)
    assert resumed.train_loss_dict[1] == straight.train_loss_dict[1]
    for name, weight in straight.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], weight), name
    assert resumed.model.steps_done == straight.model.steps_done == 2 * first.model.steps_done
    states = [trainer.optimizer.state_dict() for trainer in (straight, resumed)]
    if schedule != "simultaneous":
        assert set(states[0]) == {"encoder", "augmenters"}
    torch.testing.assert_close(*states, rtol=0, atol=0)


def test_an_interrupted_save_leaves_the_checkpoint_as_it_was(
    session: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = prepare().trainer
    trainer._save_checkpoint(0, verbose=False)
    path = Path(trainer.saved_model_file)
    before = path.read_bytes()

    def half(state: Any, file: Any, **options: Any) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        trainer._save_checkpoint(1, verbose=False)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_schedules_and_trainers_that_do_not_fit_are_refused(session: type[Any]) -> None:
    from recbole.trainer import Trainer

    alternating, plain = prepare(cl_schedule="official"), prepare()
    stock = Trainer(alternating.config, alternating.network)
    with pytest.raises(ConfigError, match="'official' makes several updates.*MCLRecTrainer"):
        stock.fit(alternating.train, verbose=False)
    plain.trainer._save_checkpoint(0, verbose=False)
    with pytest.raises(ConfigError, match="one optimiser.*resume with the cl_schedule it was trained with"):
        alternating.trainer.resume_checkpoint(plain.trainer.saved_model_file)
    spread = make_config(cl_schedule="official")
    spread["single_spec"] = False
    with pytest.raises(ConfigError, match="'official' trains on one device"):
        type(alternating.trainer)(spread, alternating.network)


@pytest.mark.parametrize("augmenters", ["frozen", "identity"])
def test_augmenters_that_do_not_learn(session: type[Any], augmenters: str) -> None:
    parts = prepare(cl_schedule="official", cl_augmenters=augmenters)
    before = {name: weight.clone() for name, weight in parts.network.augmenters.state_dict().items()}
    parts.trainer.fit(parts.train, parts.valid, verbose=False)
    steps = {int(state["step"]) for state in parts.trainer.optimizer.state.values()}
    assert steps == {2 * len(parts.train)}
    assert all(
        torch.equal(weight, before[name]) for name, weight in parts.network.augmenters.state_dict().items()
    )
