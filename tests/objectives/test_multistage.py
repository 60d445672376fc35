"""Stages of clusters: codes that nest, the loss against a loop, resume, and rows that are alone."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from nearfar.objectives.logsumexp import small_tiles
from nearfar.objectives.multistage import MultistageInfoNCE, stage_codes
from nearfar.objectives.ntxent import NTXent
from nearfar.testing import LargestTensor

ROWS, D = 30, 4


def draws(n: int, seed: int = 0, dim: int = D) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    z1, z2 = (torch.randn(n, dim, generator=rng, dtype=torch.float64) for _ in range(2))
    return z1, z2


def make(**options: Any) -> MultistageInfoNCE:
    return MultistageInfoNCE(D, ROWS, **{"clusters": 3, "stage_steps": 4, "temperature": 0.2} | options)


def epoch(loss: MultistageInfoNCE, number: int) -> None:
    """A stage of four steps that shows every row."""
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(number))
    for step, rows in enumerate(order.tensor_split(4)):
        loss(*draws(len(rows), 10 * number + step), rows)
        loss.after_step()


def slow(z1: Tensor, z2: Tensor, codes: Tensor, temperature: float) -> float:
    """The definition, pair by pair."""
    z = torch.nn.functional.normalize(torch.cat([z1, z2]).detach(), dim=1)
    n, total = len(z1), []
    for i in range(2 * n):
        terms = [
            math.exp(float(z[i] @ z[j]) / temperature)
            for j in range(2 * n)
            if j != i and codes[i % n] == codes[j % n]
        ]
        total.append(math.log(math.fsum(terms)) - float(z[i] @ z[(i + n) % (2 * n)]) / temperature)
    return math.fsum(total) / len(total)


def test_codes_are_equal_where_all_clusters_are() -> None:
    rng = torch.Generator().manual_seed(0)
    digits = torch.randint(4, (3, 200), generator=rng)
    codes = torch.zeros(200, dtype=torch.int64)
    for stage in range(3):
        codes = stage_codes(codes, digits[stage], 4)
        same = codes[:, None] == codes
        # The released label script has only the last digit, three times.
        expected = (digits[: stage + 1, :, None] == digits[: stage + 1, None]).all(0)
        assert torch.equal(same, expected)
    assert torch.equal(codes, 16 * digits[0] + 4 * digits[1] + digits[2])


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("num_clusters: at least 1", (torch.zeros(2).long(), torch.zeros(2).long(), 0)),
        ("previous: int64", (torch.zeros(2), torch.zeros(2).long(), 2)),
        ("clusters: int64 of shape", (torch.zeros(2).long(), torch.zeros(3).long(), 2)),
        ("clusters: 0 to 1 expected, got 0 to 2", (torch.zeros(2).long(), torch.tensor([0, 2]), 2)),
        ("previous: 0 to", (torch.tensor([0, -1]), torch.zeros(2).long(), 2)),
        ("previous: 0 to", (torch.tensor([0, 2**62]), torch.zeros(2).long(), 2)),
    ],
)
def test_bad_codes_are_named(message: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match=message):
        stage_codes(*arguments)


def test_equals_the_definition_in_every_stage() -> None:
    loss, rows = make(), torch.tensor([3, 17, 8, 20, 1, 29, 0, 12])
    z1, z2 = draws(8)
    values = []
    for stage in range(4):
        values.append(loss(z1, z2, rows).item())
        assert values[-1] == pytest.approx(slow(z1, z2, loss.codes[rows], 0.2), abs=1e-10)
        epoch(loss, stage)
    assert values[0] == pytest.approx(NTXent(0.2)(z1, z2).item(), abs=1e-10)
    assert values[0] > values[1] > values[2]  # fewer negatives each time
    assert values[2] == values[3]  # there is no fourth stage


def test_each_stage_refines_the_one_before() -> None:
    loss = make()
    codes = [loss.codes.clone()]
    for stage in range(3):
        epoch(loss, stage)
        codes.append(loss.codes.clone())
    for before, after in zip(codes[:2], codes[1:3], strict=True):
        same = after[:, None] == after
        assert not (same & (before[:, None] != before)).any()
        assert len(after.unique()) > len(before.unique())
    assert torch.equal(codes[2], codes[3])
    assert codes[1].bincount().tolist() == [10, 10, 10]


def test_clusters_are_those_of_the_features() -> None:
    loss, corners = make(stage_steps=1), torch.eye(D, dtype=torch.float64)[torch.arange(ROWS) % 3]
    z1, z2 = draws(ROWS)
    loss(corners + 0.05 * z1, corners + 0.05 * z2, torch.arange(ROWS))
    loss.after_step()
    groups = loss.codes.reshape(10, 3)
    assert (groups == groups[0]).all()
    assert len(groups[0].unique()) == 3


def test_features_are_those_seen_last() -> None:
    loss, rows = make(), torch.tensor([5, 2])
    for seed in range(2):
        z1, z2 = draws(2, seed)
        loss(z1, z2, rows)
        loss.after_step()
    half = sum(torch.nn.functional.normalize(z) for z in (z1, z2))
    expected = torch.nn.functional.normalize(half).float()  # type: ignore[arg-type]  # sum of tensors
    torch.testing.assert_close(loss.features[rows], expected)
    assert loss.features.any(1).sum() == 2
    assert not loss.features.requires_grad


def test_one_cluster_is_ntxent() -> None:
    loss = make(clusters=1)
    for stage in range(3):
        epoch(loss, stage)
    z1, z2 = draws(8)
    assert loss(z1, z2, torch.arange(8)).item() == pytest.approx(NTXent(0.2)(z1, z2).item(), abs=1e-12)


def test_a_row_that_is_alone_keeps_its_positive() -> None:
    loss = make()
    loss.codes.copy_(torch.arange(ROWS))
    z1, z2 = (z.requires_grad_() for z in draws(6))
    value = loss(z1, z2, torch.arange(6))
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-12)
    assert z1.grad is not None
    assert z1.grad.abs().max() < 1e-10
    loss.codes[:3] = 0
    expected = slow(z1, z2, loss.codes[:6], 0.2)
    assert loss(z1, z2, torch.arange(6)).item() == pytest.approx(expected, abs=1e-10)


def test_few_rows_seen_make_few_clusters() -> None:
    loss = make(clusters=10, stage_steps=1)
    loss.after_step()  # nothing seen at all
    assert not loss.codes.any()
    loss(*draws(2), torch.tensor([4, 7]))
    loss.after_step()
    assert loss.codes[[4, 7]].sort().values.tolist() == [0, 1]
    assert loss.codes.sum() == 1


def test_goes_on_from_a_checkpoint_in_the_middle_of_a_stage() -> None:
    loss = make()
    epoch(loss, 0)
    rows = torch.arange(ROWS).chunk(3)
    loss(*draws(len(rows[0]), 7), rows[0])
    loss.after_step()
    file = io.BytesIO()
    torch.save(loss.state_dict(), file)
    other = make()
    other.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    for step in range(4):
        z1, z2 = draws(10, step)
        part = rows[step % 3]
        assert torch.equal(loss(z1, z2, part), other(z1, z2, part))
        loss.after_step()
        other.after_step()
        assert torch.equal(loss.codes, other.codes)
    assert len(loss.codes.unique()) > 3


def test_derivatives_and_precision() -> None:
    loss = make()
    epoch(loss, 0)
    z1, z2 = (z.requires_grad_() for z in draws(6))
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b, torch.arange(6)), (z1, z2))
    half = [z.detach().bfloat16() for z in (z1, z2)]
    value = loss(*half, torch.arange(6))
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(*(z.float() for z in half), torch.arange(6)), rtol=0, atol=0)


def test_memory_is_that_of_tiles() -> None:
    n = 4096
    loss = MultistageInfoNCE(8, n)
    loss.codes.copy_(torch.arange(n) % 5)
    z1, z2 = (z.float().requires_grad_() for z in draws(n, dim=8))
    with small_tiles(256), LargestTensor() as memory:
        loss(z1, z2, torch.arange(n)).backward()
    assert n * 8 < memory.numbers < n * n // 8


@pytest.mark.parametrize("name", ["dim", "num_rows", "clusters", "stages", "stage_steps"])
def test_bad_sizes_are_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: at least 1"):
        MultistageInfoNCE(**{"dim": 4, "num_rows": 4} | {name: 0})  # type: ignore[arg-type]


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="stages: clusters"):
        make(clusters=10, stages=20)
    with pytest.raises(ValueError, match="temperature"):
        make(temperature=0.0)
    x, loss = torch.ones(3, D), make()
    for message, arguments in (
        ("second: shape", (x, torch.ones(2, D), torch.arange(3))),
        ("first: 4 features", (torch.ones(3, 5), torch.ones(3, 5), torch.arange(3))),
        ("rows: int64", (x, x, torch.ones(3))),
        (r"rows: int64 of shape \(3,\)", (x, x, torch.arange(2))),
        ("rows: 0 to 29 expected, got 0 to 30", (x, x, torch.tensor([0, 1, 30]))),
        ("rows: 0 to 29 expected, got -1", (x, x, torch.tensor([0, -1, 3]))),
    ):
        with pytest.raises(ValueError, match=message):
            loss(*arguments)
