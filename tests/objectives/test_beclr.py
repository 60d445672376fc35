"""BECLR against a loop over rows and pairs, with and without memory, and over a resume."""

from __future__ import annotations

import contextlib
import io
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from nearfar.objectives import row_tiles
from nearfar.objectives.beclr import BECLR, spread
from nearfar.objectives.logsumexp import small_tiles
from nearfar.testing import LargestTensor

N, D = 5, 4


def views(seed: int = 0, n: int = N, dim: int = D, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(n, dim, generator=rng, dtype=torch.float64).to(dtype) for _ in range(4)]


def make(dim: int = D, **options: Any) -> BECLR:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return BECLR(dim, **{"capacity": 20, "prototypes": 3, "neighbours": 2} | options).double()


def warm(loss: BECLR, steps: int = 2) -> BECLR:
    for step in range(steps):
        loss(*views(100 + step))
        loss.after_step()
    return loss


def cosine(a: Tensor, b: Tensor) -> float:
    dot = math.fsum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True))
    return dot / (math.hypot(*a.tolist()) * math.hypot(*b.tolist()))


def slow_spread(z1: Tensor, z2: Tensor, temperature: float) -> float:
    z, n = torch.cat([z1, z2]), len(z1)
    pairs = [(i, j) for i in range(2 * n) for j in range(2 * n) if i % n != j % n]
    return math.log(math.fsum(math.exp(cosine(z[i], z[j]) / temperature) for i, j in pairs) / len(pairs))


def slow(loss: BECLR, given: list[Tensor], neighbours: int) -> float:
    """The definition, pair by pair; memories are asked for one row at a time."""
    z1, z2, t1, t2 = given
    found = []
    for z, t in ((z1, t2), (z2, t1)):
        pairs = list(zip(z, t, strict=True))
        for row, target in list(pairs) if neighbours else []:
            near = loss.student.neighbours(row[None], neighbours)[0]
            pairs += zip(near, loss.teacher.neighbours(target[None], neighbours)[0], strict=True)
        found.append(math.fsum(cosine(loss.predictor(a[None])[0], b) for a, b in pairs) / len(pairs))
    extra: float = loss.config["weight"] * slow_spread(z1, z2, loss.config["temperature"])
    return -sum(found) / 2 + extra


@pytest.mark.parametrize("options", [{}, {"temperature": 0.5, "weight": 1.0}, {"weight": 0.0}, {"hidden": 9}])
def test_equals_the_definition(options: dict[str, Any]) -> None:
    loss, given = make(**options), views()
    assert loss(*given).item() == pytest.approx(slow(loss, given, 0), abs=1e-10)
    warm(loss)
    assert loss.student.is_full
    assert loss(*given).item() == pytest.approx(slow(loss, given, 2), abs=1e-10)
    assert abs(slow(loss, given, 2) - slow(loss, given, 0)) > 1e-3


def test_without_neighbours_memory_or_start_the_loss_is_plain() -> None:
    given, plain = views(), make()(*views())
    for loss in (make(neighbours=0), make(start=3), make(capacity=21)):
        assert torch.equal(warm(loss)(*given), plain)
    late = warm(make(start=3), 3)
    assert not torch.equal(late(*given), plain)


def test_known_answers() -> None:
    x = torch.eye(4, dtype=torch.float64)
    assert spread(x, x).item() == pytest.approx(0, abs=1e-12)
    assert spread(x, x, temperature=0.1).item() == pytest.approx(0, abs=1e-12)
    one = torch.tensor([[1.0, 0], [-1, 0]], dtype=torch.float64)
    assert spread(one, 3 * one, temperature=0.5).item() == pytest.approx(-2, abs=1e-12)
    loss = make(weight=0.0)
    loss.predictor = torch.nn.Identity()  # type: ignore[assignment]
    for target, value in ((x, -1.0), (-x, 1.0), (x.roll(1, 0), 0.0)):
        assert loss(x, x, target, target).item() == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("edge", [1, 3, 10])
def test_tiles_change_nothing(edge: int) -> None:
    z1, z2, *_ = (x.requires_grad_() for x in views())
    expected = torch.autograd.grad(spread(z1, z2), (z1, z2))
    with small_tiles(edge):
        assert spread(z1, z2).item() == pytest.approx(slow_spread(z1, z2, 2.0), abs=1e-10)
        torch.testing.assert_close(torch.autograd.grad(spread(z1, z2), (z1, z2)), expected)


def test_memories_take_the_rows_of_the_step_in_one_order() -> None:
    loss = make(neighbours=1)
    for step in range(3):
        given = views(step)
        before = loss.student.queue.keys.clone()
        loss(*given)
        assert torch.equal(loss.student.queue.keys, before)  # forward changes nothing
        loss.after_step()
    newest = (torch.arange(10) + 20) % 20
    rows = torch.cat([given[0], given[1]]), torch.cat([given[2], given[3]])
    for memory, row in zip((loss.student, loss.teacher), rows, strict=True):
        torch.testing.assert_close(memory.queue.keys[newest], torch.nn.functional.normalize(row))
    kept = loss.student.queue.keys.clone()
    loss.after_step()  # without a step in between there is nothing to add
    assert torch.equal(loss.student.queue.keys, kept)


def test_derivatives_reach_student_and_predictor_only() -> None:
    loss = warm(make())
    z1, z2, t1, t2 = (x.requires_grad_() for x in views())
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b, t1.detach(), t2.detach()), (z1, z2))
    loss(z1, z2, t1, t2).backward()
    assert t1.grad is None
    assert t2.grad is None
    assert all(p.grad is not None and p.grad.any() for p in loss.predictor.parameters())


def test_goes_on_from_a_checkpoint() -> None:
    loss = warm(make(start=3), 3)
    file = io.BytesIO()
    torch.save(loss.state_dict(), file)
    other = make(start=3)
    other.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    for step in range(3):
        given = views(step)
        assert torch.equal(loss(*given), other(*given))
        loss.after_step()
        other.after_step()
    assert other.steps == 6


def test_half_precision_is_computed_in_single() -> None:
    loss = make().float()
    given = views(dtype=torch.bfloat16)
    value = loss(*given)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(*(x.float() for x in given)), rtol=0, atol=0)


def test_nothing_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch, "autocast", lambda *_, **__: contextlib.nullcontext()
    )  # unknown on this device
    loss, given = warm(make()), [x.to("meta").requires_grad_() for x in views()]
    loss.to("meta")  # where any read of a value fails
    loss(*given).backward()
    loss.after_step()
    assert given[0].grad is not None


def test_memory_is_that_of_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_tiles, "NUMBERS", 2**16)
    n = 4096
    loss = make(8, capacity=n, prototypes=4, neighbours=2).float()
    given = views(0, n // 2, 8, torch.float32)
    loss(*given)
    loss.after_step()
    given = [x.requires_grad_() for x in views(1, n, 8, torch.float32)]
    with LargestTensor() as memory:
        loss(*given).backward()
    assert n * 8 < memory.numbers < n * n // 8


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("temperature: a finite positive", {"temperature": 0.0}),
        ("weight: a finite number", {"weight": -0.1}),
        ("neighbours: 0 to capacity=20", {"neighbours": 21}),
        ("neighbours: 0 to capacity=20", {"neighbours": -1}),
        ("start: 0 steps or more", {"start": -1}),
        ("prototypes: 1 to capacity", {"prototypes": 0}),
    ],
)
def test_bad_numbers_are_named(message: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_bad_views_are_named() -> None:
    x = torch.ones(3, D)
    loss = make()
    with pytest.raises(ValueError, match="first: .* N at least 2"):
        loss(*[torch.ones(1, D)] * 4)
    with pytest.raises(ValueError, match="target_second: shape"):
        loss(x, x, x, torch.ones(4, D))
    with pytest.raises(ValueError, match="second: torch.float32"):
        loss(x, x.double(), x, x)
    with pytest.raises(ValueError, match="first: 4 features"):
        loss(*[torch.ones(3, 5)] * 4)
