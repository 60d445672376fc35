"""``KeyQueue`` against ``collections.deque``, and what must survive a checkpoint."""

from __future__ import annotations

import copy
import io
import math
import pickle
from collections import deque
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nearfar.objectives.queue import KeyQueue


def numbered(first: int, number: int, dim: int = 3) -> tuple[Tensor, Tensor]:
    """Keys that say in which order they came, with ids."""
    keys = torch.arange(first, first + number, dtype=torch.float32)[:, None].expand(-1, dim)
    return keys, 10 * torch.arange(first, first + number)


def content(queue: KeyQueue) -> list[float]:
    """What is in the queue, oldest first."""
    assert all(len(set(row)) == 1 for row in queue.keys.tolist())  # no key half overwritten
    return sorted(queue.keys[:, 0].tolist())


@pytest.mark.parametrize("capacity", [1, 5, 8])
@pytest.mark.parametrize("with_ids", [False, True])
def test_equals_a_deque_under_batches_of_any_size(capacity: int, with_ids: bool) -> None:
    rng = torch.Generator().manual_seed(capacity)
    queue, expected = KeyQueue(capacity, 3, with_ids=with_ids), deque[float](maxlen=capacity)
    first = 1
    for number in torch.randint(0, 2 * capacity + 2, (200,), generator=rng).tolist():
        keys, ids = numbered(first, number)
        queue.enqueue(keys, ids if with_ids else None)
        expected.extend(keys[:, 0].tolist())
        first += number
        assert content(queue) == list(expected)
        assert len(queue) == len(expected)
        if with_ids:
            assert queue.ids is not None
            assert torch.equal(queue.ids, 10 * queue.keys[:, 0].long())
        else:
            assert queue.ids is None


def test_slots_are_counted_modulo_capacity() -> None:
    one_by_one, at_once = KeyQueue(5, 3), KeyQueue(5, 3)
    for first, number in ((1, 3), (4, 4), (8, 12), (20, 5), (25, 1)):
        for step in range(first, first + number):
            one_by_one.enqueue(numbered(step, 1)[0])
        at_once.enqueue(numbered(first, number)[0])
        assert torch.equal(one_by_one.keys, at_once.keys)


def test_only_given_keys_are_visible() -> None:
    queue = KeyQueue(4, 2)
    assert queue.keys.shape == (0, 2)
    queue.enqueue(torch.ones(3, 2))
    assert torch.equal(queue.keys, torch.ones(3, 2))
    queue.reset()
    assert queue.keys.shape == (0, 2)
    assert len(queue) == 0
    queue.enqueue(torch.full((1, 2), 2.0))
    assert torch.equal(queue.keys, torch.full((1, 2), 2.0))


def test_keys_are_copies_without_gradient() -> None:
    queue = KeyQueue(4, 2)
    keys = torch.ones(3, 2, requires_grad=True)
    queue.enqueue(2 * keys)
    assert not queue.keys.requires_grad
    given = torch.ones(1, 2)
    queue.enqueue(given)
    given.zero_()
    assert queue.keys.min() == 1
    queue.enqueue(torch.tensor([[0.1, 7.0]], dtype=torch.bfloat16))
    assert queue.keys.dtype == torch.float32
    assert queue.keys[0, 1] == 7


def test_enqueue_before_backward_is_an_error_and_not_a_wrong_gradient() -> None:
    queue = KeyQueue(4, 2)
    queue.enqueue(torch.ones(4, 2))
    q = torch.ones(3, 2, requires_grad=True)
    loss = (q @ queue.keys.T).exp().sum()
    queue.enqueue(torch.zeros(1, 2))
    with pytest.raises(RuntimeError, match="inplace"):
        loss.backward()


class Model(nn.Module):
    def __init__(self, capacity: int = 5, dim: int = 3, with_ids: bool = True) -> None:
        super().__init__()
        self.queue = KeyQueue(capacity, dim, with_ids=with_ids)


@pytest.mark.parametrize("filled", [0, 3, 5, 13])
@pytest.mark.parametrize("way", ["state_dict", "file", "deepcopy", "pickle"])
def test_goes_on_as_if_nothing_had_happened(filled: int, way: str) -> None:
    model = Model()
    model.queue.enqueue(*numbered(1, filled))
    if way == "deepcopy":
        other = copy.deepcopy(model)
    elif way == "pickle":
        other = pickle.loads(pickle.dumps(model))
    else:
        state = model.state_dict()
        assert all(isinstance(value, Tensor) for value in state.values())
        if way == "file":
            file = io.BytesIO()
            torch.save(state, file)
            state = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
        other = Model()
        other.queue.enqueue(*numbered(100, 2))
        other.load_state_dict(state)
    for first, number in ((1000, 0), (1001, 2), (1003, 4)):
        for queue in (model.queue, other.queue):
            queue.enqueue(*numbered(first, number))
        assert len(other.queue) == len(model.queue)
        assert torch.equal(other.queue.keys, model.queue.keys)
        assert other.queue.ids is not None
        assert model.queue.ids is not None
        assert torch.equal(other.queue.ids, model.queue.ids)


@pytest.mark.parametrize("other", [{"capacity": 6}, {"dim": 4}, {"with_ids": False}])
@pytest.mark.parametrize("strict", [True, False])
def test_checkpoint_of_another_queue_is_refused_whole(other: dict[str, Any], strict: bool) -> None:
    model, different = Model(), Model(**other)
    model.queue.enqueue(*numbered(1, 4))
    with pytest.raises(RuntimeError, match="queue: the checkpoint holds .*; this queue has capacity="):
        different.load_state_dict(model.state_dict(), strict=strict)
    assert len(different.queue) == 0


def test_a_checkpoint_without_queue_leaves_it_alone() -> None:
    model = Model()
    model.queue.enqueue(*numbered(1, 4))
    model.load_state_dict({}, strict=False)
    assert content(model.queue) == [1, 2, 3, 4]


@pytest.mark.parametrize("state", [(-1, 5), (5, 5), (2, 3), (0, 6), (3, -1)])
def test_impossible_state_is_refused(state: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="state: next slot"):
        KeyQueue(5, 1).set_extra_state(torch.tensor(state))


def test_moves_with_the_module() -> None:
    queue = KeyQueue(4, 2, with_ids=True).to("meta")
    queue.enqueue(torch.ones(3, 2, device="meta"), torch.ones(3, dtype=torch.int64, device="meta"))
    assert queue.keys.device.type == "meta"  # where any read of a value would fail
    assert queue.keys.shape == (3, 2)
    assert queue.ids is not None
    assert queue.ids.device.type == "meta"


@pytest.mark.parametrize(
    ("message", "with_ids", "arguments"),
    [
        (r"keys: \(n, 2\) expected", False, (torch.ones(3, 3),)),
        ("keys: floating point", False, (torch.ones(2),)),
        ("keys: floating point", False, (torch.ones(3, 2, dtype=torch.int64),)),
        ("keys: finite", False, (torch.full((3, 2), math.nan),)),
        ("ids: one id a key expected, got None", True, (torch.ones(3, 2),)),
        ("ids: None .* expected", False, (torch.ones(3, 2), torch.ones(3, dtype=torch.int64))),
        (r"ids: integers of shape \(3,\)", True, (torch.ones(3, 2), torch.ones(2, dtype=torch.int64))),
        (r"ids: integers of shape \(3,\)", True, (torch.ones(3, 2), torch.ones(3))),
    ],
)
def test_bad_arguments_are_named_and_change_nothing(
    message: str, with_ids: bool, arguments: tuple[Tensor, ...]
) -> None:
    queue = KeyQueue(4, 2, with_ids=with_ids)
    with pytest.raises(ValueError, match=message):
        queue.enqueue(*arguments)
    assert len(queue) == 0


@pytest.mark.parametrize(
    ("capacity", "dim", "name"), [(0, 1, "capacity"), (1, 0, "dim"), (-3, 1, "capacity")]
)
def test_bad_sizes_are_named(capacity: int, dim: int, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: at least 1"):
        KeyQueue(capacity, dim)


def test_shows_its_sizes() -> None:
    assert repr(KeyQueue(4, 2)) == "KeyQueue(capacity=4, dim=2, with_ids=False)"
