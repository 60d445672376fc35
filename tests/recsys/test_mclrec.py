"""MCLRec's contrast: the prefixes it draws, the loss it adds, and what is left without it."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from torch import Tensor

from nearfar.errors import ConfigError
from nearfar.objectives import contrast
from nearfar.recsys import LeaveOneOut, MCLRec, MCLRecConfig, SASRec
from nearfar.recsys.windows import WindowBatches
from nearfar.runtime import Runtime
from nearfar.training import StepContext

SIZES = {"max_length": 8, "dim": 16, "inner_dim": 32, "targets_per_batch": 64, "device": "cpu"}


def config(**changes: object) -> MCLRecConfig:
    return MCLRecConfig.model_validate(SIZES | {"contrast": {"rows": 32}} | changes)


def source(split: LeaveOneOut, cpu: Runtime) -> WindowBatches:
    return WindowBatches(split, max_length=8, stride=4, targets_per_batch=64, seed=0, runtime=cpu)


def test_prefixes_are_uniform_over_all_training_prefixes(split: LeaveOneOut) -> None:
    method = MCLRec(config(), split)
    expected: Counter[tuple[int, ...]] = Counter()
    for user in range(split.data.num_users):
        items = split.train(user).tolist()
        expected.update(tuple(items[max(0, k - 8) : k]) for k in range(1, len(items)))
    items, lengths = method.draw_prefixes(60_000, torch.Generator().manual_seed(0))
    drawn = Counter(tuple(row[:n]) for row, n in zip(items.tolist(), lengths.tolist(), strict=True))
    assert set(drawn) <= set(expected)
    total = sum(expected.values())
    statistic = sum((drawn[p] - 60_000 * c / total) ** 2 / (60_000 * c / total) for p, c in expected.items())
    freedom = len(expected) - 1
    assert statistic < freedom + 5 * math.sqrt(2 * freedom)


def test_loss_is_next_item_plus_weighted_contrast(split: LeaveOneOut, cpu: Runtime) -> None:
    method = MCLRec(config(contrast={"rows": 32, "weight": 0.25}), split).eval()
    batch = source(split, cpu).batch(0)
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
        batch = source(split, cpu).batch(step)
        ctx = StepContext(0, step, cpu)
        assert torch.equal(one.step(batch, ctx).loss, two.step(batch, ctx).loss)
    assert list(one.state_dict()) == list(two.state_dict())


def test_views_of_a_step_do_not_depend_on_earlier_steps(split: LeaveOneOut, cpu: Runtime) -> None:
    method = MCLRec(config(), split).eval()
    batch = source(split, cpu).batch(0)
    fresh = method.step(batch, StepContext(0, 3, cpu)).terms["cl1"]
    method.step(batch, StepContext(0, 1, cpu))
    torch.rand(10)
    assert torch.equal(method.step(batch, StepContext(0, 3, cpu)).terms["cl1"], fresh)
    assert not torch.equal(method.step(batch, StepContext(0, 4, cpu)).terms["cl1"], fresh)


def test_several_processes_are_refused_for_now(split: LeaveOneOut, cpu: Runtime) -> None:
    method = MCLRec(config(), split)
    with pytest.raises(ConfigError, match="contrast.weight"):
        method.step(source(split, cpu).batch(0), StepContext(0, 0, Runtime(cpu.device, 0, 2)))
