"""Batches of a few subclasses: no row twice, the balance of the data, a function of the seed."""

from __future__ import annotations

import pytest
import torch

from nearfar.errors import ConfigError, DataError
from nearfar.longtail import SubclassBatchSampler
from nearfar.longtail.sbcl.subclass_batches import rows_of_subclasses
from nearfar.runtime import generator


def test_as_many_subclasses_and_rows_as_asked_for() -> None:
    """Several rows of each, none twice; small subclasses come whole."""
    subclasses = torch.arange(10).repeat_interleave(torch.tensor([5] * 8 + [2, 1]))
    for step in range(20):
        rows = rows_of_subclasses(subclasses, 4, 3, generator(0, "some", step))
        assert len(rows.unique()) == len(rows)
        found, counts = torch.unique(subclasses[rows], return_counts=True)
        assert len(found) == 4
        for s, count in zip(found.tolist(), counts.tolist(), strict=True):
            assert count == min(3, int((subclasses == s).sum()))


def test_every_row_is_as_likely() -> None:
    """Of subclasses of equal size, drawn one at a time; by chi-square of 6000 draws."""
    subclasses = torch.arange(6).repeat_interleave(torch.tensor([10, 10, 10, 10, 5, 5]))
    seen = torch.zeros(50)
    for step in range(3000):
        seen[rows_of_subclasses(subclasses, 1, 2, generator(0, "some", step))] += 1
    assert ((seen - 120).square() / 120).sum() < 49 + 4 * (2 * 49) ** 0.5


def test_fewer_subclasses_than_asked_for() -> None:
    assert len(rows_of_subclasses(torch.zeros(3, dtype=torch.int64), 4, 8, generator(0, "some"))) == 3
    gaps = torch.tensor([0, 0, 7, 7])  # numbers in between belong to nobody
    assert len(rows_of_subclasses(gaps, 4, 8, generator(0, "some"))) == 4


def test_passes_of_the_sampler() -> None:
    """A pass has about as many rows as the data; passes differ; another sampler of the seed has the same ones."""
    subclasses = [0] * 20 + [1] * 20 + [2] * 10
    sampler, again = (SubclassBatchSampler(subclasses, 2, 5, seed=3) for _ in range(2))
    assert len(sampler) == 5
    first, second = list(sampler), list(sampler)
    assert first != second
    assert [list(again), list(again)] == [first, second]
    assert all(len(rows) == 10 for rows in first)
    sampler.update([0] * 25 + [1] * 25)
    assert all(len({row // 25 for row in rows}) == 2 for rows in sampler)


def test_through_a_data_loader() -> None:
    x = torch.arange(30).float()[:, None]
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(x), batch_sampler=SubclassBatchSampler([0] * 15 + [1] * 15, 2, 3)
    )
    assert [len(batch[0]) for batch in loader] == [6] * 5


@pytest.mark.parametrize("name", ["groups", "each", "batches"])
def test_nothing_to_draw(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: at least 1 expected, got 0"):
        SubclassBatchSampler([0, 1], **{name: 0})
    with pytest.raises(DataError, match="subclasses: class codes"):
        SubclassBatchSampler([0.5, 1.0])
