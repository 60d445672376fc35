"""``contrast`` against slow loops, closed forms and its own derivatives."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from nearfar.objectives import contrast


def slow(q: Tensor, k: Tensor | None, offset: int | None, temperature: float, similarity: str) -> list[float]:
    """The definition, one number at a time."""
    rows = q.tolist()
    keys = rows if k is None else k.tolist()

    def compare(a: list[float], b: list[float]) -> float:
        dot = math.fsum(x * y for x, y in zip(a, b, strict=True))
        if similarity == "dot":
            return dot
        return dot / (math.sqrt(math.fsum(x * x for x in a)) * math.sqrt(math.fsum(y * y for y in b)))

    losses = []
    for i, row in enumerate(rows):
        partner = i if offset is None else (i + offset) % len(rows)
        seen = [j for j in range(len(keys)) if k is not None or j != i]
        logits = {j: compare(row, keys[j]) / temperature for j in seen}
        top = max(logits.values())
        lse = top + math.log(math.fsum(math.exp(v - top) for v in logits.values()))
        losses.append(lse - logits[partner])
    return losses


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("temperature", [0.05, 1.0])
@pytest.mark.parametrize("num_rows", [1, 2, 7])
def test_equals_the_definition(similarity: str, temperature: float, num_rows: int) -> None:
    rng = torch.Generator().manual_seed(num_rows)
    q = torch.randn(num_rows, 5, generator=rng, dtype=torch.float64)
    k = torch.randn(num_rows, 5, generator=rng, dtype=torch.float64)
    options = {"temperature": temperature, "similarity": similarity, "reduction": "none"}

    one_way = contrast(q, k, **options)  # type: ignore[arg-type]
    assert one_way.tolist() == pytest.approx(slow(q, k, None, temperature, similarity), abs=1e-9)

    both = contrast(q, k, symmetric=True, **options)  # type: ignore[arg-type]
    back = contrast(k, q, **options)  # type: ignore[arg-type]
    assert both.tolist() == pytest.approx(((one_way + back) / 2).tolist(), abs=1e-9)

    stacked = torch.cat([q, k])
    views = contrast(stacked, positives=("paired", num_rows), **options)  # type: ignore[arg-type]
    assert views.tolist() == pytest.approx(slow(stacked, None, num_rows, temperature, similarity), abs=1e-9)


def test_known_answers() -> None:
    ones, eye = torch.ones(8, 3, dtype=torch.float64), torch.eye(8, dtype=torch.float64)
    assert contrast(ones, ones).item() == pytest.approx(math.log(8))
    assert contrast(torch.cat([ones, ones]), positives=("paired", 8)).item() == pytest.approx(math.log(15))
    scale = 1 / 0.1
    assert contrast(eye, eye).item() == pytest.approx(math.log(math.exp(scale) + 7) - scale)
    stacked = contrast(torch.cat([eye, eye]), positives=("paired", 8)).item()
    assert stacked == pytest.approx(math.log(math.exp(scale) + 14) - scale)
    assert contrast(eye[:1], eye[:1]).item() == 0  # no negatives


def test_invariances() -> None:
    rng = torch.Generator().manual_seed(0)
    a = torch.randn(6, 4, generator=rng, dtype=torch.float64)
    b = torch.randn(6, 4, generator=rng, dtype=torch.float64)
    order = torch.randperm(6, generator=rng)
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=rng, dtype=torch.float64)).Q
    value = contrast(torch.cat([a, b]), positives=("paired", 6)).item()
    for x, y in ((b, a), (a[order], b[order]), (a @ rotation, b @ rotation), (3 * a, 0.5 * b)):
        assert contrast(torch.cat([x, y]), positives=("paired", 6)).item() == pytest.approx(value, abs=1e-9)


def test_leading_dimensions_are_separate_problems() -> None:
    rng = torch.Generator().manual_seed(0)
    q, k = (torch.randn(2, 3, 5, 4, generator=rng) for _ in range(2))
    losses = contrast(q, k, reduction="none")
    assert losses.shape == (2, 3, 5)
    for i, j in itertools.product(range(2), range(3)):
        torch.testing.assert_close(losses[i, j], contrast(q[i, j], k[i, j], reduction="none"))


def test_gradients() -> None:
    rng = torch.Generator().manual_seed(0)
    q, k = (torch.randn(4, 3, generator=rng, dtype=torch.float64, requires_grad=True) for _ in range(2))
    temperature = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    for symmetric in (False, True):

        def loss(q: Tensor, k: Tensor, t: Tensor, symmetric: bool = symmetric) -> Tensor:
            return contrast(q, k, temperature=t, symmetric=symmetric)

        assert torch.autograd.gradcheck(loss, (q, k, temperature))
    assert torch.autograd.gradcheck(lambda q: contrast(q, positives=("paired", 2), similarity="dot"), (q,))


def test_extreme_logits_and_zero_rows_stay_finite() -> None:
    big = torch.full((4, 2), 100.0, requires_grad=True)
    loss = contrast(big, big, similarity="dot", temperature=1.0)
    zero = torch.zeros(4, 2, requires_grad=True)
    loss = loss + contrast(zero, zero + 1)
    loss.backward()
    assert torch.isfinite(loss)
    assert big.grad is not None
    assert zero.grad is not None
    assert torch.isfinite(big.grad).all()
    assert torch.isfinite(zero.grad).all()


def test_half_precision_is_computed_in_single() -> None:
    q = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    half = contrast(q.bfloat16(), q.bfloat16())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, contrast(q.bfloat16().float(), q.bfloat16().float()))


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("q: floating point", {"q": torch.ones(3, 2, dtype=torch.int64)}),
        ("q: floating point", {"q": torch.ones(3)}),
        ("q: at least one row", {"q": torch.ones(0, 2), "k": torch.ones(0, 2)}),
        ("k: torch.float32 of shape", {"q": torch.ones(3, 2), "k": torch.ones(2, 2)}),
        ("k: torch.float32 of shape", {"q": torch.ones(3, 2), "k": torch.ones(3, 2).double()}),
        ("k: positives='paired' needs keys", {"q": torch.ones(3, 2)}),
        ("2 P rows", {"q": torch.ones(3, 2), "positives": ("paired", 2)}),
        ("2 P rows", {"q": torch.ones(4, 2), "k": torch.ones(4, 2), "positives": ("paired", 2)}),
        ("positives: 'paired' or", {"q": torch.ones(4, 2), "positives": "pairs"}),
        ("symmetric: needs keys", {"q": torch.ones(4, 2), "positives": ("paired", 2), "symmetric": True}),
        ("temperature: a positive", {"q": torch.ones(3, 2), "k": torch.ones(3, 2), "temperature": 0}),
        ("temperature: a positive", {"q": torch.ones(3, 2), "k": torch.ones(3, 2), "temperature": math.nan}),
        (
            "temperature: one value",
            {"q": torch.ones(3, 2), "k": torch.ones(3, 2), "temperature": torch.ones(3)},
        ),
        ("similarity:", {"q": torch.ones(3, 2), "k": torch.ones(3, 2), "similarity": "l2"}),
        ("reduction:", {"q": torch.ones(3, 2), "k": torch.ones(3, 2), "reduction": "sum"}),
        ("backend:", {"q": torch.ones(3, 2), "k": torch.ones(3, 2), "backend": "fast"}),
    ],
)
def test_bad_arguments_are_named(message: str, arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        contrast(**arguments)  # type: ignore[arg-type]
