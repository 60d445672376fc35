"""Histories of users and the state behind their last item."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nearfar.adapters import SequenceInputs, SequenceRepresentation, Sequences, representations
from nearfar.augment.sequences import two_views
from nearfar.errors import ConfigError, DataError
from nearfar.recsys.retrieval import user_vectors
from nearfar.recsys.sasrec.encoder import SASRecEncoder
from nearfar.recsys.windows import pad_histories
from nearfar.runtime import generator, to_device

HISTORIES = [[3, 1, 4, 1, 5], [9], [2, 6, 5, 3, 5, 8, 9, 7], [9, 3]]


def test_rows_are_padded_as_the_recommenders_have_them() -> None:
    inputs = SequenceInputs(HISTORIES, max_length=6)
    index = torch.tensor([3, 0])
    items, lengths = inputs.rows(index)
    expected = pad_histories([np.array(HISTORIES[i]) for i in index.tolist()], 6)
    assert torch.equal(items, expected[0])
    assert torch.equal(lengths, expected[1])
    assert inputs.rows(torch.tensor([2])).items.tolist() == [[5, 3, 5, 8, 9, 7]]  # the newest


def test_views_are_those_of_the_core_and_leave_the_batch_alone() -> None:
    inputs = SequenceInputs(HISTORIES, crop_ratio=0.25)
    batch = inputs.rows(torch.arange(4))
    before = batch.items.clone()
    views = inputs.two_views(batch, generator(1, "views"))
    expected = two_views(batch.items, batch.lengths, generator(1, "views"), crop_ratio=0.25)
    for view, (items, lengths) in zip(views, expected, strict=True):
        assert isinstance(view, Sequences)
        assert torch.equal(view.items, items)
        assert torch.equal(view.lengths, lengths)
    assert not torch.equal(views[0].items, views[1].items)
    assert torch.equal(batch.items, before)
    assert inputs.mix(batch, torch.arange(4), torch.tensor(0.5)) is None


def test_batches_move_as_they_are() -> None:
    moved = to_device(SequenceInputs(HISTORIES).rows(torch.arange(2)), torch.device("meta"))
    assert isinstance(moved, Sequences)
    assert moved.lengths.device.type == "meta"


@pytest.mark.parametrize(
    ("histories", "message"),
    [
        ([], "histories: those of one user or more expected"),
        ([[1], []], r"histories\[1\]: one item index or more expected, numbered from 1"),
        ([[1, 0]], r"histories\[0\]: .* numbered from 1 \(0 is padding\), got \[1, 0\]"),
        ([[1.5]], r"histories\[0\]: one item index"),
        ([["a"]], r"histories\[0\]: a rectangular block of numbers"),
    ],
)
def test_histories_that_are_refused(histories: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        SequenceInputs(histories)


def test_settings_that_are_refused() -> None:
    with pytest.raises(ConfigError, match="max_length: at least 1 expected, got 0"):
        SequenceInputs(HISTORIES, 0)
    with pytest.raises(ConfigError, match=r"crop_ratio: a share in \[0, 1\] expected .* got 1"):
        SequenceInputs(HISTORIES, crop_ratio=1)
    with pytest.raises(ConfigError, match="mask_ratio: .* got -0.1"):
        SequenceInputs(HISTORIES, mask_ratio=-0.1)


def sasrec() -> SASRecEncoder:
    return SASRecEncoder(9, max_length=6, dim=8, inner_dim=16, generator=generator(0, "init"))


@pytest.mark.parametrize("size", [1, 2, 4])
def test_sasrec_end_to_end(size: int) -> None:
    scorer = sasrec()
    module = SequenceRepresentation(scorer)
    z = representations(module, SequenceInputs(HISTORIES, max_length=6), batch_size=size)
    expected = user_vectors(scorer.eval(), [np.array(history) for history in HISTORIES])
    torch.testing.assert_close(z, torch.from_numpy(expected), rtol=1e-4, atol=1e-5)
    assert module.dim == 8


def test_a_gradient_reaches_the_encoder() -> None:
    scorer, inputs = sasrec(), SequenceInputs(HISTORIES, max_length=6)
    first, _ = inputs.two_views(inputs.rows(torch.arange(4)), generator(0, "views"))
    SequenceRepresentation(scorer)(first).square().sum().backward()
    assert scorer.item.weight.grad is not None
    assert scorer.item.weight.grad[1:].abs().sum() > 0


def test_mclrec_end_to_end() -> None:
    """A trained method's ``scorer`` is what is represented with."""
    from nearfar.recsys.interactions import Interactions
    from nearfar.recsys.mclrec.config import MCLRecConfig
    from nearfar.recsys.mclrec.method import MCLRec
    from nearfar.recsys.split import leave_one_out

    users, items = np.repeat(np.arange(4), 6), np.tile(np.arange(6), 4)
    data = Interactions.from_columns(users, items, np.arange(24))
    method = MCLRec(MCLRecConfig(data="none", dim=8, inner_dim=16, max_length=4), leave_one_out(data))
    histories = [data.sequence(user) for user in range(4)]
    module = SequenceRepresentation(method.scorer)
    z = representations(module, SequenceInputs(histories, max_length=4))
    expected = user_vectors(method.scorer.eval(), histories)
    torch.testing.assert_close(z, torch.from_numpy(expected), rtol=1e-4, atol=1e-5)
    assert module.dim == 8


class Last(nn.Module):
    """RecBole's signature: states behind the last items."""

    hidden_size = 4

    def __init__(self) -> None:
        super().__init__()
        self.item = nn.Embedding(10, 4)

    def forward(self, item_seq: Tensor, item_seq_len: Tensor) -> Tensor:
        states = self.item(item_seq).cumsum(1)
        return torch.stack([row[length - 1] for row, length in zip(states, item_seq_len, strict=True)])


class Recurrent(nn.Module):
    """States of all positions, by torch's own layers."""

    def __init__(self) -> None:
        super().__init__()
        self.item, self.layer = nn.Embedding(10, 4), nn.GRU(4, 3, batch_first=True)

    def forward(self, items: Tensor) -> tuple[Tensor, Tensor]:
        states, last = self.layer(self.item(items))
        return states, last


def test_recboles_signature() -> None:
    model, inputs = Last(), SequenceInputs(HISTORIES)
    module = SequenceRepresentation(model)
    z = representations(module, inputs)
    expected = torch.stack([model.item.weight[history].sum(0) for history in HISTORIES])
    torch.testing.assert_close(z, expected.detach())
    assert module.dim == 4


def test_states_of_all_positions() -> None:
    model = Recurrent()
    z = representations(SequenceRepresentation(model), SequenceInputs(HISTORIES))
    for row, history in enumerate(HISTORIES):
        states, _ = model(torch.tensor([history]))
        torch.testing.assert_close(z[row], states[0, -1].detach())


def test_models_that_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Flatten has to give \(B, m\) or \(B, L, m\), got \(8,\)"):
        SequenceRepresentation(nn.Flatten(0))(Sequences(torch.ones(2, 4).long(), torch.tensor([4, 2])))
