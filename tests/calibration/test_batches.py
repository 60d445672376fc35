"""Rows of every step: passes with labels, passes without, and who prepares them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nearfar.adapters import FeatureInputs
from nearfar.calibration.rcal.batches import StageBatches, unlabelled_steps
from nearfar.calibration.rcal.config import RCALConfig
from nearfar.classification.row_batches import epoch_steps
from nearfar.training.prefetch import Prefetch

Make = Callable[..., RCALConfig]


def source(config: RCALConfig, n: int = 21) -> StageBatches:
    """Rows whose only feature is their number, and whose label is its last digit."""
    return StageBatches(FeatureInputs(torch.arange(n).float()[:, None]), torch.arange(n) % 10, config)


def steps(batches: StageBatches, first: int, last: int) -> list[Tensor]:
    return [batches.batch(step).rows for step in range(first, last)]


@pytest.mark.parametrize("n", [1, 7, 8, 9, 16, 21])
def test_an_epoch_is_every_row_once(settings: Make, n: int) -> None:
    """In batches that differ by one row at most and none of which is larger than asked for."""
    batches = source(settings(batch_size=8, pretrain={"epochs": 0}), n)
    size = batches.steps_per_epoch
    assert size == epoch_steps(n, 8) == max(1, (n + 7) // 8)
    orders = []
    for epoch in range(3):
        rows = steps(batches, epoch * size, (epoch + 1) * size)
        lengths = [len(part) for part in rows]
        assert max(lengths) <= 8
        assert max(lengths) - min(lengths) <= 1
        orders.append(torch.cat(rows).tolist())
        assert sorted(orders[-1]) == list(range(n))
    assert n < 7 or orders[0] != orders[1] != orders[2]


def test_rows_labels_and_numbers_go_together(settings: Make) -> None:
    """In both stages."""
    batches = source(settings(pretrain={"epochs": 1, "batch_size": 5}))
    for step in range(6):
        batch = batches.batch(step)
        assert torch.equal(batch.x[:, 0].long(), batch.rows)
        assert torch.equal(batch.given, batch.rows % 10)


@pytest.mark.parametrize("size", [2, 5, 8, 20, 21, 64])
def test_passes_without_labels_follow_each_other(settings: Make, size: int) -> None:
    """Batches of their own size, never a row twice in one, and all rows about equally often."""
    config = settings(batch_size=8, epochs=100, pretrain={"epochs": 100, "batch_size": size})
    batches = source(config)
    assert batches.unlabelled_steps == 300
    rows = steps(batches, 0, 300)
    assert {len(part) for part in rows} == {min(size, 21)}
    assert all(len(set(part.tolist())) == len(part) for part in rows)
    seen = Counter(torch.cat(rows).tolist())
    mean = 300 * min(size, 21) / 21
    assert set(seen) == set(range(21))
    assert max(abs(count - mean) for count in seen.values()) <= max(2.0, 1.5 * mean**0.5)


@pytest.mark.parametrize(("epochs", "expected"), [(0, 0), (0.5, 2), (1, 3), (1.4, 4), (2, 6)])
def test_a_part_of_an_epoch_counts(settings: Make, epochs: float, expected: int) -> None:
    """Stage two begins in the middle of an epoch, with the rows that are due there."""
    config = settings(batch_size=8, pretrain={"epochs": epochs})
    assert unlabelled_steps(21, config) == expected
    batches, plain = source(config), source(settings(batch_size=8, pretrain={"epochs": 0}))
    assert batches.unlabelled_steps == expected
    for step in range(expected, 9):
        assert torch.equal(batches.batch(step).rows, plain.batch(step).rows)


def test_the_number_of_a_step_decides(settings: Make) -> None:
    """In whatever order, by whom ever; another seed gives others."""
    config = settings(pretrain={"epochs": 1.5, "batch_size": 10})
    straight = steps(source(config), 0, 12)
    again = source(config)
    assert all(torch.equal(a, again.batch(step).rows) for step, a in reversed(list(enumerate(straight))))
    other = steps(source(settings(seed=6, pretrain={"epochs": 1.5, "batch_size": 10})), 0, 12)
    assert not any(torch.equal(a, b) for a, b in zip(straight, other, strict=True))


@pytest.mark.parametrize("workers", [1, 3])
def test_loader_threads_change_nothing(settings: Make, workers: int) -> None:
    """Batches of threads are those without."""
    config = settings(pretrain={"epochs": 1.5})
    straight = steps(source(config), 0, 12)
    with Prefetch(source(config), workers, 12) as ahead:
        for step, rows in enumerate(straight):
            assert torch.equal(ahead.batch(step).rows, rows)


def test_labels_are_kept_on_the_host(settings: Make) -> None:
    """Batches are made there; an empty epoch does not exist."""
    batches = source(settings())
    assert batches.given.device.type == "cpu"
    assert epoch_steps(0, 8) == 1
