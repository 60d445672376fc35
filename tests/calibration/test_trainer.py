"""The trainer around anybody's encoder: images, features, series, graphs, histories; what it keeps and refuses."""

from __future__ import annotations

import copy
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from nearfar.adapters import (
    DatasetInputs,
    FeatureInputs,
    ImageInputs,
    NodeInputs,
    NodeRepresentation,
    SequenceInputs,
    SequenceRepresentation,
    SeriesInputs,
    SeriesRepresentation,
    as_inputs,
    representations,
)
from nearfar.calibration.trainer import RCALTrainer
from nearfar.encoders import MLP, SmallCNN
from nearfar.errors import ConfigError, DataError
from nearfar.optional import PACKAGES, installed
from nearfar.runtime import generator, initial_weights

Make = Callable[..., Any]
NAMES = np.array(["ant", "bee", "cat"])
QUICK: dict[str, Any] = {
    "device": "cpu",
    "seed": 0,
    "epochs": 5,
    "batch_size": 8,
    "pretrain__epochs": 2,
    "pretrain__kind": "simclr",
    "pretrain__dim": 4,
    "gaussians__outlier": "knn",
    "gaussians__keep": 0.7,
    "head_lr": 0.1,
    "beta": 0.3,
    "milestones": (),
}


def mlp(seed: int = 0) -> MLP:
    return MLP(4, (16, 5), generator=generator(seed, "encoder"))


def through_both_stages(encoder: nn.Module, rows: Any, labels: Any, **changes: Any) -> RCALTrainer:
    """Every step anybody can ask for; weights move in both stages, nothing is NaN."""
    made = RCALTrainer(encoder, rows, labels, **{**QUICK, **changes})
    n = len(made.inputs)
    states = [copy.deepcopy(encoder.state_dict())]
    made.pretrain()
    states.append(copy.deepcopy(encoder.state_dict()))
    made.calibrate()
    suspects = made.suspect_labels_
    assert suspects.shape == (n,)
    assert torch.equal(made.method.anchor, representations(encoder, made.inputs))
    assert all(torch.equal(value, states[1][name]) for name, value in encoder.state_dict().items())
    made.fit()
    states.append(copy.deepcopy(encoder.state_dict()))
    assert np.array_equal(made.suspect_labels_, suspects)
    for before, after in zip(states, states[1:], strict=False):
        assert any(not torch.equal(value, before[name]) for name, value in after.items())
    assert all(bool(value.isfinite().all()) for value in states[-1].values())
    odds = made.predict_proba(rows)
    np.testing.assert_allclose(odds.sum(1), 1, rtol=1e-5)
    assert made.predict(rows).tolist() == made.classes_[odds.argmax(1)].tolist()
    assert not encoder.training
    return made


# Kinds of rows ---------------------------------------------------------------------------------------------------


def test_features(blobs: Make) -> None:
    """Text labels; rows as a tensor, an array or inputs are the same; enough epochs learn them."""
    x, y = blobs((30, 20, 10), gap=6.0)
    answers = []
    for rows in (x, x.numpy(), FeatureInputs(x)):
        made = through_both_stages(mlp(), rows, NAMES[y].tolist(), epochs=12)
        assert made.classes_.tolist() == NAMES.tolist()
        answers.append(made.predict_proba(x))
        assert (made.predict(x) == NAMES[y]).mean() > 0.9
    assert np.array_equal(answers[0], answers[1])
    assert np.array_equal(answers[0], answers[2])


def test_features_in_double_precision(blobs: Make) -> None:
    """What NumPy makes by itself goes into an encoder of float32 that does not convert."""
    x, y = blobs()
    with initial_weights(0):
        encoder = nn.Sequential(nn.Linear(4, 6), nn.ReLU())
    made = through_both_stages(encoder, x.double().numpy(), y)
    assert made.predict(x.double()).shape == (24,)


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("kind", ["simclr", "moco"])
def test_images(images: Make, norm: Any, kind: str) -> None:
    """A convolutional network, without and with statistics of a batch; grey and colour, bytes."""
    x, y = images(channels=3 if norm == "batch" else 1)
    encoder = SmallCNN(x.shape[1], 8, norm=norm, generator=generator(0, "encoder"))
    rows = ImageInputs((x * 255).to(torch.uint8).clamp(max=255), padding=1, flips=False)
    through_both_stages(encoder, rows, NAMES[y], pretrain__kind=kind, pretrain__queue=16)


class Series(nn.Module):
    """A stand-in for tsai's models: channels first, a backbone and a head that is not asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.head_nf = 6
        with initial_weights(0):
            self.backbone = nn.Sequential(nn.Conv1d(2, 6, 3, padding=1), nn.BatchNorm1d(6), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """Not called."""
        raise AssertionError("the head is not asked for")


def series(n: int = 24) -> tuple[Tensor, Tensor]:
    y = torch.arange(n) % 3
    time = torch.linspace(0, 6, 30)
    waves = torch.sin(time[None] * (1 + y[:, None]))
    x = torch.stack([waves, waves.roll(3, 1)], 2)
    return x + 0.1 * torch.randn(x.shape, generator=generator(0, "series")), y


def test_series() -> None:
    """Arrays of three axes are series, (N, T, F)."""
    x, y = series()
    made = through_both_stages(SeriesRepresentation(Series(), pooling="mean"), x, NAMES[y])
    assert isinstance(made.inputs, SeriesInputs)


@pytest.mark.interop
def test_a_model_of_tsai() -> None:
    """In a process of its own: importing tsai changes what is loaded for all that follow."""
    if not installed("tsai"):
        pytest.skip(f"needs tsai: {PACKAGES['tsai'].command}")
    code = """
        import torch
        from nearfar.adapters import SeriesRepresentation
        from nearfar.calibration.trainer import RCALTrainer
        from nearfar.interop.tsai import load
        from nearfar.runtime import generator, initial_weights
        x = torch.randn(16, 20, 3, generator=generator(0, "x"))
        with initial_weights(0):
            model = load("tsai.models.FCNPlus").FCNPlus(3, 2)
        encoder = SeriesRepresentation(model, pooling="mean")
        y = ["up", "down"] * 8
        made = RCALTrainer(encoder, x, y, epochs=2, pretrain__epochs=1, batch_size=8, device="cpu")
        made.pretrain().calibrate().fit()
        print(made.predict(x).shape, made.method.head.in_features, made.suspect_labels_.shape)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "(16,) 128 (16,)"


@pytest.mark.skipif(
    not installed("torch_geometric"), reason=f"needs PyG: {PACKAGES['torch_geometric'].command}"
)
def test_nodes_of_a_graph(blobs: Make) -> None:
    """PyG's GCN on all nodes, labels of some; representations are mixed where nodes cannot be."""
    from torch_geometric.nn import GCN

    x, y = blobs((20, 12, 8))
    here = torch.arange(40)
    edges = torch.stack([here, (here + 1) % 40])
    edges = torch.cat([edges, edges.flip(0)], 1)
    with initial_weights(0):
        encoder = NodeRepresentation(GCN(4, 8, num_layers=2, out_channels=5), x, edges)
    labelled = torch.arange(0, 40, 2)
    inputs = NodeInputs(labelled, edges, num_features=4)
    made = through_both_stages(encoder, inputs, NAMES[y[labelled]])
    assert made.predict(NodeInputs(40, edges)).shape == (40,)


def test_histories_of_users() -> None:
    """A SASRec encoder; labels of users."""
    from nearfar.recsys.sasrec.encoder import SASRecEncoder

    rng = np.random.default_rng(0)
    histories = [
        rng.integers(1 + 3 * (user % 3), 5 + 3 * (user % 3), rng.integers(2, 9)) for user in range(24)
    ]
    scorer = SASRecEncoder(12, max_length=8, dim=8, inner_dim=16, generator=generator(0, "init"))
    inputs = SequenceInputs(histories, max_length=8)
    made = through_both_stages(SequenceRepresentation(scorer), inputs, NAMES[np.arange(24) % 3])
    assert made.method.head.in_features == 8


def test_a_dataset_of_torch(blobs: Make) -> None:
    """With views of its user; without them there is no stage one, and that is said."""
    x, y = blobs()
    data = TensorDataset(x, y)

    def two_views(batch: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        first, second = (batch + 0.3 * torch.randn(batch.shape, generator=rng) for _ in range(2))
        return first, second

    through_both_stages(mlp(), DatasetInputs(data, two_views=two_views), y)
    plain = RCALTrainer(mlp(), data, y, **QUICK)
    with pytest.raises(ConfigError, match="two_views: DatasetInputs has no views to contrast"):
        plain.pretrain()
    assert plain.fit().predict(data).shape == (24,)


def test_what_rows_are(images: Make) -> None:
    """By the number of axes; a list is an array."""
    assert isinstance(as_inputs([[1.0, 2.0]]), FeatureInputs)
    assert isinstance(as_inputs(np.zeros((2, 3, 4))), SeriesInputs)
    assert isinstance(as_inputs(images()[0]), ImageInputs)
    assert isinstance(as_inputs(TensorDataset(torch.zeros(2, 3))), DatasetInputs)
    inputs = FeatureInputs([[1.0]])
    assert as_inputs(inputs) is inputs
    for axes in (0, 1, 5):
        with pytest.raises(DataError, match=rf"rows: \(N, m\), .* expected, got {axes} axes"):
            as_inputs(np.zeros((2,) * axes))


# Stages ----------------------------------------------------------------------------------------------------------


def test_fit_alone_calibrates_the_encoder_as_it_is(blobs: Make) -> None:
    """The same as calibrate() and fit(); stage one's epochs are not made."""
    x, y = blobs()
    encoder = mlp()
    z = representations(encoder, FeatureInputs(x))
    made = RCALTrainer(encoder, x, y, **QUICK).fit()
    assert torch.equal(made.method.anchor, z)
    assert made.fit_result_.steps == 3 * (QUICK["epochs"] - QUICK["pretrain__epochs"])
    other = RCALTrainer(mlp(), x, y, **QUICK).calibrate().fit()
    assert np.array_equal(made.predict_proba(x), other.predict_proba(x))


def test_stages_one_by_one_are_the_method_in_one_go(blobs: Make) -> None:
    """Stage one of the trainer is that of a run: same rows, same draws, same weights."""
    from nearfar.calibration.rcal.batches import StageBatches
    from nearfar.calibration.rcal.method import RCAL
    from nearfar.runtime import Runtime
    from nearfar.training import fit

    x, y = blobs()
    made = RCALTrainer(mlp(), x, y, **QUICK).pretrain()
    config = made.config.model_copy(update={"epochs": 2})
    method = RCAL(config, mlp(), FeatureInputs(x), y, 3)
    fit(
        method,
        StageBatches(method.inputs, y, config),
        config=config,
        runtime=Runtime.start("cpu"),
        quiet=True,
    )
    state = method.encoder.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in made.method.encoder.state_dict().items())


def test_the_same_seed_is_the_same_answer(blobs: Make) -> None:
    """And another one is not."""
    x, y = blobs()
    answers = [
        RCALTrainer(mlp(), x, y, **{**QUICK, "seed": seed}).pretrain().fit().predict_proba(x)
        for seed in (0, 0, 1)
    ]
    assert np.array_equal(answers[0], answers[1])
    assert not np.array_equal(answers[0], answers[2])


def test_calibrating_again_takes_the_encoder_as_it_is_then(blobs: Make) -> None:
    """Representations, mask and Gaussians are new."""
    x, y = blobs()
    encoder = mlp()
    made = RCALTrainer(encoder, x, y, **QUICK).calibrate()
    first, gaussians = made.method.anchor.clone(), made.gaussians_
    made.fit().calibrate()
    assert not torch.equal(made.method.anchor, first)
    assert made.gaussians_ is not gaussians
    assert torch.equal(made.method.anchor, representations(encoder, FeatureInputs(x)))


def test_stage_one_after_calibration_is_calibrated_anew(blobs: Make) -> None:
    """Nobody wants to be held to representations from before stage one."""
    x, y = blobs()
    encoder = mlp()
    made = RCALTrainer(encoder, x, y, **QUICK).calibrate().pretrain()
    z = representations(encoder, FeatureInputs(x))
    made.fit()
    assert torch.equal(made.method.anchor, z)


def test_state_there_and_back(blobs: Make) -> None:
    """Weights, anchor and mask; the other trainer predicts and goes on the same."""
    x, y = blobs()
    made = RCALTrainer(mlp(), x, y, **QUICK).pretrain().fit()
    state = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    assert all(isinstance(tensor, Tensor) for tensor in state.values())
    other = RCALTrainer(mlp(7), x, y, **QUICK).load_state_dict(state)
    assert np.array_equal(other.predict_proba(x), made.predict_proba(x))
    assert np.array_equal(other.suspect_labels_, made.suspect_labels_)
    assert torch.equal(other.gaussians_.calibrated_means_, made.gaussians_.calibrated_means_)
    assert np.array_equal(other.fit().predict_proba(x), made.fit().predict_proba(x))
    untouched = RCALTrainer(mlp(), x, y, **QUICK)
    fresh = RCALTrainer(mlp(7), x, y, **QUICK).load_state_dict(untouched.state_dict())
    with pytest.raises(DataError, match="nothing is calibrated yet"):
        _ = fresh.gaussians_


def test_planted_wrong_labels_are_suspect(blobs: Make) -> None:
    """A third of the labels of one class are another's."""
    x, y = blobs((60, 40, 30), gap=6.0)
    given = y.clone()
    wrong = (y == 0).nonzero()[:20, 0]
    given[wrong] = 1
    made = RCALTrainer(nn.Flatten(), x, given, **{**QUICK, "gaussians__keep": 0.66}).calibrate()
    assert made.suspect_labels_[wrong].mean() > 0.9


def test_a_head_of_ones_own(blobs: Make) -> None:
    """It is trained in place, with momentum of its own on draws."""
    x, y = blobs()
    with initial_weights(0):
        head = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))
    before = copy.deepcopy(head.state_dict())
    made = RCALTrainer(mlp(), x, y, head=head, **QUICK).fit()
    assert made.method.head is head
    assert all(not torch.equal(value, before[name]) for name, value in head.state_dict().items())


# Labels and errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names", [["a", "b", "c"], [(1, 2), (1, 3), "x"], [10, 20, 35]], ids=["text", "mixed", "numbers"]
)
def test_labels_of_any_type(blobs: Make, names: list[Any]) -> None:
    """They come back as they were given."""
    x, y = blobs()
    made = RCALTrainer(mlp(), x, [names[k] for k in y.tolist()], **QUICK).fit()
    assert set(made.classes_.tolist()) == set(names)
    assert set(made.predict(x).tolist()) <= set(names)


@pytest.mark.row("B06", odd_inputs=1)
def test_one_class_and_classes_of_one_row(blobs: Make) -> None:
    """Neither is a reason to stop."""
    x, _ = blobs()
    assert RCALTrainer(mlp(), x, ["only"] * 24, **QUICK).fit().predict(x).tolist() == ["only"] * 24
    lonely = [str(max(0, row - 20)) for row in range(24)]
    made = RCALTrainer(mlp(), x, lonely, **QUICK).pretrain().fit()
    assert made.classes_.tolist() == ["0", "1", "2", "3"]
    assert np.isfinite(made.predict_proba(x)).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"betta": 1.0}, "betta"),
        ({"beta": -1.0}, "beta"),
        ({"gaussians__outlier": "lov"}, "gaussians.outlier"),
        ({"pretrain__epochs": 6}, "pretrain.epochs: at most epochs=5"),
        ({"data": "digits"}, "data: no setting of the estimator; give rows and labels to the trainer"),
        ({"noise__rate": 0.1}, "noise.rate: no setting of the estimator"),
        ({"output_dir": "x"}, "output_dir: no setting of the estimator; nothing is written"),
        ({"device": "abacus"}, "device"),
    ],
)
def test_settings_that_cannot_be(blobs: Make, changes: dict[str, Any], message: str) -> None:
    """Named, at once."""
    x, y = blobs()
    with pytest.raises(ConfigError, match=message):
        RCALTrainer(mlp(), x, y, **{**QUICK, **changes})


def test_rows_and_labels_that_do_not_go_together(blobs: Make) -> None:
    """Lengths, missing labels, features that are not finite."""
    x, y = blobs()
    with pytest.raises(DataError, match="labels: one for each of 24 rows expected, got 23"):
        RCALTrainer(mlp(), x, y[:-1], **QUICK)
    with pytest.raises(DataError, match="None in row 3 is no label"):
        RCALTrainer(mlp(), x, [*y.tolist()[:3], None, *y.tolist()[4:]], **QUICK)
    x[5, 2] = torch.nan
    with pytest.raises(DataError, match=r"features.*nan"):
        RCALTrainer(mlp(), x, y, **QUICK)


def test_encoders_that_are_none(blobs: Make) -> None:
    """A wrong shape is said with the shape that is expected."""
    x, y = blobs()

    class Lost(nn.Module):
        """Gives one number a row."""

        def forward(self, batch: Tensor) -> Tensor:
            """Shape ``(B,)``."""
            return batch.sum(1)

    with pytest.raises(ValueError, match=r"encoder: Lost has to make shape \(1, m\) of 1 rows"):
        RCALTrainer(Lost(), x, y, **QUICK)


def test_too_early(blobs: Make) -> None:
    """Each message says what to call, or what to set."""
    x, y = blobs()
    made = RCALTrainer(mlp(), x, y, **QUICK)
    for name in ("gaussians_", "suspect_labels_"):
        with pytest.raises(DataError, match=r"nothing is calibrated yet; call calibrate\(\) or fit\(\)"):
            getattr(made, name)
    none = RCALTrainer(mlp(), x, y, **{**QUICK, "pretrain__epochs": 0})
    with pytest.raises(ConfigError, match="pretrain.epochs: 0 epochs are none"):
        none.pretrain()
    assert none.fit().fit_result_.steps == 15


def test_rows_of_a_dataset_that_lies_are_not_silent(blobs: Make) -> None:
    """NaN in a row of a dataset is found when representations are kept."""
    x, y = blobs()

    class Broken(Dataset[Tensor]):
        """One row is not finite."""

        def __len__(self) -> int:
            return 24

        def __getitem__(self, index: int) -> Tensor:
            row: Tensor = x[index] * (torch.nan if index == 7 else 1.0)
            return row

    with pytest.raises(DataError, match="representations: row 7 is not finite"):
        RCALTrainer(mlp(), Broken(), y, **QUICK).fit()
