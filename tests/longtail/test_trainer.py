"""The trainer around encoders of all kinds of rows."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nearfar.adapters import (
    FeatureInputs,
    ImageInputs,
    NodeInputs,
    NodeRepresentation,
    SequenceInputs,
    SequenceRepresentation,
    SeriesInputs,
    SeriesRepresentation,
)
from nearfar.encoders import MLP, SmallCNN
from nearfar.errors import ConfigError, DataError
from nearfar.longtail import SBCLTrainer
from nearfar.runtime import generator, initial_weights

pytest.importorskip("sklearn")

Make = Callable[..., Any]
NAMES = np.array(["ant", "bee", "cat"])
QUICK: dict[str, Any] = {
    "device": "cpu",
    "seed": 0,
    "epochs": 4,
    "batch_size": 16,
    "warmup_epochs": 1,
    "subclasses__every": 2,
    "subclasses__delta": 4,
    "dim": 4,
}


def mlp(seed: int = 0) -> MLP:
    return MLP(4, (16, 5), generator=generator(seed, "encoder"))


def through(encoder: nn.Module, rows: Any, labels: Any, **changes: Any) -> SBCLTrainer:
    """Every step anybody can ask for; weights move, nothing is NaN, sizes are equal."""
    made = SBCLTrainer(encoder, rows, labels, **{**QUICK, **changes})
    n = len(made.inputs)
    before = copy.deepcopy(encoder.state_dict())
    made.fit()
    after = copy.deepcopy(encoder.state_dict())
    assert any(not torch.equal(value, before[name]) for name, value in after.items())
    subclasses = made.subclasses_
    assert subclasses.shape == (n,)
    assert int(made.sizes_.sum()) == n
    assert (made.temperatures_ >= made.config.temperature).all()
    z = made.embed(rows)
    assert z.shape[0] == n
    assert bool(z.isfinite().all())
    odds = made.predict_proba(rows)
    np.testing.assert_allclose(odds.sum(1), 1, rtol=1e-5)
    assert made.predict(rows).tolist() == made.classes_[odds.argmax(1)].tolist()
    # The second stage has not touched the first.
    assert all(torch.equal(value, after[name]) for name, value in encoder.state_dict().items())
    assert not encoder.training
    return made


def test_features(blobs: Make) -> None:
    """Text labels; rows as a tensor, an array or inputs are the same."""
    x, y = blobs()
    answers = []
    for rows in (x, x.numpy(), FeatureInputs(x)):
        made = through(mlp(), rows, NAMES[y].tolist(), epochs=8)
        assert made.classes_.tolist() == NAMES.tolist()
        answers.append(made.predict_proba(x))
        assert (made.predict(x) == NAMES[y]).mean() > 0.9
    assert np.array_equal(answers[0], answers[1])
    assert np.array_equal(answers[0], answers[2])
    # Classes of 28, 8 and 4 rows: parts of at least 4.
    assert made.sizes_.tolist() == [4] * 7 + [4, 4] + [4]


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_images(norm: Any) -> None:
    x = torch.rand(40, 1, 8, 8, generator=generator(0, "x"))
    y = torch.tensor([0] * 28 + [1] * 8 + [2] * 4)
    encoder = SmallCNN(1, 8, norm=norm, generator=generator(0, "encoder"))
    through(encoder, ImageInputs(x, padding=1, flips=False), NAMES[y], copies=2, head__kind="crt")


class Channels(nn.Module):
    """A stand-in for tsai's models: channels first."""

    def __init__(self) -> None:
        super().__init__()
        with initial_weights(0):
            self.conv = nn.Conv1d(2, 6, 5)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.conv(x)
        return found


def test_series() -> None:
    x = torch.randn(40, 30, 2, generator=generator(0, "x"))
    encoder = SeriesRepresentation(Channels(), layout="NCT")
    through(encoder, SeriesInputs(x), NAMES[[0] * 28 + [1] * 8 + [2] * 4])


class Mean(nn.Module):
    """Node features averaged over edges, then a layer."""

    def __init__(self) -> None:
        super().__init__()
        with initial_weights(0):
            self.layer = nn.Linear(4, 6)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        source, target = edge_index
        found: Tensor = self.layer(x.index_add(0, target, x[source]))
        return found


def test_nodes_of_a_graph(blobs: Make) -> None:
    """Views are not tensors; some nodes have labels, and they alone are clustered."""
    x, y = blobs((40, 12, 8))
    edges = torch.randint(0, 60, (2, 150), generator=generator(0, "edges"))
    labelled = torch.arange(0, 60, 2)
    encoder = NodeRepresentation(Mean(), x, edges)
    inputs = NodeInputs(labelled, edges, num_features=4)
    made = through(encoder, inputs, NAMES[y[labelled]])
    assert made.embed(inputs).shape == (30, 6)


def test_sequences() -> None:
    """Histories of users, as recommenders have them."""
    rng = generator(0, "sequences")
    lengths = torch.randint(3, 9, (40,), generator=rng).tolist()
    histories = [torch.randint(1, 20, (length,), generator=rng).tolist() for length in lengths]
    inputs = SequenceInputs(histories, max_length=8)

    class Items(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            with initial_weights(0):
                self.table = nn.Embedding(21, 6, padding_idx=0)

        def forward(self, items: Tensor) -> Tensor:
            found: Tensor = self.table(items)
            return found

    through(SequenceRepresentation(Items()), inputs, NAMES[[0] * 28 + [1] * 8 + [2] * 4])


def test_a_state_goes_into_another_trainer(blobs: Make) -> None:
    """With its subclasses, temperatures and predictions."""
    x, y = blobs()
    made = through(mlp(), x, y)
    other = SBCLTrainer(mlp(3), x, y, **QUICK).load_state_dict(made.state_dict())
    assert torch.equal(other.subclasses_, made.subclasses_)
    assert torch.equal(other.temperatures_, made.temperatures_)
    assert np.array_equal(other.predict_proba(x), made.predict_proba(x))


def test_another_head(blobs: Make) -> None:
    """Fitted when asked for; settings of the call go before those of the trainer."""
    x, y = blobs()
    made = through(mlp(), x, y)
    first = made.predict_proba(x)
    assert not np.array_equal(made.fit_head(kind="nearest_mean").predict_proba(x), first)
    assert np.array_equal(made.fit_head().predict_proba(x), first)
    assert made.fit_head(kind="knn").predict(x).shape == (40,)


def test_what_is_refused(blobs: Make) -> None:
    x, y = blobs()
    with pytest.raises(DataError, match="labels: one for each of 40 rows expected, got 39"):
        SBCLTrainer(mlp(), x, y[1:], **QUICK)
    with pytest.raises(ConfigError, match="data: no setting of the estimator; give rows and labels"):
        SBCLTrainer(mlp(), x, y, data="digits")
    with pytest.raises(ConfigError, match="delta"):
        SBCLTrainer(mlp(), x, y, subclasses__delta=0)
    fresh = SBCLTrainer(mlp(), x, y, **QUICK)
    for name in ("subclasses_", "sizes_", "temperatures_"):
        with pytest.raises(DataError, match="none have been found yet"):
            getattr(fresh, name)
