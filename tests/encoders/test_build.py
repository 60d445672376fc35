"""Encoders by name, perceptrons, standard scores: shapes, numbers by hand, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nearfar.encoders import MLP, Identity, SmallCNN, Standardised, build_encoder
from nearfar.encoders.build import NAMES
from nearfar.errors import ConfigError
from nearfar.runtime import generator, initial_weights


@pytest.mark.parametrize(
    ("name", "shape", "dim"),
    [
        ("resnet32", (3, 16, 16), 64),
        ("resnet18", (1, 8, 8), 512),
        ("small_cnn", (1, 8, 8), 64),
        ("mlp", (30,), 64),
        ("mlp", (3, 8, 8), 64),
        ("identity", (30,), 30),
        ("identity", (5, 4), 20),
    ],
)
def test_every_name_gives_an_encoder_of_its_dim(name: str, shape: tuple[int, ...], dim: int) -> None:
    encoder = build_encoder(name, shape).eval()
    assert encoder.dim == dim
    assert encoder(torch.rand(3, *shape, generator=generator(0, "x"))).shape == (3, dim)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "identity"])
def test_weights_are_a_function_of_the_generator_or_of_the_default_one(name: str) -> None:
    shape = (1, 8, 8)
    given = [build_encoder(name, shape, generator=generator(1, "e")).state_dict() for _ in range(2)]
    with initial_weights(7):
        given.append(build_encoder(name, shape).state_dict())
    with initial_weights(7):
        given.append(build_encoder(name, shape).state_dict())
    for key, value in given[0].items():
        assert torch.equal(value, given[1][key])
        assert torch.equal(given[2][key], given[3][key])
    assert any(not torch.equal(value, given[2][key]) for key, value in given[0].items())


def test_names_and_shapes_that_are_refused() -> None:
    with pytest.raises(ConfigError, match="there is no 'resnet23'; did you mean 'resnet32'"):
        build_encoder("resnet23", (3, 8, 8))
    with pytest.raises(ConfigError, match="there is no 'xyz'; choose one of resnet32, .*identity"):
        build_encoder("xyz", (3, 8, 8))
    with pytest.raises(ConfigError, match=r"small_cnn is for images \(C, H, W\), rows have shape \(30,\)"):
        build_encoder("small_cnn", (30,))
    with pytest.raises(ConfigError, match=r"shape: .* got \(3, 0\)"):
        build_encoder("mlp", (3, 0))


def test_perceptron_by_hand() -> None:
    net = MLP(2, (3, 1), generator=generator(0, "mlp")).double()
    first, second = net.layers[0], net.layers[2]
    x = torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=torch.float64)
    hidden = (x @ first.weight.T + first.bias).clamp(min=0)  # type: ignore[operator]
    torch.testing.assert_close(net(x), hidden @ second.weight.T + second.bias)  # type: ignore[operator]
    assert (MLP(2, (3, 1), last_relu=True, generator=generator(0, "mlp"))(x.float()) >= 0).all()


def test_perceptron_takes_rows_of_any_shape_and_precision() -> None:
    net = MLP(6, (4,))
    x = torch.rand(5, 2, 3, dtype=torch.float64, generator=generator(0, "x"))
    assert torch.equal(net(x), net(x.flatten(1).float()))


def test_perceptron_refuses_no_width() -> None:
    for dims in ((), (3, 0)):
        with pytest.raises(ConfigError, match="dims: one or more widths"):
            MLP(3, dims)


def test_standard_scores_go_in_front() -> None:
    inner = SmallCNN(3)
    encoder = Standardised(inner, (0.1, 0.2, 0.3), (0.5, 1.0, 2.0))
    x = torch.rand(2, 3, 8, 8, generator=generator(0, "x"))
    scores = torch.stack([(x[:, c] - (0.1, 0.2, 0.3)[c]) / (0.5, 1.0, 2.0)[c] for c in range(3)], 1)
    torch.testing.assert_close(encoder(x), inner(scores))
    assert encoder.dim == inner.dim == 64
    assert {"mean", "std"} < set(encoder.state_dict())
    for mean, std in (((0.1,), (1.0, 1.0)), ((0.1,), (0.0,)), ((), ())):
        with pytest.raises(ConfigError, match="std: one positive number for each channel"):
            Standardised(Identity(3), mean, std)


def test_identity_is_nothing() -> None:
    x = torch.rand(4, 3, generator=generator(0, "x"))
    assert torch.equal(Identity(3)(x), x)
    assert not list(nn.Module.parameters(Identity(3)))
