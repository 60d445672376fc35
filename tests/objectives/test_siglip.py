"""SigLIP: the dense sum against a loop, the tiles against the dense sum, memory, and what is refused."""

from __future__ import annotations

import math
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from nearfar.objectives.siglip import SigLIP, siglip_loss


def slow(q: Tensor, k: Tensor, scale: float, bias: float) -> float:
    """The definition, one number at a time."""
    loss = 0.0
    for i, a in enumerate(q.tolist()):
        for j, b in enumerate(k.tolist()):
            cosine = math.fsum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))
            logit = (scale * cosine + bias) * (1 if i == j else -1)
            loss -= -math.log1p(math.exp(-logit)) if logit > -700 else logit
    return loss / len(q)


def draws(num_rows: int, num_features: int = 5, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(num_rows)
    q = torch.randn(num_rows, num_features, generator=rng, dtype=torch.float64)
    k = q + torch.randn(num_rows, num_features, generator=rng, dtype=torch.float64)
    return q.to(dtype), k.to(dtype)


@pytest.mark.parametrize(
    "options", [{"backend": "dense"}, *({"backend": "tiled", "tile": t} for t in (1, 3, 7, 9))]
)
@pytest.mark.parametrize(("scale", "bias"), [(10.0, -10.0), (1.0, 0.0), (50.0, -2.0), (60.0, 30.0)])
@pytest.mark.parametrize("num_rows", [1, 2, 7])
def test_equals_the_definition(num_rows: int, scale: float, bias: float, options: dict[str, Any]) -> None:
    q, k = draws(num_rows)
    expected = slow(q, k, scale, bias)
    assert siglip_loss(q, k, scale, bias, **options).item() == pytest.approx(expected, rel=1e-10)
    assert siglip_loss(3 * q, 0.1 * k, scale, bias, **options).item() == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("backend", ["dense", "tiled"])
def test_known_answers(backend: Any) -> None:
    eye = torch.eye(8, dtype=torch.float64)
    positive, negative = math.log1p(math.exp(-0.0)), math.log1p(math.exp(-10.0))
    # Aligned: logits 0 on the diagonal, -10 beside it.
    assert siglip_loss(eye, eye, backend=backend, tile=3).item() == pytest.approx(positive + 7 * negative)
    # Equal rows and logit 0: every one of 8 keys a coin toss.
    ones = torch.ones(8, 3, dtype=torch.float64)
    chance = siglip_loss(ones, ones, 4.0, -4.0, backend=backend, tile=3).item()
    assert chance == pytest.approx(8 * math.log(2), rel=1e-9)
    # Logits of 20.5: beyond 20, but not beyond float64.
    wrong = siglip_loss(ones[:2], ones[:2], 20.5, 0.0, backend=backend, tile=1).item()
    assert wrong == pytest.approx(20.5 + 2 * math.log1p(math.exp(-20.5)), abs=2e-10)


@pytest.mark.parametrize("tile", [1, 2, 4, 5])
def test_gradients_of_the_tiles(tile: int) -> None:
    q, k = (x.requires_grad_() for x in draws(5, 3))
    scale, bias = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (2.0, -0.5))

    def tiled(*inputs: Tensor) -> Tensor:
        return siglip_loss(*inputs, backend="tiled", tile=tile)

    assert torch.autograd.gradcheck(tiled, (q, k, scale, bias))
    everything = (q, k, scale, bias)
    expected = torch.autograd.grad(3 * siglip_loss(*everything, backend="dense"), everything)
    found = torch.autograd.grad(3 * tiled(*everything), everything)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    # Frozen keys: nothing is computed for them, the rest is the same.
    frozen = torch.autograd.grad(3 * tiled(q, k.detach(), scale, bias), (q, scale, bias))
    torch.testing.assert_close(frozen, (expected[0], *expected[2:]), rtol=1e-10, atol=1e-12)


def test_tiles_in_single_precision_are_as_good_as_double() -> None:
    q, k = draws(300, 16)
    q = q + k  # well aligned: the positives' terms are tiny and must not be differences of large numbers
    for scale, bias in ((10.0, -10.0), (40.0, -16.0)):
        results = {}
        for dtype in (torch.float64, torch.float32):
            inputs = q.to(dtype).requires_grad_(), k.to(dtype).requires_grad_()
            loss = siglip_loss(
                *inputs, scale, bias, backend="dense" if dtype == torch.float64 else "tiled", tile=128
            )
            results[dtype] = [loss.detach(), *torch.autograd.grad(loss, inputs)]
        for wide, narrow in zip(results[torch.float64], results[torch.float32], strict=True):
            assert (narrow - wide).norm() / wide.norm() < 2e-6


def test_a_confident_positive_keeps_its_value_and_gradient() -> None:
    q = torch.eye(2)[:1].requires_grad_()
    scale = torch.tensor(20.0, requires_grad=True)
    loss = siglip_loss(q, q.detach(), scale, 0.0, backend="tiled")
    loss.backward()
    # log(1 + e^-20) is not a difference of 20 and 20 in float32, nor its derivative one of 1 and 1.
    assert loss.item() == pytest.approx(math.log1p(math.exp(-20)), rel=1e-5)
    assert scale.grad is not None
    assert scale.grad.item() == pytest.approx(-1 / (1 + math.exp(20)), rel=1e-5)


def test_second_derivatives() -> None:
    q, k = (x.requires_grad_() for x in draws(4, 3))
    assert torch.autograd.gradgradcheck(lambda q, k: siglip_loss(q, k, backend="dense"), (q, k))
    (first,) = torch.autograd.grad(siglip_loss(q, k, backend="tiled", tile=2), q, create_graph=True)
    with pytest.raises(RuntimeError, match='use backend="dense"'):
        first.sum().backward()


class Alive(TorchDispatchMode):
    """Counts the elements of all storages alive at once, those made inside."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **kwargs or {})
        for x in result if isinstance(result, tuple | list) else [result]:
            if isinstance(x, Tensor) and x.untyped_storage().data_ptr() not in self.known:
                self._count(x.untyped_storage())
        return result

    def _count(self, storage: Any) -> None:
        key, size = storage.data_ptr(), storage.nbytes() // 4
        self.known.add(key)
        self.alive += size
        self.peak = max(self.peak, self.alive)

        def forget() -> None:
            self.known.discard(key)
            self.alive -= size

        weakref.finalize(storage, forget)


@pytest.mark.parametrize("backend", ["tiled", "auto"])
def test_memory_is_that_of_tiles(backend: Any) -> None:
    num_rows, num_features, tile = 1024, 8, 64
    q, k = (x.requires_grad_() for x in draws(num_rows, num_features, torch.float32))
    with Alive() as memory:
        siglip_loss(q, k, backend=backend, tile=tile).backward()
    assert memory.peak > tile**2  # it does count
    assert memory.peak < 20 * num_rows * num_features + 8 * tile**2 < num_rows**2 / 4


def test_auto_is_dense_within_one_tile() -> None:
    q, k = (x.requires_grad_() for x in draws(6))
    (first,) = torch.autograd.grad(siglip_loss(q, k, tile=6), q, create_graph=True)
    first.sum().backward()
    (first,) = torch.autograd.grad(siglip_loss(q, k, tile=5), q, create_graph=True)
    with pytest.raises(RuntimeError, match="dense"):
        first.sum().backward()


@pytest.mark.parametrize("backend", ["dense", "tiled"])
def test_half_precision_and_autocast_are_computed_in_single(backend: Any) -> None:
    q, k = (x.requires_grad_() for x in draws(9, dtype=torch.bfloat16))
    wide = [x.detach().float().requires_grad_() for x in (q, k)]
    expected = siglip_loss(*wide, backend=backend, tile=4)
    expected.backward()
    loss = siglip_loss(q, k, backend=backend, tile=4)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=0, atol=0)
    loss.backward()
    assert q.grad is not None
    assert wide[0].grad is not None
    torch.testing.assert_close(q.grad, wide[0].grad.bfloat16(), rtol=0, atol=0)
    again = [x.detach().requires_grad_() for x in wide]
    with torch.autocast("cpu"):
        loss = siglip_loss(*again, backend=backend, tile=4)
        if backend == "tiled":
            loss.backward()  # its own products are float32 even there; PyTorch advises against it
    if backend == "dense":
        loss.backward()
    torch.testing.assert_close(loss, expected, rtol=0, atol=0)
    torch.testing.assert_close(again[0].grad, wide[0].grad, rtol=0, atol=0)


def test_module_starts_as_in_the_paper_and_learns_scale_and_bias() -> None:
    q, k = draws(6, dtype=torch.float32)
    loss = SigLIP(tile=4)
    value = loss(q, k)
    torch.testing.assert_close(value, siglip_loss(q, k, 10.0, -10.0))
    value.backward()
    scale = torch.tensor(10.0, requires_grad=True)
    siglip_loss(q, k, scale, -10.0, backend="dense").backward()
    assert loss.log_scale.grad is not None
    assert loss.bias.grad is not None
    assert scale.grad is not None
    assert loss.log_scale.grad.item() == pytest.approx(10 * scale.grad.item(), rel=1e-5)
    assert loss.config == {
        "init_log_scale": math.log(10),
        "init_bias": -10.0,
        "backend": "auto",
        "tile": 4,
    }
    assert "tile=4" in repr(loss)
    # Parameters of one precision serve inputs of another.
    assert loss(q.double(), k.double()).dtype == torch.float64


def test_inputs_are_not_changed() -> None:
    q, k = draws(6)
    before = q.clone(), k.clone()
    siglip_loss(q.requires_grad_(), k, backend="tiled", tile=4).backward()
    assert torch.equal(q.detach(), before[0])
    assert torch.equal(k, before[1])


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("q: floating point", {"q": torch.ones(3, 2, dtype=torch.int64)}),
        ("q: .* got shape", {"q": torch.ones(2, 3, 2)}),
        ("k: shape", {"k": torch.ones(4, 2)}),
        ("k: finite", {"k": torch.full((3, 2), math.nan)}),
        ("scale: a positive", {"scale": 0.0}),
        ("scale: a positive", {"scale": math.nan}),
        ("scale: one value", {"scale": torch.ones(2)}),
        ("bias: a finite", {"bias": math.inf}),
        ("bias: one value", {"bias": torch.ones(2)}),
        ("backend: 'auto'", {"backend": "fast"}),
        ("tile: at least 1", {"tile": 0}),
    ],
)
def test_bad_arguments_are_named(message: str, arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=message):
        siglip_loss(**{"q": torch.ones(3, 2), "k": torch.ones(3, 2)} | arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "arguments", [{"init_log_scale": math.nan}, {"init_bias": math.inf}, {"backend": "fast"}, {"tile": 0}]
)
def test_bad_hyper_parameters_are_named(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        SigLIP(**arguments)
