"""The memory of BECLR against plain lists: order, clusters, neighbours, checkpoints."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import Tensor

from nearfar.objectives import row_tiles
from nearfar.objectives.dyce import DyCEMemory


def draws(n: int, dim: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def unit(x: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x, dim=-1)


def filled(n: int = 24, dim: int = 4, prototypes: int = 3, **options: Any) -> DyCEMemory:
    memory = DyCEMemory(n, dim, prototypes=prototypes, **options)
    memory.enqueue(draws(n, dim, 1))
    return memory


def test_is_a_ring_whatever_the_batches() -> None:
    memory, given = DyCEMemory(10, 4, prototypes=2), []
    for step, n in enumerate([3, 4, 0, 5, 10, 1, 25, 7]):
        batch = draws(n, seed=step)
        memory.enqueue(batch)
        given += unit(batch).tolist()
        expected = sorted(given[-10:])
        torch.testing.assert_close(torch.tensor(sorted(memory.queue.keys.tolist())), torch.tensor(expected))
        assert memory.is_full == (len(given) >= 10)
        assert not memory.queue.keys.requires_grad
    # The row numbered t is in place t modulo 10, as long as no batch is longer than the ring.
    memory = DyCEMemory(10, 4, prototypes=2)
    every = draws(23)
    for part in every.split([4, 8, 9, 2]):
        memory.enqueue(part)
    for place in range(10):
        newest = max(t for t in range(23) if t % 10 == place)
        torch.testing.assert_close(memory.queue.keys[place], unit(every[newest]))


def test_clusters_start_when_the_memory_is_full() -> None:
    memory = DyCEMemory(12, 3, prototypes=3)
    corners = torch.eye(3).repeat(4, 1) + 0.05 * draws(12, 3)
    memory.enqueue(corners[:11])
    assert not memory.prototypes.any()
    memory.enqueue(corners[11:])
    groups = memory.assignment.reshape(4, 3)
    assert (groups == groups[0]).all()
    assert sorted(groups[0].tolist()) == [0, 1, 2]
    for cluster in range(3):
        members = memory.queue.keys[memory.assignment == cluster]
        torch.testing.assert_close(memory.prototypes[cluster], members.mean(0))


@pytest.mark.parametrize("momentum", [0.0, 0.75])
def test_prototypes_follow_the_means_of_their_members(momentum: float) -> None:
    memory = filled(momentum=momentum)
    for step in range(6):
        before = memory.prototypes.clone()
        memory.enqueue(draws(7, seed=10 + step))
        for cluster in range(3):
            members = memory.queue.keys[memory.assignment == cluster]
            mean = members.mean(0) if len(members) else before[cluster]
            expected = momentum * before[cluster] + (1 - momentum) * mean
            torch.testing.assert_close(memory.prototypes[cluster], expected)


def test_an_empty_prototype_keeps_its_value() -> None:
    memory = filled(6, prototypes=2)
    memory.prototypes.copy_(unit(draws(2, seed=5)))
    memory.assignment.zero_()
    memory._move_prototypes()
    torch.testing.assert_close(memory.prototypes[1], unit(draws(2, seed=5))[1])
    torch.testing.assert_close(memory.prototypes[0], memory.queue.keys.mean(0))


def test_a_balanced_batch_goes_to_the_nearest_prototypes() -> None:
    memory = filled(9, 3)
    memory.prototypes.copy_(torch.eye(3))
    nearest = torch.tensor([2, 0, 1, 1, 0, 2, 2, 1, 0])
    batch = torch.eye(3)[nearest] + 0.2 * draws(9, 3, 2)
    similarity = unit(batch) @ torch.eye(3)
    assert torch.equal(similarity.argmax(1), nearest)
    # The released code has the sign of the cost wrong: none of the rows would pass.
    assert torch.equal(memory.assign(batch), nearest)
    assert not (similarity.argmin(1) == nearest).any()


def test_an_unbalanced_batch_is_spread_evenly() -> None:
    memory = DyCEMemory(8, 3, prototypes=4, eps=0.02, iterations=200)
    memory.enqueue(draws(8, 3))
    batch = draws(200, 3, 3) + 2 * memory.prototypes[0] / memory.prototypes[0].norm()
    alone = (unit(batch) @ unit(memory.prototypes).T).argmax(1).bincount(minlength=4)
    spread = memory.assign(batch).bincount(minlength=4)
    assert alone.max() > 110
    assert spread.min() >= 40
    assert spread.max() <= 60


def slow_neighbours(memory: DyCEMemory, z: Tensor, k: int) -> list[list[list[float]]]:
    """The definition, row by row."""
    found = []
    for row in unit(z):
        cluster = max(range(len(memory.prototypes)), key=lambda c: float(row @ unit(memory.prototypes[c])))
        pool = [i for i, c in enumerate(memory.assignment.tolist()) if c == cluster]
        if len(pool) < k:
            pool = list(range(len(memory.queue)))
        pool.sort(key=lambda i: -float(row @ memory.queue.keys[i]))
        found.append([memory.queue.keys[i].tolist() for i in pool[:k]])
    return found


@pytest.mark.parametrize("k", [1, 3, 8, 24])
@pytest.mark.parametrize("numbers", [2**22, 30])
def test_neighbours_are_those_of_the_cluster(k: int, numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_tiles, "NUMBERS", numbers)
    memory = filled()
    memory.enqueue(draws(11, seed=8) + 1)  # clusters of different sizes, some below k
    z = draws(15, seed=9).requires_grad_()
    found = memory.neighbours(z, k)
    assert found.shape == (15, k, 4)
    assert not found.requires_grad
    torch.testing.assert_close(found, torch.tensor(slow_neighbours(memory, z.detach(), k)))


def test_small_clusters_fall_back_to_the_whole_memory() -> None:
    memory = filled(6, 2, prototypes=2)
    memory.queue.slots.copy_(unit(torch.tensor([[1.0, 0], [1, 0.2], [1, 0.4], [0, 1], [0.1, 1], [0.3, 1]])))
    memory.assignment.copy_(torch.tensor([0, 1, 1, 1, 1, 1]))
    memory.prototypes.copy_(torch.eye(2))
    z = torch.tensor([[2.0, 0.0]])
    torch.testing.assert_close(memory.neighbours(z, 1)[0], memory.queue.keys[:1])
    torch.testing.assert_close(memory.neighbours(z, 3)[0], memory.queue.keys[:3])


def test_no_neighbours_is_an_answer() -> None:
    assert filled().neighbours(draws(5), 0).shape == (5, 0, 4)
    assert filled().neighbours(draws(0), 2).shape == (0, 2, 4)


@pytest.mark.parametrize("given", [5, 24, 40])
def test_goes_on_from_a_checkpoint(given: int) -> None:
    memory = DyCEMemory(24, 4, prototypes=3)
    memory.enqueue(draws(given))
    file = io.BytesIO()
    torch.save(memory.state_dict(), file)
    other = DyCEMemory(24, 4, prototypes=3)
    other.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    for step in range(5):
        for each in (memory, other):
            each.enqueue(draws(9, seed=50 + step))
        assert torch.equal(memory.queue.keys, other.queue.keys)
        assert torch.equal(memory.assignment, other.assignment)
        assert torch.equal(memory.prototypes, other.prototypes)


def test_clusters_can_be_found_anew() -> None:
    memory = filled()
    memory.enqueue(draws(20, seed=4))
    memory.cluster(1)
    sizes = memory.assignment.bincount(minlength=3)
    assert sizes.tolist() == [8, 8, 8]
    for cluster in range(3):
        members = memory.queue.keys[memory.assignment == cluster]
        torch.testing.assert_close(memory.prototypes[cluster], members.mean(0))


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("prototypes: 1 to capacity=4", {"prototypes": 5}),
        ("prototypes: 1 to capacity=4", {"prototypes": 0}),
        ("momentum: ", {"momentum": 1.0}),
        ("eps: a finite positive", {"eps": 0.0}),
        ("iterations: at least 1", {"iterations": 0}),
        ("dim: at least 1", {"dim": 0}),
    ],
)
def test_bad_sizes_are_named(message: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=message):
        DyCEMemory(**{"capacity": 4, "dim": 2, "prototypes": 2} | options)


def test_bad_rows_and_questions_are_named() -> None:
    memory = filled()
    with pytest.raises(ValueError, match=r"z: \(n, 4\) expected"):
        memory.enqueue(torch.ones(3, 5))
    with pytest.raises(ValueError, match="z: finite"):
        memory.neighbours(torch.full((3, 4), torch.nan), 1)
    with pytest.raises(ValueError, match="k: 0 to the 24 rows"):
        memory.neighbours(draws(3), 25)
    empty = DyCEMemory(4, 4, prototypes=2)
    for ask in (lambda: empty.neighbours(draws(3), 1), lambda: empty.assign(draws(3)), empty.cluster):
        with pytest.raises(ValueError, match="memory: no clusters before it is full, got 0 of 4"):
            ask()
