"""Residual networks: parameters by formula, states against a slow pass, what a single image is told of its company."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nearfar.encoders import ResNet, resnet18, resnet32
from nearfar.errors import ConfigError
from nearfar.runtime import generator


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def expected_count(widths: tuple[int, ...], blocks: int, channels: int, *, convolved: bool) -> int:
    """Convolutions of 9 weights a pair of channels, two numbers a channel of every norm."""
    total, before = 9 * channels * widths[0] + 2 * widths[0], widths[0]
    for width in widths:
        for block in range(blocks):
            entering = before if block == 0 else width
            total += 9 * entering * width + 9 * width * width + 4 * width
            if convolved and entering != width:
                total += entering * width + 2 * width
        before = width
    return total


def test_resnet32_has_the_known_number_of_parameters() -> None:
    # 0.46 million with the linear layer of ten classes (He et al., table 6).
    assert count(resnet32()) == expected_count((16, 32, 64), 5, 3, convolved=False) == 463_504
    assert count(resnet32()) + 64 * 10 + 10 == 464_154


def test_resnet18_has_the_known_number_of_parameters() -> None:
    # 11.17 million with ten classes, in the form for small images.
    found = count(resnet18())
    assert found == expected_count((64, 128, 256, 512), 2, 3, convolved=True)
    assert found + 512 * 10 + 10 == 11_173_962


@pytest.mark.parametrize(("make", "dim"), [(resnet32, 64), (resnet18, 512)])
def test_shapes(make: Callable[..., ResNet], dim: int) -> None:
    encoder = make(1).eval()
    assert encoder.dim == dim
    for size in ((8, 8), (9, 14)):
        z = encoder(torch.rand(2, 1, *size, generator=generator(0, "x")))
        assert z.shape == (2, dim)
        assert (z >= 0).all()


def slow(encoder: ResNet, image: Tensor) -> Tensor:
    """One image in float64, with shortcuts spelt out."""

    def norm(x: Tensor, layer: nn.Module) -> Tensor:
        assert isinstance(layer, nn.BatchNorm2d)
        assert layer.running_mean is not None
        assert layer.running_var is not None
        shape = (-1, 1, 1)
        scale = layer.weight / (layer.running_var + layer.eps).sqrt()
        return (x - layer.running_mean.view(shape)) * scale.view(shape) + layer.bias.view(shape)

    def convolved(x: Tensor, layer: nn.Conv2d) -> Tensor:
        return F.conv2d(x[None], layer.weight, stride=layer.stride, padding=layer.padding)[0]

    stem = encoder.stem
    x = norm(convolved(image, stem[0]), stem[1]).relu()  # type: ignore[arg-type]
    for block in encoder.blocks:
        y = norm(convolved(x, block.first), block.first_norm).relu()  # type: ignore[arg-type]
        y = norm(convolved(y, block.second), block.second_norm)  # type: ignore[arg-type]
        if y.shape != x.shape:
            past = torch.zeros_like(y)
            begin = (len(y) - len(x)) // 2
            for channel in range(len(x)):
                past[begin + channel] = x[channel, ::2, ::2]
            x = past
        x = (x + y).relu()
    return x.mean((1, 2))


def test_states_equal_a_slow_pass() -> None:
    encoder = ResNet((4, 8, 13), (2, 1, 2), generator=generator(0, "weights")).double()
    images = torch.rand(6, 3, 9, 12, dtype=torch.float64, generator=generator(0, "x"))
    encoder(images)  # moves the running statistics away from where they start
    encoder.eval()
    with torch.no_grad():
        expected = torch.stack([slow(encoder, image) for image in images])
    torch.testing.assert_close(encoder(images), expected)


@pytest.mark.parametrize("make", [resnet32, resnet18])
def test_company_does_not_matter_in_evaluation_mode(make: Callable[..., ResNet]) -> None:
    encoder = make(generator=generator(0, "weights")).double().eval()
    images = torch.rand(5, 3, 8, 8, dtype=torch.float64, generator=generator(0, "x"))
    together = encoder(images)
    for i in range(5):
        torch.testing.assert_close(encoder(images[i : i + 1]), together[i : i + 1])


def test_weights_come_from_the_generator_and_no_other() -> None:
    before = torch.get_rng_state()
    first, second = (resnet32(generator=generator(3, "weights")) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    other = resnet32(generator=generator(4, "weights"))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


def test_weights_have_the_variance_of_he() -> None:
    layer = resnet18(generator=generator(0, "weights")).get_submodule("blocks.7.second")
    assert isinstance(layer, nn.Conv2d)
    assert layer.weight.var().item() == pytest.approx(2 / (9 * 512), rel=0.01)
    assert layer.weight.mean().item() == pytest.approx(0, abs=1e-4)


def test_a_gradient_reaches_every_parameter() -> None:
    encoder = resnet32(1)
    encoder(torch.rand(4, 1, 8, 8, generator=generator(0, "x"))).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())


def test_sizes_that_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"widths: .* got \(4, 8\) and \(1,\)"):
        ResNet((4, 8), (1,))
    with pytest.raises(ConfigError, match="with 0 channels"):
        resnet32(0)
    with pytest.raises(ConfigError, match="shortcut: 'padding' or 'convolution' expected, got 'none'"):
        ResNet((4,), (1,), shortcut="none")  # type: ignore[arg-type]
