"""``chunked_backward`` against ``backward()`` through the same chunks with the same random numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nearfar.training.chunked import chunked_backward
from nearfar.training.ema import EMA


class Encoder(nn.Module):
    """Dropout, batch normalisation, a frozen layer, several inputs, and a count of calls."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.frozen = nn.Linear(3, 8), nn.Linear(8, 4), nn.Linear(4, 4)
        self.frozen.requires_grad_(False)
        self.norm, self.dropout = nn.BatchNorm1d(8), nn.Dropout(0.4)
        self.rows: list[int] = []

    def forward(self, x: Tensor, shift: Tensor | None = None) -> Tensor:
        self.rows.append(len(x))
        hidden = self.dropout(self.norm(self.first(x)).tanh())
        out: Tensor = self.frozen(self.last(hidden))
        return out if shift is None else out + shift[:, None]


class PowerIteration(nn.Module):
    """An encoder whose output depends on a buffer that every call changes."""

    direction: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[2.0, 1.0], [0.5, 1.5]]))
        self.register_buffer("direction", torch.tensor([1.0, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.direction.copy_(F.normalize(self.weight @ self.direction, dim=0))
        out: Tensor = x @ self.weight.T / (self.weight @ self.direction.clone()).norm()
        return out


class Loss(nn.Module):
    """Couples all rows of two views; has a parameter and dropout of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(0.7))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        logits = F.normalize(F.dropout(a, 0.1), dim=1) @ F.normalize(b, dim=1).T * self.log_scale.exp()
        return F.cross_entropy(logits, torch.arange(len(a)))


def made(kind: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return kind().double()


def draws(num_rows: int = 10, num_features: int = 3) -> list[Tensor]:
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(num_rows, num_features, generator=rng, dtype=torch.float64) for _ in range(2)]


def plain(encoder: nn.Module, view: tuple[Tensor, ...], chunk: int) -> Tensor:
    return torch.cat([encoder(*parts) for parts in zip(*(x.split(chunk) for x in view), strict=True)])


def state(*modules: nn.Module) -> list[Tensor | None]:
    """Gradients and buffers."""
    found: list[Tensor | None] = []
    for module in modules:
        found += [parameter.grad for parameter in module.parameters()]
        found += [buffer.clone() for buffer in module.buffers()]
    return found


def assert_equal(found: list[Tensor | None], expected: list[Tensor | None]) -> None:
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.fixture(autouse=True)
def _fixed_random_state() -> object:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        yield


@pytest.mark.parametrize("chunk", [2, 4, 10, 99])
@pytest.mark.parametrize("training", [True, False])
def test_gradients_buffers_and_random_state_equal_plain_backward(chunk: int, training: bool) -> None:
    a, b = draws()
    shift = torch.arange(10.0, dtype=torch.float64)
    views: list[tuple[Tensor, ...]] = [(a, shift), (b, shift)]
    results, after = [], []
    for chunked in (True, False):
        torch.manual_seed(5)
        encoder, loss_fn = made(Encoder).train(training), made(Loss)
        if chunked:
            loss = chunked_backward(encoder, list(views), loss_fn, chunk)
            assert not loss.requires_grad
        else:
            loss = loss_fn(*(plain(encoder, view, chunk) for view in views))
            loss.backward()
        results.append([loss.detach(), *state(encoder, loss_fn)])
        after.append(torch.rand(3))
    assert_equal(*results)
    assert torch.equal(*after)
    grads = state(made(Encoder))
    assert grads[0] is None  # fresh ones have none, these do
    assert results[0][1] is not None


def test_gradients_are_added() -> None:
    (a, b), loss_fn = draws(), made(Loss)
    encoder = made(Encoder).eval()
    chunked_backward(encoder, [a, b], loss_fn.eval(), 3)
    once = [parameter.grad.clone() for parameter in encoder.parameters() if parameter.grad is not None]
    torch.manual_seed(3)
    chunked_backward(encoder, [a, b], loss_fn, 3)
    torch.manual_seed(3)
    fresh = made(Encoder).eval()
    chunked_backward(fresh, [a, b], made(Loss), 3)
    for parameter, first, second in zip(
        [p for p in encoder.parameters() if p.requires_grad],
        once,
        [p.grad for p in fresh.parameters() if p.requires_grad],
        strict=True,
    ):
        assert parameter.grad is not None
        assert second is not None
        torch.testing.assert_close(parameter.grad, first + second, rtol=1e-12, atol=1e-12)


def test_at_most_one_chunk_has_a_graph() -> None:
    encoder, (a, b) = made(Encoder), draws()
    assert isinstance(encoder, Encoder)
    alive: list[int] = []

    def watch(module: nn.Module, args: object, out: Tensor) -> None:
        if out.requires_grad:
            alive.append(1)
            out.register_hook(lambda grad: alive.pop() and None)
            assert len(alive) == 1

    encoder.register_forward_hook(watch)
    chunked_backward(encoder, [a, b], made(Loss), 4)
    assert encoder.rows == 2 * [4, 4, 2, 4, 4, 2]
    assert not alive


def test_one_view() -> None:
    a, _ = draws()
    encoders = [made(Encoder), made(Encoder)]
    torch.manual_seed(1)
    loss = chunked_backward(encoders[0], a, lambda z: (z @ z.T).square().mean(), 4)
    torch.manual_seed(1)
    z = plain(encoders[1], (a,), 4)
    expected = (z @ z.T).square().mean()
    expected.backward()
    assert_equal([loss, *state(encoders[0])], [expected.detach(), *state(encoders[1])])


def test_encoder_per_view_and_constant_targets() -> None:
    a, b = draws()
    results = []
    for chunked in (True, False):
        torch.manual_seed(2)
        online, predictor, loss_fn = made(Encoder), nn.Identity(), made(Loss)
        target, other = EMA(made(Encoder, 1)), made(Encoder, 2)
        modules = [nn.Sequential(online, predictor), target, other]

        def loss_of(x: Tensor, y: Tensor, z: Tensor, loss_fn: nn.Module = loss_fn) -> Tensor:
            value: Tensor = loss_fn(x, y) + z.square().mean()
            return value

        if chunked:
            loss = chunked_backward(modules, [a, b, a], loss_of, 4)
        else:
            x, y, z = (plain(m, (v,), 4) for m, v in zip(modules, (a, b, a), strict=True))
            loss = loss_of(x, y, z)
            loss.backward()
        results.append([loss.detach(), *state(*modules, loss_fn)])
    assert_equal(*results)


def test_target_without_buffers_is_encoded_once() -> None:
    a, b = draws()
    target = nn.Linear(3, 4).double()
    calls: list[int] = []
    target.register_forward_hook(lambda module, args, out: calls.append(len(out)))
    online = nn.Linear(3, 4).double()
    chunked_backward([online, target], [a, b], lambda x, y: (x - y.detach()).square().sum(), 5)
    assert calls == [5, 5]
    assert online.weight.grad is not None
    assert target.weight.grad is None


@pytest.mark.parametrize("detached", [False, True])
def test_buffers_that_decide_the_output_are_replayed(detached: bool) -> None:
    a, b = draws(num_features=2)
    results = []

    def loss_of(x: Tensor, y: Tensor) -> Tensor:
        return (x.detach() if detached else x).square().mean() * y.square().mean()

    for chunked in (True, False):
        encoder = made(PowerIteration)
        if chunked:
            loss = chunked_backward(encoder, [a, b], loss_of, 4)
        else:
            loss = loss_of(plain(encoder, (a,), 4), plain(encoder, (b,), 4))
            loss.backward()
        results.append([loss.detach(), *state(encoder)])
    assert_equal(*results)


def test_gradients_reach_the_inputs() -> None:
    a, b = (x.requires_grad_() for x in draws())
    encoder = made(Encoder).eval()
    chunked_backward(encoder, [a, b], lambda x, y: (x * y).sum(), 3)
    expected = torch.autograd.grad((plain(encoder, (a,), 3) * plain(encoder, (b,), 3)).sum(), (a, b))
    assert a.grad is not None
    torch.testing.assert_close(a.grad, expected[0], rtol=1e-12, atol=1e-12)


def test_autocast_applies_to_both_passes() -> None:
    a, b = (x.float() for x in draws())
    results, dtypes = [], set()
    for chunked in (True, False):
        encoder, loss_fn = made(Encoder).float(), made(Loss).float()
        encoder.register_forward_hook(lambda module, args, out: dtypes.add(out.dtype))
        torch.manual_seed(4)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            if chunked:
                loss = chunked_backward(encoder, [a, b], loss_fn, 4)
            else:
                loss = loss_fn(plain(encoder, (a,), 4), plain(encoder, (b,), 4))
        if not chunked:
            loss.backward()
        results.append([loss.detach(), *state(encoder, loss_fn)])
    assert dtypes == {torch.bfloat16}
    for found, expected in zip(*results, strict=True):
        assert (found is None) == (expected is None)
        if found is not None:
            # bfloat16 gradients of the weights are added up in another order.
            torch.testing.assert_close(found, expected, rtol=0.05, atol=2e-3)


ENCODER, ROWS = nn.Linear(3, 2), torch.ones(4, 3)


@pytest.mark.parametrize(
    ("message", "encoder", "inputs", "loss_fn", "chunk"),
    [
        ("chunk: at least 1", ENCODER, ROWS, torch.sum, 0),
        ("encoder: one module, or one a view", [ENCODER], [ROWS, ROWS], torch.sum, 2),
        ("encoder: one module, or one a view", ENCODER, [], torch.sum, 2),
        ("encoder: a tensor of 2 rows expected, got shape", nn.Flatten(0), ROWS, torch.sum, 2),
        ("encoder: a tensor of 2 rows expected, got tuple", nn.GRU(3, 2), ROWS, torch.sum, 2),
        ("inputs: tensors with equally many rows", ENCODER, (ROWS, ROWS[:3]), torch.sum, 2),
        ("inputs: tensors with equally many rows", ENCODER, (), torch.sum, 2),
        ("inputs: tensors with equally many rows", ENCODER, ROWS[:0], torch.sum, 2),
        ("inputs: on CPU or CUDA", ENCODER, ROWS.to("meta"), torch.sum, 2),
        ("loss_fn: a scalar", ENCODER, ROWS, lambda z: z, 2),
    ],
)
def test_bad_arguments_are_named(
    message: str, encoder: nn.Module, inputs: Tensor, loss_fn: Callable[..., Tensor], chunk: int
) -> None:
    with pytest.raises(ValueError, match=message):
        chunked_backward(encoder, inputs, loss_fn, chunk)
