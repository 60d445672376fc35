"""MCLRec: the prefixes it draws, the losses it adds, who moves when, and what is left without them."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from torch import Tensor

from nearfar.recsys import LeaveOneOut, MCLRec, MCLRecConfig, SASRec
from nearfar.recsys.mclrec.batches import ContrastBatch, ContrastBatches, Prefixes
from nearfar.recsys.mclrec.losses import model_contrast, regulariser
from nearfar.runtime import Runtime, generator
from nearfar.training import StepContext
from nearfar.training.step import train_step

SIZES = {"max_length": 8, "dim": 16, "inner_dim": 32, "targets_per_batch": 64, "device": "cpu"}


def config(**changes: object) -> MCLRecConfig:
    return MCLRecConfig.model_validate({**SIZES, "contrast": {"rows": 32}, **changes})


def batches(split: LeaveOneOut, cpu: Runtime, **changes: object) -> ContrastBatches:
    return ContrastBatches(config(**changes), split, cpu)


def test_prefixes_are_uniform_over_all_training_prefixes(split: LeaveOneOut) -> None:
    expected: Counter[tuple[int, ...]] = Counter()
    for user in range(split.data.num_users):
        items = split.train(user).tolist()
        expected.update(tuple(items[max(0, k - 8) : k]) for k in range(1, len(items)))
    items, lengths = Prefixes(split, 8).draw(60_000, torch.Generator().manual_seed(0))
    drawn = Counter(tuple(row[:n]) for row, n in zip(items.tolist(), lengths.tolist(), strict=True))
    assert set(drawn) <= set(expected)
    total = sum(expected.values())
    statistic = sum((drawn[p] - 60_000 * c / total) ** 2 / (60_000 * c / total) for p, c in expected.items())
    freedom = len(expected) - 1
    assert statistic < freedom + 5 * math.sqrt(2 * freedom)


TERMS = {"rec", "cl1", "cl2", "reg", "norm"}


def moved(method: MCLRec, batch: ContrastBatch, ctx: StepContext, lr: float = 1e-3) -> None:
    """One step of plain gradient descent by the updates of the method."""
    chosen = method.optimizers(method.config.optim)
    plain = {name: torch.optim.SGD(o.param_groups[0]["params"], lr=lr) for name, o in chosen.items()}
    train_step(method, plain, batch, ctx, None)


def weights(module: torch.nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in module.parameters()]


def same(one: list[Tensor], two: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("schedule", ["simultaneous", "paper", "official", "joint"])
def test_encoder_loss_is_the_weighted_sum_of_its_terms(
    split: LeaveOneOut, cpu: Runtime, schedule: str
) -> None:
    changes = {
        "contrast": {"rows": 32, "weight": 0.25},
        "augmenters": {"weight": 0.5, "regulariser_weight": 0.2},
    }
    method = MCLRec(config(schedule=schedule, **changes), split).eval()
    batch = batches(split, cpu).batch(0)
    output = method.step(batch, StepContext(0, 0, cpu))
    assert set(output.terms) == TERMS
    t = {name: value.item() for name, value in output.terms.items()}
    expected = t["rec"] + 0.25 * t["cl1"] + 0.5 * (t["cl2"] + 0.2 * t["reg"])
    assert output.loss.item() == pytest.approx(expected, rel=1e-6)


def test_schedules_are_made_of_updates(split: LeaveOneOut) -> None:
    def names(**changes: object) -> list[str]:
        return [u.optimizer for u in MCLRec(config(**changes), split).updates(0)]

    assert names() == names(schedule="joint") == ["main"]
    assert names(schedule="paper") == ["main", "augmenters"]
    assert names(schedule="official") == ["main", "augmenters", "main"]
    assert names(schedule="official", augmenters={"kind": "frozen"}) == ["main", "main"]
    assert names(schedule="paper", augmenters={"weight": 0.0}) == ["main"]


def test_each_step_moves_its_own_parameters_only(split: LeaveOneOut, cpu: Runtime) -> None:
    method = MCLRec(config(schedule="official", augmenters={"weight": 0.5}), split)
    batch, ctx = batches(split, cpu).batch(0), StepContext(0, 0, cpu)
    encoder, augmenters, again = method.updates(0)
    for update, moves, stays in (
        (encoder, method.encoder, method.augmenters),
        (augmenters, method.augmenters, method.encoder),
        (again, method.encoder, method.augmenters),
    ):
        before, kept = weights(moves), weights(stays)
        method.updates = lambda step, update=update: (update,)  # type: ignore[method-assign,misc]
        moved(method, batch, ctx)
        assert not same(weights(moves), before)
        assert same(weights(stays), kept)


@pytest.mark.parametrize("kind", ["frozen", "identity"])
def test_augmenters_that_do_not_learn_stay(split: LeaveOneOut, cpu: Runtime, kind: str) -> None:
    method = MCLRec(config(augmenters={"kind": kind, "weight": 0.5}), split)
    before, encoder = weights(method.augmenters), weights(method.encoder)
    moved(method, batches(split, cpu).batch(0), StepContext(0, 0, cpu))
    assert same(weights(method.augmenters), before)
    assert not same(weights(method.encoder), encoder)


def test_augmenters_get_the_same_gradient_without_the_encoders_graph(
    split: LeaveOneOut, cpu: Runtime
) -> None:
    settings = config(schedule="official", dropout=0.0, attention_dropout=0.0)
    method = MCLRec(settings, split)
    batch = batches(split, cpu).batch(0)
    method.augmenter_step(batch, StepContext(0, 0, cpu)).loss.backward()
    without = [p.grad.clone() for p in method.augmenters.parameters() if p.grad is not None]
    method.zero_grad()
    assert batch.views is not None
    h = method.encode(batch.views)
    z = method.augmenters(h)
    (model_contrast(h, z) + 0.1 * regulariser(h, z)).backward()
    through = [p.grad for p in method.augmenters.parameters() if p.grad is not None]
    assert method.encoder.item.weight.grad is not None
    assert len(without) == 12
    assert same(without, through)


def test_paper_weighs_the_regulariser_of_the_augmenters_by_beta(split: LeaveOneOut, cpu: Runtime) -> None:
    batch = batches(split, cpu).batch(0)
    for schedule, weight in (("official", 0.1), ("paper", 0.05)):
        method = MCLRec(config(schedule=schedule, augmenters={"weight": 0.5}), split).eval()
        output = method.augmenter_step(batch, StepContext(0, 0, cpu))
        expected = output.terms["cl2"] + weight * output.terms["reg"]
        assert output.loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_simultaneous_is_the_alternation_to_second_order(split: LeaveOneOut, cpu: Runtime) -> None:
    """Both parts take their step from the same place; that differs from one after the other by O(lr^2)."""
    batch = batches(split, cpu).batch(0)

    def after(schedule: str, lr: float) -> Tensor:
        settings = config(
            schedule=schedule,
            dropout=0.0,
            attention_dropout=0.0,
            augmenters={"weight": 0.5, "regulariser_weight": 0.0},
        )
        method = MCLRec(settings, split).double()
        moved(method, batch, StepContext(0, 0, cpu), lr)
        return torch.cat([p.detach().flatten() for p in method.parameters()])

    gaps = [(after("simultaneous", lr) - after("paper", lr)).norm().item() for lr in (1e-2, 1e-3)]
    assert gaps[0] > 0
    assert gaps[0] / gaps[1] == pytest.approx(100, rel=0.2)


def test_simultaneous_gives_the_encoder_beta_and_the_augmenters_one(split: LeaveOneOut, cpu: Runtime) -> None:
    batch = batches(split, cpu).batch(0)

    def gradients(schedule: str) -> tuple[list[Tensor], list[Tensor]]:
        method = MCLRec(config(schedule=schedule, dropout=0.0, attention_dropout=0.0), split).double()
        method.step(batch, StepContext(0, 0, cpu)).loss.backward()
        parts = (method.encoder, method.augmenters)
        first, second = ([p.grad for p in part.parameters() if p.grad is not None] for part in parts)
        return first, second

    ours, joint = gradients("simultaneous"), gradients("joint")
    for a, b in zip(ours[0], joint[0], strict=True):
        torch.testing.assert_close(a, b, atol=1e-13, rtol=1e-9)
    for a, b in zip(ours[1], joint[1], strict=True):
        torch.testing.assert_close(a, b / 0.05, atol=1e-13, rtol=1e-9)


def test_without_contrast_it_is_sasrec(split: LeaveOneOut, cpu: Runtime) -> None:
    settings = config(contrast={"weight": 0.0}, augmenters={"weight": 0.0})
    one, two = MCLRec(settings, split), SASRec(settings, split)
    optimizers = [m.optimizers(settings.optim) for m in (one, two)]
    for step in range(5):
        batch = batches(split, cpu, contrast={"weight": 0.0}, augmenters={"weight": 0.0}).batch(step)
        assert batch.views is None
        ctx = StepContext(0, step, cpu)
        train_step(one, optimizers[0], batch, ctx, None)
        train_step(two, optimizers[1], batch.windows, ctx, None)
    assert same(weights(one.encoder), weights(two.encoder))


def test_spread_needs_no_views(split: LeaveOneOut, cpu: Runtime) -> None:
    changes = {"contrast": {"form": "spread", "weight": 0.5, "rows": 16}}
    method = MCLRec(config(dropout=0.0, attention_dropout=0.0, **changes), split).double()
    batch = batches(split, cpu, **changes).batch(0)
    assert batch.views is None
    whole = method.step(batch, StepContext(0, 0, cpu))
    assert set(whole.terms) == {"rec", "spread"}
    assert whole.loss.item() == pytest.approx((whole.terms["rec"] + 0.5 * whole.terms["spread"]).item())
    whole.loss.backward()
    expected = [p.grad.clone() for p in method.encoder.parameters() if p.grad is not None]
    method.zero_grad()
    cut = method.step(batch, StepContext(0, 0, cpu, chunks=3))
    assert cut.descended
    for one, two in zip(expected, method.encoder.parameters(), strict=True):
        assert two.grad is not None
        assert (one - two.grad).abs().max() < 1e-12


def test_histories_of_one_user_or_before_one_item_need_not_be_negatives(
    split: LeaveOneOut, cpu: Runtime
) -> None:
    def ids(policy: str) -> Tensor | None:
        changed = batches(split, cpu, contrast={"rows": 32, "false_negatives": policy}).batch(0)
        assert changed.views is not None
        return changed.views.ids

    assert ids("keep") is None
    prefixes = Prefixes(split, 8)
    chosen = torch.randint(len(prefixes), (32,), generator=generator(0, "rows", 0))
    users, targets = ids("same_user"), ids("same_target")
    assert users is not None
    assert targets is not None
    for row, number in enumerate(chosen.tolist()):
        end = int(prefixes.ends[number])
        assert int(targets[row]) == split.data.items[end]
        assert split.data.offsets[users[row]] <= end < split.data.offsets[users[row] + 1]


def test_views_are_encoded_in_groups_of_similar_length(split: LeaveOneOut, cpu: Runtime) -> None:
    method = MCLRec(config(max_length=20), split).double().eval()
    views = batches(split, cpu, max_length=20).batch(0).views
    assert views is not None
    assert len(views.pieces()) > 1
    for items, lengths in views.pieces():
        assert items.shape[1] == lengths.max()
        assert items.shape[1] <= max(8, 2 * int(lengths.min()))
    whole = method.encoder.last(views.items, views.lengths)[views.order]
    torch.testing.assert_close(method.encode(views), whole, atol=1e-12, rtol=0)


def test_views_of_a_step_do_not_depend_on_earlier_steps(split: LeaveOneOut, cpu: Runtime) -> None:
    fresh = batches(split, cpu).batch(3)
    used = batches(split, cpu)
    used.batch(1)
    torch.rand(10)
    views = [batch.views for batch in (fresh, used.batch(3), used.batch(4))]
    one, again, other = (v.items[v.order] for v in views if v is not None)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_processes_share_the_views_of_one(split: LeaveOneOut, cpu: Runtime) -> None:
    whole = batches(split, cpu).batch(2)
    parts = [batches(split, Runtime(cpu.device, rank, 3)).batch(2) for rank in range(3)]
    seen = [part.views for part in (whole, *parts) if part.views is not None]
    assert [len(views.items) for views in seen] == [64, 22, 22, 20]
    # First views, in the order in which they were drawn.
    firsts = [views.lengths[views.order].chunk(2)[0] for views in seen]
    assert sorted(torch.cat(firsts[1:]).tolist()) == sorted(firsts[0].tolist())


@pytest.mark.parametrize("method_class", [SASRec, MCLRec])
def test_in_chunks_loss_and_gradients_are_the_same(
    split: LeaveOneOut, cpu: Runtime, method_class: type[SASRec]
) -> None:
    settings = config(
        contrast={"rows": 32, "weight": 0.5}, augmenters={"weight": 0.5}, dropout=0.0, attention_dropout=0.0
    )
    method = method_class(settings, split).double()
    batch = method_class.batches(settings, split, cpu).batch(1)
    whole = method.step(batch, StepContext(0, 1, cpu))
    whole.loss.backward()
    expected = {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}
    method.zero_grad()
    cut = method.step(batch, StepContext(0, 1, cpu, chunks=4))
    assert cut.descended
    assert not cut.loss.requires_grad
    assert cut.loss.item() == pytest.approx(whole.loss.item(), rel=1e-12)
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None
        assert (parameter.grad - expected[name]).abs().max() < 1e-12
    assert {k: v.item() for k, v in cut.terms.items()} == pytest.approx(
        {k: v.item() for k, v in whole.terms.items()}, rel=1e-12
    )
