"""Windows cover every target once; batches are a function of the step; padding changes nothing."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from nearfar.errors import ConfigError
from nearfar.recsys import Interactions, LeaveOneOut, leave_one_out
from nearfar.recsys.windows import WindowBatches, make_windows, pad_histories
from nearfar.runtime import Runtime


def batches(split: LeaveOneOut, runtime: Runtime, size: int = 40, seed: int = 0) -> WindowBatches:
    return WindowBatches(split, max_length=8, stride=4, targets_per_batch=size, seed=seed, runtime=runtime)


def test_long_history_is_covered_once_with_context() -> None:
    data = Interactions.from_sequences(
        {"u": [f"{i:03d}" for i in range(30)], "v": ["000", "001", "002", "003"]}
    )
    split = leave_one_out(data)
    windows = make_windows(split, max_length=8, stride=4)
    covered: Counter[int] = Counter()
    for start, stop, scored in zip(windows.start, windows.stop, windows.scored, strict=True):
        assert stop - start <= 9
        targets = range(start + 1 + scored, stop)
        covered.update(targets)
        if start > data.offsets[0] and stop <= split.train_ends[0]:
            assert all(target - start >= 8 - 4 + 1 for target in targets)
    expected = [i for u in range(2) for i in range(data.offsets[u] + 1, split.train_ends[u])]
    assert sorted(covered) == expected
    assert set(covered.values()) == {1}
    assert windows.num_targets.sum() == len(expected)


def test_every_epoch_trains_every_pair_once(split: LeaveOneOut, cpu: Runtime) -> None:
    source = batches(split, cpu)
    expected: Counter[tuple[int, int]] = Counter()
    for user in range(split.data.num_users):
        items = split.train(user).tolist()
        expected.update(zip(items[:-1], items[1:], strict=True))
    for epoch in range(3):
        seen: Counter[tuple[int, int]] = Counter()
        for place in range(source.steps_per_epoch):
            batch = source.batch(epoch * source.steps_per_epoch + place)
            scored = batch.targets > 0
            assert int(scored.sum()) == batch.num_targets > 0
            assert batch.num_targets <= 40 + 8
            assert (batch.items[scored] > 0).all()
            seen.update(zip(batch.items[scored].tolist(), batch.targets[scored].tolist(), strict=True))
        assert seen == expected


def test_batch_depends_on_seed_and_step_only(split: LeaveOneOut, cpu: Runtime) -> None:
    forward, backward = batches(split, cpu), batches(split, cpu)
    steps = range(2 * forward.steps_per_epoch)
    one = [forward.batch(step).items for step in steps]
    two = [backward.batch(step).items for step in reversed(steps)][::-1]
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    other = batches(split, cpu, seed=1)
    assert any(not torch.equal(a, other.batch(step).items) for step, a in enumerate(one))


def test_processes_share_a_batch_without_overlap(split: LeaveOneOut, cpu: Runtime) -> None:
    whole = batches(split, cpu).batch(1)
    parts = [batches(split, Runtime(cpu.device, rank, 2)).batch(1) for rank in range(2)]
    assert {part.num_targets for part in parts} == {whole.num_targets}
    rows = [tuple(row[row > 0].tolist()) for part in parts for row in part.items]
    assert Counter(rows) == Counter(tuple(row[row > 0].tolist()) for row in whole.items)


def test_batch_smaller_than_a_window_is_refused(split: LeaveOneOut, cpu: Runtime) -> None:
    with pytest.raises(ConfigError, match="targets_per_batch: at least max_length"):
        batches(split, cpu, size=4)


def test_pad_histories_keeps_the_newest() -> None:
    items, lengths = pad_histories([np.array([1, 2, 3, 4]), np.array([5])], max_length=3)
    assert items.tolist() == [[2, 3, 4], [5, 0, 0]]
    assert lengths.tolist() == [3, 1]
