"""The encoder's exact properties: position-parallel training, causality, padding, masked items."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.recsys import LeaveOneOut, SASRec, SASRecConfig
from nearfar.recsys.sasrec import SASRecEncoder
from nearfar.recsys.sasrec.encoder import _attend
from nearfar.recsys.sasrec.loss import next_item_loss
from nearfar.recsys.windows import SequenceBatch, WindowBatches
from nearfar.runtime import Runtime
from nearfar.training import StepContext
from nearfar.training.step import train_step


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


def settings(**changes: object) -> SASRecConfig:
    sizes = {"max_length": 8, "dim": 16, "inner_dim": 32, "targets_per_batch": 64, "device": "cpu"}
    return SASRecConfig.model_validate(sizes | changes)


def test_attention_dropout_keeps_the_mean() -> None:
    """Our attention with dropout of its weights, averaged over many draws, is PyTorch's without."""
    rng = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, 2, 5, 4, generator=rng, dtype=torch.float64) for _ in range(3))
    torch.manual_seed(0)
    draws = torch.stack([_attend(query, key, value, None, 0.25) for _ in range(4000)])
    exact = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    assert ((draws.mean(0) - exact).abs() <= 5 * draws.std(0) / 4000**0.5 + 1e-12).all()
    visible = torch.rand(1, 1, 5, 5, generator=rng) > 0.3
    visible |= torch.eye(5, dtype=torch.bool)
    draws = torch.stack([_attend(query, key, value, visible, 0.25) for _ in range(4000)])
    exact = F.scaled_dot_product_attention(query, key, value, attn_mask=visible)
    assert ((draws.mean(0) - exact).abs() <= 5 * draws.std(0) / 4000**0.5 + 1e-12).all()


def test_all_items_as_negatives_is_the_full_softmax(
    split: LeaveOneOut, cpu: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = WindowBatches.of(settings(), split, cpu).batch(0)
    full = SASRec(settings(), split).eval()
    sampled = SASRec(settings(softmax={"negatives": 30, "logq_correction": False}), split).eval()
    everything = torch.arange(split.data.num_items)
    monkeypatch.setattr(sampled.next_item_loss, "draw", lambda rng: everything)
    ctx = StepContext(0, 0, cpu)
    assert sampled.step(batch, ctx).loss.item() == pytest.approx(full.step(batch, ctx).loss.item(), rel=1e-6)


@pytest.mark.parametrize("sampling", ["uniform", "popularity"])
def test_negatives_follow_their_law_and_the_step(split: LeaveOneOut, cpu: Runtime, sampling: str) -> None:
    loss = SASRec(settings(softmax={"negatives": 60_000, "sampling": sampling}), split).next_item_loss
    drawn = loss.draw(StepContext(0, 3, cpu).rng("negatives"))
    assert torch.equal(drawn, loss.draw(StepContext(0, 3, cpu).rng("negatives")))
    assert not torch.equal(drawn, loss.draw(StepContext(0, 4, cpu).rng("negatives")))
    trained = torch.cat([torch.from_numpy(split.train(user)) for user in range(split.data.num_users)])
    counts = torch.ones(split.data.num_items)
    if sampling == "popularity":
        counts += torch.bincount(trained - 1, minlength=split.data.num_items)
    expected = 60_000 * counts / counts.sum()
    found = torch.bincount(drawn, minlength=split.data.num_items)
    freedom = split.data.num_items - 1
    assert ((found - expected).square() / expected).sum() < freedom + 5 * (2 * freedom) ** 0.5


def test_sampled_softmax_trains_in_chunks_as_in_one(split: LeaveOneOut, cpu: Runtime) -> None:
    config = settings(softmax={"negatives": 10}, dropout=0.0, attention_dropout=0.0)
    method = SASRec(config, split).double()
    batch = WindowBatches.of(config, split, cpu).batch(0)
    method.step(batch, StepContext(0, 0, cpu)).loss.backward()
    expected = [p.grad.clone() for p in method.parameters() if p.grad is not None]
    method.zero_grad()
    assert method.step(batch, StepContext(0, 0, cpu, chunks=3)).descended
    for a, p in zip(expected, method.parameters(), strict=True):
        assert p.grad is not None
        assert (a - p.grad).abs().max() < 1e-12


def test_averaged_weights_are_what_is_scored(split: LeaveOneOut, cpu: Runtime) -> None:
    config = settings(average=0.9)
    method = SASRec(config, split)
    optimizers = method.optimizers(config.optim)
    follow = method.encoder.item.weight.detach().clone()
    source = WindowBatches.of(config, split, cpu)
    for step in range(12):
        ctx = StepContext(0, step, cpu)
        train_step(method, optimizers, source.batch(step), ctx, None)
        momentum = min(0.9, (1 + step) / (10 + step))
        follow = momentum * follow + (1 - momentum) * method.encoder.item.weight.detach()
    torch.testing.assert_close(method.scorer.item.weight, follow)
    assert method.scorer is not method.encoder
    plain = SASRec(settings(), split)
    assert plain.scorer is plain.encoder


@pytest.mark.parametrize("changes", [{"label_smoothing": 0.1}, {"logit_dtype": "auto"}])
def test_settings_of_the_full_softmax_do_not_go_with_a_sample(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="belong to the softmax over all items"):
        settings(softmax={"negatives": 5, **changes})
