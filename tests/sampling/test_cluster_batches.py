"""Batches of one cluster: who is in them, how often, on which process, and what the loss makes of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from nearfar.objectives.contrast import contrast
from nearfar.objectives.denominator import OnlySame
from nearfar.sampling.cluster_batches import ClusterBatchSampler


def draw(n: int = 103, clusters: int = 5) -> Tensor:
    return torch.randint(clusters, (n,), generator=torch.Generator().manual_seed(0)) * 7 - 3


@pytest.mark.parametrize("batch_size", [1, 8, 40, 103, 500])
def test_every_row_once_and_as_many_batches_of_one_cluster_as_there_can_be(batch_size: int) -> None:
    clusters = draw()
    sampler = ClusterBatchSampler(clusters, batch_size)
    batches = sampler.batches(3)
    assert sorted(torch.cat(batches).tolist()) == list(range(103))
    assert len(batches) == len(sampler)
    assert all(len(rows) == batch_size for rows in batches[:-1])
    pure = sum(len(rows) == batch_size and len(clusters[rows].unique()) == 1 for rows in batches)
    assert pure >= sum(int((clusters == c).sum()) // batch_size for c in clusters.unique())


def test_a_cluster_of_one_row_is_trained_on() -> None:
    clusters = torch.tensor([0] * 9 + [1])
    for epoch in range(5):
        batches = ClusterBatchSampler(clusters, 4).batches(epoch)
        assert sum(9 in rows for rows in batches) == 1


def test_order_is_that_of_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[list[int]]:
        return [rows.tolist() for rows in ClusterBatchSampler(draw(), 8, seed=seed).batches(epoch)]

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 2)
    sampler = ClusterBatchSampler(draw(), 8, seed=1)
    sampler.set_epoch(2)
    assert list(sampler) == order(1, 2)
    # Clusters come in no order: which one is first differs between epochs.
    clusters = draw()
    assert len({int(clusters[order(0, epoch)[0][0]]) for epoch in range(20)}) > 1


@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_share_every_batch(world_size: int) -> None:
    clusters, whole = draw(), ClusterBatchSampler(draw(), 8, seed=5).batches(1)
    parts = [
        ClusterBatchSampler(clusters, 8, seed=5, rank=rank, world_size=world_size).batches(1)
        for rank in range(world_size)
    ]
    assert len({len(part) for part in parts}) == 1
    for step, batch in enumerate(whole[:-1]):
        assert sorted(torch.cat([part[step] for part in parts]).tolist()) == sorted(batch.tolist())
    last = [part[-1] for part in parts]
    assert len({len(rows) for rows in last}) == 1
    assert set(torch.cat(last).tolist()) <= set(whole[-1].tolist())
    assert len(whole[-1]) - sum(map(len, last)) < world_size


def test_a_last_batch_too_small_to_share_is_left_out() -> None:
    sampler = ClusterBatchSampler(torch.zeros(9, dtype=torch.int64), 4, world_size=2)
    assert len(sampler) == len(sampler.batches(0)) == 2


def test_batches_of_one_cluster_give_the_loss_of_the_rule() -> None:
    clusters = torch.arange(4).repeat_interleave(6)[
        torch.randperm(24, generator=torch.Generator().manual_seed(1))
    ]
    rng = torch.Generator().manual_seed(0)
    z1, z2 = (torch.randn(24, 5, generator=rng, dtype=torch.float64) for _ in range(2))

    def loss(rows: Tensor, **options: Any) -> Tensor:
        views = torch.cat([z1[rows], z2[rows]])
        value: Tensor = contrast(views, positives=("paired", len(rows)), **options)
        return value

    whole = loss(torch.arange(24), denominator=OnlySame(clusters.repeat(2)))
    parts = [loss(rows) for rows in ClusterBatchSampler(clusters, 6).batches(0)]
    torch.testing.assert_close(torch.stack(parts).mean(), whole)
    assert abs(loss(torch.arange(24)) - whole) > 0.1


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("clusters: integers", {"clusters": torch.zeros(4)}),
        ("clusters: integers", {"clusters": torch.zeros(2, 2, dtype=torch.int64)}),
        ("clusters: .* n at least 1", {"clusters": torch.zeros(0, dtype=torch.int64)}),
        ("rank: 0 to world_size", {"rank": 1}),
        ("rank: 0 to world_size", {"world_size": 0}),
        ("batch_size: a multiple of world_size=3", {"batch_size": 4, "world_size": 3}),
        ("batch_size: a multiple", {"batch_size": 0}),
    ],
)
def test_bad_arguments_are_named(message: str, options: dict[str, Any]) -> None:
    usual: dict[str, Any] = {"clusters": torch.zeros(4, dtype=torch.int64), "batch_size": 2}
    with pytest.raises(ValueError, match=message):
        ClusterBatchSampler(**usual | options)
