"""The encoder's exact properties: position-parallel training, causality, padding, masked items."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.recsys import LeaveOneOut, SASRec, SASRecConfig
from nearfar.recsys.sasrec import SASRecEncoder
from nearfar.recsys.sasrec.loss import next_item_loss
from nearfar.recsys.windows import SequenceBatch, WindowBatches
from nearfar.runtime import Runtime


def encoder(num_items: int = 30, dropout: float = 0.0) -> SASRecEncoder:
    torch_encoder = SASRecEncoder(
        num_items,
        max_length=12,
        dim=16,
        inner_dim=32,
        dropout=dropout,
        attention_dropout=dropout,
        generator=torch.Generator().manual_seed(0),
    ).double()
    with torch.no_grad():  # larger weights than at the start of training: nothing hides in the noise
        for parameter in torch_encoder.parameters():
            parameter.mul_(5)
    return torch_encoder


def random_rows(count: int = 9, width: int = 10) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    lengths = torch.randint(2, width + 1, (count,), generator=rng)
    lengths[0] = width
    items = torch.randint(1, 31, (count, width), generator=rng) * (torch.arange(width) < lengths[:, None])
    return items, lengths


def test_position_parallel_loss_is_the_prefix_row_loss() -> None:
    """One causal pass = one row per prefix: loss and every gradient, float64, dropout 0."""
    items, lengths = random_rows()
    model = encoder()
    targets = torch.zeros_like(items)
    targets[:, :-1] = items[:, 1:]
    batch = SequenceBatch.of(items, targets)
    parallel = next_item_loss(model, batch)
    parallel_grads = torch.autograd.grad(parallel, list(model.parameters()))

    losses = []
    for row, length in zip(items, lengths.tolist(), strict=True):
        for end in range(1, length):
            prefix = row[None, :end]
            state = model(prefix)[0, -1]
            losses.append(F.cross_entropy(model.logits(state), row[end] - 1))
    prefix_rows = torch.stack(losses).sum()
    prefix_grads = torch.autograd.grad(prefix_rows, list(model.parameters()))

    assert abs(parallel.item() - prefix_rows.item()) < 1e-12 * abs(prefix_rows.item()) + 1e-12
    worst = max((a - b).abs().max().item() for a, b in zip(parallel_grads, prefix_grads, strict=True))
    assert worst < 1e-12


def test_last_query_only_equals_the_full_pass() -> None:
    items, lengths = random_rows()
    model = encoder()
    full = model(items)[torch.arange(len(items)), lengths - 1]
    assert (model.last(items, lengths) - full).abs().max() < 1e-12


def test_padding_changes_nothing() -> None:
    items, lengths = random_rows()
    model = encoder()
    wide = F.pad(items, (0, 2))
    assert (model.last(wide, lengths) - model.last(items, lengths)).abs().max() < 1e-12
    alone = torch.cat(
        [model.last(items[i : i + 1, : lengths[i]], lengths[i : i + 1]) for i in range(len(items))]
    )
    assert (model.last(items, lengths) - alone).abs().max() < 1e-12


def test_the_future_is_not_seen() -> None:
    items, _ = random_rows(count=1)
    model = encoder()
    changed = items.clone()
    changed[0, 6:] = 7
    assert torch.equal(model(items)[0, :6], model(changed)[0, :6])
    assert not torch.allclose(model(items)[0, 6:], model(changed)[0, 6:])


def test_masked_items_are_invisible_but_keep_their_place() -> None:
    model = encoder()
    sequence = torch.tensor([[3, 0, 5, 9]])
    length = torch.tensor([4])
    state = model.last(sequence, length)
    # What stands for a masked item in the embedding table must not matter.
    with torch.no_grad():
        model.item.weight[0] = 3.0
    assert (model.last(sequence, length) - state).abs().max() < 1e-12
    with torch.no_grad():
        model.item.weight[0] = 0.0
    shorter = model.last(torch.tensor([[3, 5, 9]]), torch.tensor([3]))
    assert (shorter - state).abs().max() > 1e-3


def test_a_fully_masked_view_is_finite() -> None:
    model = encoder()
    state = model.last(torch.tensor([[0, 0, 0], [4, 0, 0]]), torch.tensor([3, 3]))
    state.sum().backward()
    assert torch.isfinite(state).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_padding_is_no_class_and_gets_no_gradient(split: LeaveOneOut, cpu: Runtime) -> None:
    config = SASRecConfig(max_length=8, dim=16, inner_dim=32, targets_per_batch=64, device="cpu")
    model = SASRec(config, split)
    batch = WindowBatches(split, max_length=8, stride=4, targets_per_batch=64, seed=0, runtime=cpu).batch(0)
    assert model.scorer.logits(torch.zeros(1, 16)).shape == (1, split.data.num_items)
    next_item_loss(model.scorer, batch).backward()
    grad = model.scorer.item.weight.grad
    assert grad is not None
    assert (grad[0] == 0).all()
    assert (grad[1:] != 0).any(1).all()


def test_too_long_input_is_named() -> None:
    with pytest.raises(ValueError, match="at most max_length = 12 positions, got 13"):
        encoder()(torch.ones(1, 13, dtype=torch.int64))


def test_initial_weights_depend_on_the_seed_only(split: LeaveOneOut) -> None:
    def weights(seed: int) -> list[Tensor]:
        return list(SASRec(SASRecConfig(seed=seed, dim=16), split).state_dict().values())

    torch.manual_seed(5)
    before = torch.get_rng_state()
    one = weights(0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert all(torch.equal(a, b) for a, b in zip(one, weights(0), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, weights(1), strict=True))
