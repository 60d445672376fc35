"""``contrast`` by every backend against closed forms, float64 and stored values, at sizes of several tiles."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from nearfar.objectives import contrast

BACKENDS = ("dense", "auto", "tiled")
KINDS = ("nt_xent", "one_way", "symmetric")
LARGEST_DENSE = 2048
RAGGED = 801  # rows a view: more than a tile on a CPU, and no multiple of one

# Float32 of the views below at temperature 0.1, as eager PyTorch gives them where it fits; lightly's
# NTXentLoss, pytorch-metric-learning's SupConLoss and (to 256) NTXentLoss gave the same NT-Xent.
STORED = {
    "nt_xent": {
        64: 5.24195,
        128: 5.97458,
        256: 6.67058,
        512: 7.29765,
        1024: 7.97431,
        2048: 8.67905,
        4096: 9.40324,
        8192: 10.09356,
        16384: 10.78779,
        32768: 11.48282,
    },
    "one_way": {1024: 7.28123, 2048: 7.98559, 4096: 8.71028, 8192: 9.40042, 32768: 10.78966},
    "symmetric": {1024: 7.28127, 2048: 7.98562, 4096: 8.71029, 8192: 9.40043, 32768: 10.78966},
}


def value(kind: str, a: Tensor, b: Tensor, **options: Any) -> Tensor:
    """The loss of two views, shapes ``(N, d)``."""
    if kind == "nt_xent":
        loss: Tensor = contrast(torch.cat([a, b]), positives=("paired", len(a)), **options)
    else:
        loss = contrast(a, b, symmetric=kind == "symmetric", **options)
    return loss


def views(num_rows: int, width: int = 128) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    a = torch.randn(num_rows, width, generator=rng)
    return a, torch.randn(num_rows, width, generator=rng)


def with_gradients(kind: str, a: Tensor, b: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    """Loss, and the gradient of both views stacked, shape ``(2 N, d)``, in float64."""
    a, b = a.clone().requires_grad_(), b.clone().requires_grad_()
    loss = value(kind, a, b, **options)
    return loss.detach().double(), torch.cat(torch.autograd.grad(loss, (a, b))).double()


def error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def stored_cases() -> list[Any]:
    cases = []
    for backend in BACKENDS:
        for kind, table in STORED.items():
            for size, expected in table.items():
                if backend != "dense" or size <= LARGEST_DENSE:
                    marks = [pytest.mark.slow] if size == 32768 else []
                    cases.append(pytest.param(backend, kind, size, expected, marks=marks))
    return cases


@pytest.mark.parametrize(("backend", "kind", "size", "expected"), stored_cases())
def test_stored_values(backend: str, kind: str, size: int, expected: float) -> None:
    assert value(kind, *views(size), temperature=0.1, backend=backend).item() == pytest.approx(
        expected, abs=2e-5
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", [1.0, 0.1, 0.02, 0.01])
def test_equal_rows_are_chance(backend: str, kind: str, temperature: float) -> None:
    rows = torch.ones(RAGGED, 4)
    candidates = 2 * RAGGED - 1 if kind == "nt_xent" else RAGGED
    loss, gradient = with_gradients(kind, rows, rows, temperature=temperature, backend=backend)
    assert loss.item() == pytest.approx(math.log(candidates), abs=2e-5)
    assert gradient.abs().max() < 1e-6  # nowhere to go on the sphere


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", [1.0, 0.1, 0.01])
def test_equal_views_of_orthonormal_rows(backend: str, kind: str, temperature: float) -> None:
    rows = torch.eye(RAGGED)
    negatives = 2 * RAGGED - 2 if kind == "nt_xent" else RAGGED - 1
    found = value(kind, rows, rows, temperature=temperature, backend=backend).item()
    assert found == pytest.approx(math.log1p(negatives * math.exp(-1 / temperature)), abs=2e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("num_rows", "temperature"),
    [(64, 1.0), (64, 0.02), (64, 0.01), (64, 0.005), (64, 0.001), (RAGGED, 0.02), (RAGGED, 0.005)],
)
def test_orthogonal_views_do_not_underflow(
    backend: str, kind: str, num_rows: int, temperature: float
) -> None:
    # Every logit is 0, whatever the temperature. Shifted by its largest possible value 1 / temperature,
    # every term of the sum is exp(-1 / temperature): denormal at 0.01, nothing at 0.005.
    rows = torch.eye(2 * num_rows)
    a, b = rows[:num_rows], rows[num_rows:]
    loss, gradient = with_gradients(kind, a, b, temperature=temperature, backend=backend)
    candidates = 2 * num_rows - 1 if kind == "nt_xent" else num_rows
    assert loss.item() == pytest.approx(math.log(candidates), abs=2e-5)
    # Candidates weigh 1 / c and the positive 1 / c - 1 besides, at right angles to the row and each other.
    length = math.sqrt((candidates - 1) / candidates) / (num_rows * temperature)
    torch.testing.assert_close(
        gradient.norm(dim=1), torch.full((2 * num_rows,), length).double(), rtol=1e-5, atol=0
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", KINDS)
def test_gaussian_rows_in_many_dimensions(backend: str, kind: str) -> None:
    # Cosines of independent rows are nearly normal with variance 1 / d, so the mean of the exponential of a
    # logit is exp(1 / (2 temperature^2 d)); the positives' own mean is noise around 0 and taken out.
    width, temperature = 2048, 0.05
    a, b = views(RAGGED, width)
    positive = torch.nn.functional.cosine_similarity(a, b).mean() / temperature
    found = value(kind, a, b, temperature=temperature, backend=backend) + positive
    candidates = 2 * RAGGED - 1 if kind == "nt_xent" else RAGGED
    expected = math.log(candidates) + 1 / (2 * temperature**2 * width)
    assert found.item() == pytest.approx(expected, abs=5e-3)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", [1.0, 0.1, 0.02, 0.01])
def test_float32_is_as_good_as_float32_can_be(backend: str, kind: str, temperature: float) -> None:
    a, b = views(RAGGED)
    loss, gradient = with_gradients(kind, a, b, temperature=temperature, backend=backend)
    exact, direction = with_gradients(kind, a.double(), b.double(), temperature=temperature, backend="dense")
    assert loss.item() == pytest.approx(exact.item(), rel=1e-6)
    # The part that grows is the rounding of the logits, which eager PyTorch has as well (1.1e-6 at 0.01).
    assert error(gradient, direction) < 3e-7 + 1.2e-8 / temperature


@pytest.mark.parametrize("backend", ["auto", "tiled"])
@pytest.mark.parametrize("kind", KINDS)
def test_float64_stays_float64(backend: str, kind: str) -> None:
    a, b = (x.double() for x in views(RAGGED, 16))
    loss, gradient = with_gradients(kind, a, b, backend=backend)
    exact, direction = with_gradients(kind, a, b, backend="dense")
    assert loss.item() == pytest.approx(exact.item(), rel=1e-13)
    assert error(gradient, direction) < 1e-12


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", KINDS)
def test_huge_logits_do_not_overflow(backend: str, kind: str) -> None:
    a, b = views(RAGGED, 16)
    a[0], b[1] = 20 * torch.ones(16), -20 * torch.ones(16)
    b[0], a[1] = -a[0], -b[1]  # partners at -10^4 and -10^4, others at +10^4
    b[2] = a[2] = 25 * torch.eye(16)[0]
    scale = math.sqrt(1e4 / float((torch.cat([a, b]) @ torch.cat([a, b]).T).abs().max()))
    a, b = scale * a, scale * b
    options = {"similarity": "dot", "temperature": 1.0}
    assert float((a @ b.T).abs().max()) == pytest.approx(1e4, rel=1e-5)
    loss, gradient = with_gradients(kind, a, b, backend=backend, **options)
    exact, direction = with_gradients(kind, a.double(), b.double(), backend="dense", **options)
    assert torch.isfinite(gradient).all()
    assert loss.item() == pytest.approx(exact.item(), rel=1e-6)
    # A logit of 10^4 is itself uncertain by 10^-3 in float32, and so is every probability.
    assert error(gradient, direction) < 1e-3


def permuted(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    order = torch.randperm(len(a), generator=torch.Generator().manual_seed(1))
    return a[order], b[order]


def rotated(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    square = torch.randn(16, 16, generator=torch.Generator().manual_seed(1), dtype=a.dtype)
    rotation = torch.linalg.qr(square).Q
    return a @ rotation, b @ rotation


def swapped(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return b, a


def scaled(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    length = torch.linspace(0.5, 4, len(a), dtype=a.dtype)[:, None]
    return a * length, b / length


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", [permuted, rotated, swapped, scaled])
def test_invariances(
    backend: str, kind: str, change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
) -> None:
    a, b = (x.double() for x in views(RAGGED, 16))
    before = value(kind, a, b, backend=backend).item()
    after = value(kind, *change(a, b), backend=backend).item()
    if kind == "one_way" and change is swapped:
        assert abs(after - before) > 1e-3  # the two directions are different losses
    else:
        assert after == pytest.approx(before, rel=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_only_differences_between_keys_matter(backend: str) -> None:
    # A vector added to every key adds one number to all logits of a row.
    a, b = (x.double() for x in views(RAGGED, 16))
    options: Any = {"similarity": "dot", "temperature": 2.0, "backend": backend}
    loss, gradient = with_gradients("one_way", a, b, **options)
    moved = value("one_way", a, b + torch.arange(16) / 8, **options)
    assert moved.item() == pytest.approx(loss.item(), rel=1e-9)
    assert gradient[RAGGED:].sum(0).abs().max() < 1e-9
    assert gradient[RAGGED:].abs().max() > 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_duplicates(backend: str, kind: str, temperature: float) -> None:
    # 50 directions at right angles, each 17 times in a view.
    num_directions, times = 50, 17
    rows = torch.eye(num_directions).repeat(times, 1)
    seen, same = len(rows), times
    if kind == "nt_xent":
        seen, same = 2 * seen - 1, 2 * same - 1
    loss, gradient = with_gradients(kind, rows, rows, temperature=temperature, backend=backend)
    expected = math.log(same + (seen - same) * math.exp(-1 / temperature))
    assert loss.item() == pytest.approx(expected, abs=2e-5)
    # Duplicates are treated alike.
    groups = gradient.reshape(-1, num_directions, num_directions)
    torch.testing.assert_close(groups, groups[:1].expand_as(groups), rtol=1e-4, atol=1e-8)
