"""``EMA`` against its closed form, and that it is a copy in every respect."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from nearfar.training.ema import EMA, cosine_momentum


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()


def weights(module: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.9, 1.0])
def test_closed_form_with_a_constant_source(momentum: float) -> None:
    first, source = network(0), network(1)
    ema = EMA(first, momentum)
    for _ in range(7):
        ema.update(source)
    left = momentum**7
    for found, old, new in zip(weights(ema.module), weights(first), weights(source), strict=True):
        torch.testing.assert_close(found, left * old + (1 - left) * new, rtol=0, atol=1e-12)


def test_equals_a_loop_with_a_schedule() -> None:
    source = network()
    ema, expected = EMA(source), weights(source)
    rng = torch.Generator().manual_seed(0)
    for step in range(5):
        for parameter in source.parameters():
            parameter.data += torch.randn(parameter.shape, generator=rng, dtype=torch.float64)
        momentum = cosine_momentum(step, 5)
        ema.update(source, momentum)
        expected = [
            momentum * old + (1 - momentum) * new for old, new in zip(expected, weights(source), strict=True)
        ]
    for found, value in zip(weights(ema.module), expected, strict=True):
        torch.testing.assert_close(found, value, rtol=0, atol=1e-12)


def test_buffers_are_copied() -> None:
    source = network()
    ema = EMA(source, momentum=0.9)
    source(torch.arange(12.0, dtype=torch.float64).view(4, 3))
    ema.update(source)
    mine, theirs = dict(ema.module.named_buffers()), dict(source.named_buffers())
    assert theirs["1.num_batches_tracked"] == 1
    for name, buffer in theirs.items():
        assert torch.equal(mine[name], buffer)
        assert mine[name] is not buffer


def test_integer_parameters_are_copied() -> None:
    source = nn.Module()
    source.code = nn.Parameter(torch.tensor([1, 2]), requires_grad=False)
    ema = EMA(source, momentum=0.9)
    source.code.data.add_(5)
    ema.update(source)
    assert weights(ema.module)[0].tolist() == [6, 7]


def test_source_and_copy_share_nothing() -> None:
    source = network()
    before = weights(source)
    ema = EMA(source, momentum=0.5)
    next(source.parameters()).data.add_(1)
    assert torch.equal(weights(ema.module)[0], before[0])
    moved = weights(source)
    ema.update(source)
    for found, kept in zip(weights(source), moved, strict=True):
        assert torch.equal(found, kept)
    assert all(parameter.requires_grad for parameter in source.parameters())


def test_no_gradient_reaches_the_copy_or_passes_through_it() -> None:
    source = network()
    ema = EMA(source)
    assert not any(parameter.requires_grad for parameter in ema.parameters())
    x = torch.ones(4, 3, dtype=torch.float64, requires_grad=True)
    out = ema(x)
    assert not out.requires_grad
    assert torch.equal(out, source(x))
    ema.update(source)  # under grad mode, weights of the source being leaves


@pytest.mark.parametrize("training", [True, False])
def test_mode_is_that_of_the_module_and_follows(training: bool) -> None:
    ema = EMA(network().train(training))
    assert ema.module[1].training == training  # type: ignore[index]
    assert not ema.eval().module[1].training  # type: ignore[index]
    assert ema.train().module[1].training  # type: ignore[index]


def test_state_dict_and_deepcopy_keep_the_average() -> None:
    source = network(0)
    ema = EMA(source, momentum=0.5)
    ema.update(network(1))
    other = EMA(network(2), momentum=0.5)
    other.load_state_dict(ema.state_dict())
    for again in (other, copy.deepcopy(ema)):
        again.update(source)
        expected = copy.deepcopy(ema)
        expected.update(source)
        for found, value in zip(weights(again), weights(expected), strict=True):
            assert torch.equal(found, value)


def test_cosine_momentum() -> None:
    values = [cosine_momentum(step, 100) for step in range(101)]
    assert values[0] == 0.99
    assert values[100] == 1.0
    assert values[50] == pytest.approx(0.995)
    assert values == sorted(values)
    # BYOL: 1 - (1 - base) (cos(pi k / K) + 1) / 2
    assert cosine_momentum(25, 100, start=0.996) == pytest.approx(1 - 0.004 * (math.sqrt(0.5) + 1) / 2)
    assert cosine_momentum(100, 100, start=0.5, end=0.7) == pytest.approx(0.7)


@pytest.mark.parametrize("momentum", [-0.1, 1.1, math.nan])
def test_bad_momentum_is_named(momentum: float) -> None:
    with pytest.raises(ValueError, match="momentum: a number in"):
        EMA(network(), momentum)
    with pytest.raises(ValueError, match="momentum: a number in"):
        EMA(network()).update(network(), momentum)
    with pytest.raises(ValueError, match="momentum: a number in"):
        cosine_momentum(0, 1, start=momentum)
    with pytest.raises(ValueError, match="momentum: a number in"):
        cosine_momentum(0, 1, end=momentum)


@pytest.mark.parametrize(
    ("step", "num_steps", "name"), [(0, 0, "num_steps"), (-1, 5, "step"), (6, 5, "step")]
)
def test_bad_steps_are_named(step: int, num_steps: int, name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}:"):
        cosine_momentum(step, num_steps)


def test_another_module_is_refused() -> None:
    ema = EMA(nn.Linear(2, 3))
    before = weights(ema.module)
    with pytest.raises(ValueError, match="module: the parameters .* at bias"):
        ema.update(nn.Linear(2, 3, bias=False))
    with pytest.raises(ValueError, match="module: the parameters .* at weight"):
        ema.update(nn.Linear(1, 3))  # would broadcast
    with pytest.raises(ValueError, match="module: the buffers .* at .*running_mean"):
        EMA(nn.BatchNorm1d(2, affine=False)).update(nn.Module())
    assert all(torch.equal(a, b) for a, b in zip(weights(ema.module), before, strict=True))
