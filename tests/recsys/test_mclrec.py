"""MCLRec's contrast: the prefixes it draws, the loss it adds, and what is left without it."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from torch import Tensor

from nearfar.objectives import contrast
from nearfar.recsys import LeaveOneOut, MCLRec, MCLRecConfig, SASRec
from nearfar.recsys.mclrec.batches import ContrastBatches, Prefixes
from nearfar.runtime import Runtime
from nearfar.training import StepContext

SIZES = {"max_length": 8, "dim": 16, "inner_dim": 32, "targets_per_batch": 64, "device": "cpu"}


def config(**changes: object) -> MCLRecConfig:
    return MCLRecConfig.model_validate(SIZES | {"contrast": {"rows": 32}} | changes)


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


def test_loss_is_next_item_plus_weighted_contrast(split: LeaveOneOut, cpu: Runtime) -> None:
    method = MCLRec(config(contrast={"rows": 32, "weight": 0.25}), split).eval()
    batch = batches(split, cpu).batch(0)
    output = method.step(batch, StepContext(0, 0, cpu))
    assert set(output.terms) == {"rec", "cl1"}
    assert output.loss.item() == pytest.approx((output.terms["rec"] + 0.25 * output.terms["cl1"]).item())


def test_contrast_equals_a_double_loop(split: LeaveOneOut) -> None:
    """L_con of the paper with the official scale: mean over 2B anchors, negatives from both views."""
    rng = torch.Generator().manual_seed(0)
    a, b = (torch.randn(5, 4, generator=rng, dtype=torch.float64) for _ in range(2))
    stacked: Tensor = torch.cat([a, b])
    total = 0.0
    for i in range(10):
        partner = (i + 5) % 10
        others = [float(stacked[i] @ stacked[j]) for j in range(10) if j != i]
        total += math.log(sum(map(math.exp, others))) - float(stacked[i] @ stacked[partner])
    value = contrast(stacked, positives=("paired", 5), similarity="dot", temperature=1.0)
    assert value.item() == pytest.approx(total / 10, abs=1e-12)


def test_without_contrast_it_is_sasrec(split: LeaveOneOut, cpu: Runtime) -> None:
    settings = config(contrast={"weight": 0.0})
    one, two = MCLRec(settings, split).eval(), SASRec(settings, split).eval()
    for step in range(2):
        batch = batches(split, cpu).batch(step)
        ctx = StepContext(0, step, cpu)
        assert torch.equal(one.step(batch, ctx).loss, two.step(batch.windows, ctx).loss)
    assert list(one.state_dict()) == list(two.state_dict())


def test_views_of_a_step_do_not_depend_on_earlier_steps(split: LeaveOneOut, cpu: Runtime) -> None:
    fresh = batches(split, cpu).batch(3)
    used = batches(split, cpu)
    used.batch(1)
    torch.rand(10)
    assert torch.equal(used.batch(3).items, fresh.items)
    assert not torch.equal(used.batch(4).items, fresh.items)


def test_processes_share_the_views_of_one(split: LeaveOneOut, cpu: Runtime) -> None:
    whole = batches(split, cpu).batch(2)
    parts = [batches(split, Runtime(cpu.device, rank, 3)).batch(2) for rank in range(3)]
    assert [len(part.items) for part in parts] == [22, 22, 20]
    firsts = torch.cat([part.lengths.chunk(2)[0] for part in parts])
    assert sorted(firsts.tolist()) == sorted(whole.lengths[:32].tolist())


@pytest.mark.parametrize("method_class", [SASRec, MCLRec])
def test_in_chunks_loss_and_gradients_are_the_same(
    split: LeaveOneOut, cpu: Runtime, method_class: type[SASRec]
) -> None:
    settings = config(contrast={"rows": 32, "weight": 0.5}, dropout=0.0, attention_dropout=0.0)
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
