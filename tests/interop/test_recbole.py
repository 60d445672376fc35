"""RecBole on the installed numpy, pandas and torch: one test per repair, each with its symptom.

``without(n)`` is the scope less one repair, so every test shows that its row is needed and enough.
"""

from __future__ import annotations

import importlib
import logging
import os
import pickle
import re
import sys
import warnings
from contextlib import ExitStack, contextmanager
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from nearfar.errors import ConfigError, DataError, MissingDependencyError
from nearfar.interop.recbole import ROWS, compat, packaged_dataset, rank_timestamps
from nearfar.optional import PACKAGES, installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(not installed("recbole"), reason=f"needs RecBole: {PACKAGES['recbole'].command}"),
]

# Two users rate six items each, later rows one second earlier.
START = 881250949
INTER = [(f"u{user}", f"i{item}", START - item) for user in (1, 2) for item in range(user - 1, user + 5)]
# i3 has empty cells; i5, i6 and u2 have no features.
ITEM = [
    ("i0", "a b", "1 2", "0.5"),
    ("i1", "b", "3", "1.5"),
    ("i2", "c a b", "4 5 6", "4"),
    ("i3", "", "", "2"),
    ("i4", "c", "7", "2"),
]
USER = [("u1", "old")]


def write_tiny(folder: Path) -> None:
    def write(suffix: str, header: str, rows: list[Any]) -> None:
        lines = [header, *("\t".join(map(str, row)) for row in rows)]
        (target / f"tiny.{suffix}").write_text("\n".join(lines) + "\n", encoding="utf-8")

    target = folder / "tiny"
    target.mkdir()
    write("inter", "user_id:token\titem_id:token\ttimestamp:float", INTER)
    write("item", "item_id:token\tclass:token_seq\tsizes:float_seq\tprice:float", ITEM)
    write("user", "user_id:token\tage:token", USER)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # RecBole writes log_tensorboard/ into the working directory.
    monkeypatch.chdir(tmp_path)
    write_tiny(tmp_path)
    return tmp_path


def numpy_names() -> dict[str, Any]:
    # Without submodules, which numpy imports when they are first used.
    return {name: value for name, value in vars(np).items() if not isinstance(value, ModuleType)}


def fresh_resolvers(yaml: ModuleType) -> dict[str, list[Any]]:
    # FullLoader inherits them from Resolver until somebody adds one.
    inherited: dict[str, list[Any]] = yaml.resolver.Resolver.yaml_implicit_resolvers
    return {first: list(patterns) for first, patterns in inherited.items()}


@pytest.fixture
def pristine() -> Iterator[None]:
    """Undoes what RecBole does to numpy and YAML when the row that would do so is left out."""
    import yaml

    before = numpy_names()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml.FullLoader, "yaml_implicit_resolvers", fresh_resolvers(yaml))
        yield
    for name in set(numpy_names()) - set(before):
        delattr(np, name)
    vars(np).update(before)


@contextmanager
def without(number: int) -> Iterator[None]:
    assert number in {row.number for row in ROWS}
    with ExitStack() as scope:
        for row in ROWS:
            if row.number != number:
                scope.enter_context(row.repair())
        yield


def make_config(model: str = "SASRec", **settings: Any) -> Any:
    from recbole.config import Config

    defaults: dict[str, Any] = {
        "data_path": ".",
        "checkpoint_dir": "saved",
        "show_progress": False,
        "epochs": 1,
        "train_batch_size": 8,
        "topk": [3],
        "valid_metric": "MRR@3",
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    }
    if model == "SASRec":
        defaults |= {"train_neg_sample_args": None, "hidden_size": 8, "inner_size": 8, "n_layers": 1}
    return Config(model=model, dataset="tiny", config_dict=defaults | settings)


def make_dataset(**settings: Any) -> Any:
    from recbole.data import create_dataset

    return create_dataset(make_config(**settings))


def make_trainer(model: str = "SASRec", **settings: Any) -> SimpleNamespace:
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    config = make_config(model, **settings)
    init_seed(0, reproducibility=True)
    dataset = create_dataset(config)
    train, valid, test = data_preparation(config, dataset)
    network = get_model(model)(config, train._dataset)
    trainer = get_trainer(config["MODEL_TYPE"], model)(config, network)
    return SimpleNamespace(
        config=config, dataset=dataset, train=train, valid=valid, test=test, network=network, trainer=trainer
    )


def features(**settings: Any) -> Any:
    return make_dataset(load_col=None, **settings)


@contextmanager
def recorded() -> Iterator[list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as log:
        warnings.simplefilter("always")
        yield log


def named(log: list[warnings.WarningMessage], *names: str) -> list[str]:
    return [str(entry.message) for entry in log if entry.category.__name__ in names]


def snapshot() -> dict[str, Any]:
    import pandas
    import torch
    import yaml
    from recbole.config import Config
    from recbole.data.dataset.dataset import Dataset
    from recbole.data.interaction import Interaction
    from scipy.sparse import dok_matrix

    owners = (pandas.Series, Config, Dataset, Interaction, dok_matrix, yaml.FullLoader)
    classes = {owner.__name__: dict(vars(owner)) for owner in owners}
    return classes | {
        "numpy": numpy_names(),
        "pandas": dict(vars(pandas)),
        "load": torch.load,
        "filters": list(warnings.filters),
        "argv": list(sys.argv),
        "environ": dict(os.environ),
        "ray": sorted(name for name in sys.modules if name.partition(".")[0] == "ray"),
    }


def test_row_1_numpy_aliases(pristine: None) -> None:
    with without(1), pytest.raises(AttributeError, match="float_"):
        make_config()
    delattr(np, "int")  # all that Config came to set before it failed
    before = numpy_names()
    with compat():
        assert make_config()["model"] == "SASRec"
        assert vars(np)["float"] is np.float64
    assert numpy_names() == before
    assert "float" not in before


@pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")
def test_row_2_checkpoints_are_loaded_for_recbole_only() -> None:
    import torch

    with compat():
        parts = make_trainer()
        parts.trainer._save_checkpoint(0, verbose=False)
        result = parts.trainer.evaluate(parts.test, load_best_model=True)
        assert "ndcg@3" in result
        parts.trainer.resume_checkpoint(parts.trainer.saved_model_file)
        with pytest.raises(pickle.UnpicklingError):
            torch.load(parts.trainer.saved_model_file)
    with without(2), pytest.raises(pickle.UnpicklingError):
        parts.trainer.evaluate(parts.test, load_best_model=True)


def test_row_3_empty_cells_become_empty_sequences() -> None:
    with without(3), pytest.raises(AttributeError, match="split"):
        features()
    with compat():
        dataset = features()
    tokens = dataset.field2id_token
    row = list(tokens["item_id"]).index("i3")
    assert len(dataset.item_feat["class"][row]) == 0
    row = list(tokens["item_id"]).index("i2")
    assert [tokens["class"][index] for index in dataset.item_feat["class"][row]] == ["c", "a", "b"]
    assert dataset.item_feat["sizes"][row].tolist() == [4.0, 5.0, 6.0]


def test_row_4_missing_features_are_filled() -> None:
    keep = {"filter_inter_by_user_or_item": False}
    with without(4):
        broken = features(**keep)
        assert broken.user_feat["age"].isna().any()
        assert broken.item_feat["price"].isna().any()
        broken._change_feat_format()
        assert broken.user_feat["age"].min() == -(2**63)
    with compat():
        dataset = features(**keep)
        ids = list(dataset.field2id_token["item_id"])
        assert dataset.item_feat["price"][ids.index("i5")] == pytest.approx(np.mean([0.5, 1.5, 4, 2, 2]))
        dataset._change_feat_format()
    # padding, u1 ("old" is the first token), u2 without features
    assert dataset.user_feat["age"].tolist() == [0, 1, 0]


def test_row_5_sequences_keep_their_lengths() -> None:
    import pandas

    with without(5), pytest.raises(ValueError, match="Length of values"):
        features()
    with compat():
        dataset = features(normalize_field=["sizes"])
        series = pandas.Series([[1, 2], [3], [4]])
        assert series.agg(len) == 3, "calls from outside RecBole must keep pandas' meaning"
        assert series.agg("count") == 3
    ids = list(dataset.field2id_token["item_id"])
    sizes = dataset.item_feat["sizes"][ids.index("i2")]
    np.testing.assert_allclose(sizes, (np.array([4, 5, 6]) - 1) / 6)


def test_row_5_benchmark_files_get_per_row_lengths(folder: Path) -> None:
    for part in ("train", "valid", "test"):
        (folder / "tiny" / f"tiny.{part}.inter").write_text(
            "user_id:token\titem_id_list:token_seq\titem_id:token\nu1\ti0 i1 i2\ti3\nu2\ti0\ti1\n",
            encoding="utf-8",
        )
    settings = {
        "benchmark_filename": ["train", "valid", "test"],
        "alias_of_item_id": ["item_id_list"],
        "load_col": {"inter": ["user_id", "item_id_list", "item_id"]},
    }
    with compat():
        dataset = make_dataset(**settings)
    assert dataset.inter_feat["item_length"].tolist() == [3, 1, 3, 1, 3, 1]


def test_row_6_no_pandas_warnings() -> None:
    kinds = ("Pandas4Warning", "ChainedAssignmentError")
    with recorded() as log, without(6):
        features()
    assert named(log, "Pandas4Warning")
    assert named(log, "ChainedAssignmentError")
    with recorded() as log, compat():
        features()
    assert not named(log, *kinds)


def test_row_7_no_scaler_warning() -> None:
    with compat():
        parts = make_trainer()
    with recorded() as log, without(7):
        parts.trainer._train_epoch(parts.train, 0)
    assert any("GradScaler" in message for message in named(log, "FutureWarning"))
    with recorded() as log, compat():
        loss = parts.trainer._train_epoch(parts.train, 0)
    assert np.isfinite(loss)
    assert not named(log, "FutureWarning")


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_row_8_tensors_do_not_share_memory_with_the_frame() -> None:
    with compat():
        dataset = make_dataset()
    frame = dataset.inter_feat[["user_id", "item_id"]]
    before = frame["item_id"].to_list()

    def overwrite() -> list[int]:
        tensor = dataset._dataframe_to_interaction(frame)["item_id"]
        assert tensor.tolist() == frame["item_id"].to_list()
        tensor[0] = 99
        changed: list[int] = frame["item_id"].to_list()
        return changed

    with compat():
        assert overwrite() == before
    with without(8):
        assert overwrite() != before


def test_row_9_descending_sort() -> None:
    import torch
    from recbole.data.interaction import Interaction

    def table() -> Any:
        return Interaction({"a": torch.tensor([1, 3, 1, 2]), "b": torch.tensor([0.5, 0.1, 0.7, 0.2])})

    with without(9), recorded() as log:
        table().sort("a")
        with pytest.raises(ValueError, match="stride"):
            table().sort("a", ascending=False)
    assert any("__array_wrap__" in message for message in named(log, "DeprecationWarning"))
    with compat(), recorded() as log:
        down, both, up = table(), table(), table()
        down.sort("a", ascending=False)
        both.sort(by=["a", "b"], ascending=[True, False])
        up.sort(by=["a", "b"])
        with pytest.raises(ValueError, match="not exist"):
            table().sort("c")
        with pytest.raises(ValueError, match="same length"):
            table().sort(["a", "b"], ascending=[True, True, True])
    assert down["a"].tolist() == [3, 2, 1, 1]
    assert both["b"].tolist() == pytest.approx([0.7, 0.5, 0.2, 0.1])
    assert up["b"].tolist() == pytest.approx([0.5, 0.7, 0.2, 0.1])
    assert not log


def test_row_10_rank_time_keeps_the_order_of_events() -> None:
    def last_items(**options: bool) -> list[str]:
        with compat(**options):
            parts = make_trainer()
        frame = parts.test._dataset.inter_feat
        return [parts.dataset.field2id_token["item_id"][index] for index in frame["item_id"]]

    # float32 cannot tell the times apart, which leaves the order of the file.
    assert last_items() == ["i5", "i6"]
    assert last_items(rank_time=True) == ["i0", "i1"]


@pytest.mark.parametrize(
    "eval_args",
    [
        {"split": {"TS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "user"},
        {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": None},
    ],
    ids=["TS", "RS-ungrouped"],
)
def test_row_10_refuses_splits_across_users(eval_args: dict[str, Any]) -> None:
    with compat(rank_time=True), pytest.raises(ConfigError, match=r"different users.*rank_time=False"):
        make_trainer("BPR", eval_args=eval_args)


def test_row_11_command_line_is_not_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    argv = ["pytest", "--learning_rate=0.5", "-q"]
    monkeypatch.setattr(sys, "argv", argv)
    with without(11):
        assert make_config()["learning_rate"] == 0.5
    with compat():
        assert make_config()["learning_rate"] == 0.001
        assert sys.argv is argv
    assert argv == ["pytest", "--learning_rate=0.5", "-q"]


@pytest.mark.filterwarnings("ignore:torch.sparse.SparseTensor")
def test_row_12_graph_baselines_build_their_adjacency() -> None:
    with without(12), pytest.raises(AttributeError, match="_update"):
        make_trainer("LightGCN", embedding_size=4, n_layers=1)
    with compat():
        parts = make_trainer("LightGCN", embedding_size=4, n_layers=1)
        adjacency = parts.network.get_norm_adj_mat().to_dense()
        loss = parts.network.calculate_loss(next(iter(parts.train))).item()
    assert loss > 0
    # D^-1/2 A D^-1/2 of the training edges, from their list.
    size, users = len(adjacency), parts.network.n_users
    expected = np.zeros((size, size))
    edges = parts.train._dataset.inter_feat
    for user, item in zip(edges["user_id"].tolist(), edges["item_id"].tolist(), strict=True):
        expected[user, users + item] = expected[users + item, user] = 1
    degree = np.maximum(expected.sum(1), 1e-7)
    np.testing.assert_allclose(adjacency, expected / np.sqrt(np.outer(degree, degree)), atol=1e-5)


@pytest.mark.skipif(installed("ray"), reason="ray is installed, so nothing has to stand in for it")
def test_row_13_quick_start_imports_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("recbole.quick_start")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ModuleNotFoundError, match="ray"):
        importlib.import_module("recbole.quick_start")
    with compat():
        quick_start = importlib.import_module("recbole.quick_start.quick_start")
        with compat():
            assert "ray.tune" in sys.modules
        assert "ray.tune" in sys.modules
    assert not [name for name in sys.modules if name.partition(".")[0] == "ray"]
    with pytest.raises(MissingDependencyError, match="run_recbole"):
        quick_start.tune.report(score=1.0)


@pytest.mark.skipif(installed("thop"), reason="thop is installed, so operations are counted")
def test_row_14_operations_are_not_counted_without_thop() -> None:
    with compat():
        from recbole.data.transform import construct_transform
        from recbole.quick_start import quick_start

        parts = make_trainer()
        transform = construct_transform(parts.config)
        arguments = (parts.network, parts.dataset, "cpu", logging.getLogger("flops"), transform)
        assert np.isnan(quick_start.get_flops(*arguments))
    with without(14), pytest.raises(ModuleNotFoundError, match="thop"):
        quick_start.get_flops(*arguments)


@pytest.mark.parametrize("before", [None, "3"])
def test_row_15_visible_devices_come_back(before: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "CUDA_VISIBLE_DEVICES"
    monkeypatch.delenv(name, raising=False)
    if before is not None:
        monkeypatch.setenv(name, before)
    with compat():
        make_config()
        assert os.environ[name] == "0"
    assert os.environ.get(name) == before
    with without(15):
        make_config()
    assert os.environ[name] == "0"


def test_row_16_yaml_keeps_its_rules(pristine: None) -> None:
    import yaml

    def parsed() -> Any:
        return yaml.load("1e-3", Loader=yaml.FullLoader)

    assert parsed() == "1e-3"
    with compat():
        make_config()
        assert parsed() == 0.001
    assert parsed() == "1e-3"
    with without(16):
        make_config()
    assert parsed() == 0.001


def test_row_17_anomaly_mode_is_given_back(python: Callable[[str, Path], str], tmp_path: Path) -> None:
    program = """
        import torch
        from contextlib import ExitStack
        from nearfar.interop.recbole import ROWS
        with ExitStack() as scope:
            for row in ROWS:
                if row.number != {left_out}:
                    scope.enter_context(row.repair())
            import recbole.model.sequential_recommender
            print(torch.is_anomaly_enabled())
        print(torch.is_anomaly_enabled())
    """
    assert python(program.format(left_out=0), tmp_path).split() == ["True", "False"]
    assert python(program.format(left_out=17), tmp_path).split() == ["True", "True"]


def test_every_row_has_a_test_and_a_symptom() -> None:
    tested = {int(match[1]) for name in globals() if (match := re.match(r"test_row_(\d+)_", name))}
    numbers = [row.number for row in ROWS]
    assert len(numbers) == len(set(numbers))
    assert tested == {10, *numbers}
    for row in ROWS:
        assert (row.repair.__doc__ or "").startswith(f"Row {row.number}: ")


def test_scope_leaves_nothing_behind() -> None:
    with compat():
        make_trainer()  # imports what is imported late; torch's optimisers set a variable of their own

    def work() -> None:
        with compat():
            make_config("LightGCN", embedding_size=4, n_layers=1)
            with compat(rank_time=True):
                make_trainer()
            make_trainer()
            raise ZeroDivisionError

    before = snapshot()
    with pytest.raises(ZeroDivisionError):
        work()
    after = snapshot()
    for name, value in before.items():
        assert after[name] == value, name


def test_one_batch_and_one_evaluation_on_movielens(folder: Path) -> None:
    target = folder / "tiny" / "tiny.inter"
    source = packaged_dataset() / "ml-100k.inter"
    lines = source.read_text(encoding="utf-8").splitlines()
    events = [line for line in lines[1:] if int(line.split("\t")[0]) <= 12]
    target.write_text("\n".join([lines[0], *events]) + "\n", encoding="utf-8")
    with recorded() as log, compat(rank_time=True):
        parts = make_trainer(MAX_ITEM_LIST_LENGTH=20, train_batch_size=64, learning_rate=0.01)
        batch, losses = next(iter(parts.train)), []
        for _ in range(8):
            loss = parts.network.calculate_loss(batch)
            parts.trainer.optimizer.zero_grad()
            loss.backward()
            parts.trainer.optimizer.step()
            losses.append(float(loss.detach()))
        result = parts.trainer.evaluate(parts.test, load_best_model=False)
    assert losses[-1] < losses[0]
    assert set(result) == {"recall@3", "mrr@3", "ndcg@3", "hit@3", "precision@3"}
    assert all(0 <= value <= 1 for value in result.values())
    assert not named(log, "Pandas4Warning", "ChainedAssignmentError", "FutureWarning", "UserWarning")


def test_run_recbole_and_load_data_and_model(python: Callable[[str, Path], str], folder: Path) -> None:
    # A process of its own: run_recbole sets up the root logger, colorama and the seeds for good.
    out = python(
        """
        import sys
        from pathlib import Path
        from nearfar.interop.recbole import compat
        settings = dict(data_path=".", checkpoint_dir="saved", show_progress=False, epochs=1, hidden_size=8,
                        inner_size=8, n_layers=1, train_neg_sample_args=None, topk=[3],
                        valid_metric="MRR@3", load_col=dict(inter=["user_id", "item_id", "timestamp"]))
        with compat():
            from recbole.quick_start import load_data_and_model, run_recbole
            result = run_recbole(model="SASRec", dataset="tiny", config_dict=settings)
            checkpoint, = Path("saved").glob("*.pth")
            config, model, *_ = load_data_and_model(str(checkpoint))
        print(sorted(result["test_result"]), config["model"], type(model).__name__, "ray" in sys.modules)
        """,
        folder,
    )
    assert out.splitlines()[-1] == (
        "['hit@3', 'mrr@3', 'ndcg@3', 'precision@3', 'recall@3'] SASRec SASRec False"
    )


def test_rank_timestamps_is_the_stable_order_of_each_user() -> None:
    rng = np.random.default_rng(0)
    users = rng.integers(0, 7, 500).astype(str)
    times = START + rng.integers(0, 40, 500)
    ranks = rank_timestamps(users, times)
    for user in np.unique(users):
        rows = np.flatnonzero(users == user)
        expected = sorted(rows, key=lambda row: times[row])
        assert [int(row) for row in rows[np.argsort(ranks[rows])]] == [int(row) for row in expected]
        assert sorted(ranks[rows]) == list(range(len(rows)))


def test_rank_timestamps_measures_the_damage_on_movielens() -> None:
    table = np.loadtxt(packaged_dataset() / "ml-100k.inter", skiprows=1, dtype=np.int64)
    users, times = table[:, 0], table[:, 3]
    exact = rank_timestamps(users, times)
    rounded = rank_timestamps(users, times.astype(np.float32).astype(np.float64))
    last = exact == np.bincount(users)[users] - 1
    assert last.sum() == 943
    assert np.mean(exact != rounded) == pytest.approx(0.466, abs=5e-4)
    assert np.mean(rounded[last] != exact[last]) == pytest.approx(0.158, abs=5e-4)
    assert np.array_equal(exact.astype(np.float32).astype(np.int64), exact)


@pytest.mark.parametrize(
    ("users", "times", "message"),
    [
        (np.zeros(3), np.zeros(2), r"\(3,\) and \(2,\)"),
        (np.zeros((2, 2)), np.zeros((2, 2)), "1-D"),
        (np.zeros(2), np.zeros(2, np.float32), "float32.*int64 or float64"),
        (np.zeros(2), np.array(["a", "b"]), "dtype <U1"),
        (np.zeros(3), np.array([1.0, np.nan, 2.0]), r"timestamps\[1\] is nan"),
    ],
)
def test_rank_timestamps_refuses(users: Any, times: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        rank_timestamps(users, times)


def test_rank_timestamps_of_nothing() -> None:
    assert rank_timestamps(np.zeros(0), np.zeros(0)).tolist() == []


def test_packaged_dataset_is_found_without_importing(
    python: Callable[[str, Path], str], folder: Path
) -> None:
    out = python(
        """
        import sys
        import nearfar.interop.recbole
        heavy = {"recbole", "pandas", "torch", "scipy", "yaml"}
        folder = nearfar.interop.recbole.packaged_dataset("ml-100k")
        print((folder / "ml-100k.inter").is_file(), sorted(heavy & set(sys.modules)))
        """,
        folder,
    )
    assert out == "True []\n"


@pytest.mark.parametrize("name", ["ml-1m", "", "..", "../data"])
def test_packaged_dataset_lists_what_there_is(name: str) -> None:
    with pytest.raises(DataError, match=rf"{re.escape(repr(name))}; available: ml-100k"):
        packaged_dataset(name)


def test_without_recbole_the_message_has_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "recbole", None)
    with pytest.raises(MissingDependencyError, match=r"--no-deps recbole==1\.2\.1"):
        packaged_dataset()
    with pytest.raises(MissingDependencyError, match=r"--no-deps recbole==1\.2\.1"), compat():
        pass


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearfar.interop.recbole.version", lambda _: "1.1.1")
    with pytest.raises(ConfigError, match=r"1\.1\.1 is installed.*recbole==1\.2\.1"), compat():
        pass
