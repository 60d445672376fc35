"""The small network: any size, grids by hand, and that it learns digits, with labels and without."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.adapters import ImageInputs, representations
from nearfar.encoders import MLP, SmallCNN
from nearfar.encoders.small_cnn import Norm
from nearfar.errors import ConfigError
from nearfar.objectives import NTXent
from nearfar.runtime import generator


@pytest.mark.parametrize("size", [(8, 8), (9, 14), (28, 28)])
@pytest.mark.parametrize("norm", ["none", "group", "batch"])
def test_shapes(size: tuple[int, int], norm: Norm) -> None:
    encoder = SmallCNN(3, 10, norm=norm)
    z = encoder(torch.rand(2, 3, *size, generator=generator(0, "x")))
    assert z.shape == (2, 10)
    assert (z >= 0).all()


@pytest.mark.parametrize("size", [(8, 8), (11, 18)])
def test_states_equal_means_over_cells(size: tuple[int, int]) -> None:
    encoder = SmallCNN(2, 5, generator=generator(0, "weights")).double()
    images = torch.rand(3, 2, *size, dtype=torch.float64, generator=generator(0, "x"))
    first, second = encoder.layers[0], encoder.layers[4]
    x = F.max_pool2d(F.conv2d(images, first.weight, first.bias, padding=1).relu(), 2)  # type: ignore[arg-type]
    x = F.conv2d(x, second.weight, second.bias, padding=1).relu()  # type: ignore[arg-type]
    cells = []
    bounds = [
        torch.arange(n).tensor_split(4) for n in x.shape[2:]
    ]  # 5 pixels make cells of 2, 1, 1, 1: the first ones are larger
    for rows in bounds[0]:
        for columns in bounds[1]:
            box = x[:, :, int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1]
            cells.append(box.mean((2, 3)))
    expected = encoder.last(torch.stack(cells, -1).flatten(1)).relu()
    torch.testing.assert_close(encoder(images), expected)


def test_company_does_not_matter_in_training_mode_either() -> None:
    encoder = SmallCNN().double()
    images = torch.rand(4, 1, 8, 8, dtype=torch.float64, generator=generator(0, "x"))
    torch.testing.assert_close(encoder(images)[2:3], encoder(images[2:3]))


def test_refused() -> None:
    with pytest.raises(ConfigError, match="norm: 'none', 'group' or 'batch' expected, got 'layer'"):
        SmallCNN(norm="layer")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="dim: at least 1 expected, got 0"):
        SmallCNN(dim=0)
    with pytest.raises(ValueError, match=r"at least 8 pixels each way expected, got \(1, 1, 7, 9\)"):
        SmallCNN()(torch.zeros(1, 1, 7, 9))


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    """Images in [0, 1] and classes of scikit-learn's digits, shuffled."""
    data = pytest.importorskip("sklearn.datasets").load_digits()
    order = torch.randperm(len(data.target), generator=generator(0, "order"))
    images = torch.from_numpy(data.images).float()[order, None] / 16
    return images, torch.from_numpy(data.target)[order]


def test_learns_digits_from_labels(digits: tuple[Tensor, Tensor]) -> None:
    images, y = digits
    inputs = ImageInputs(images, flips=False, padding=1)
    encoder, head = SmallCNN(generator=generator(0, "e")), MLP(64, (10,), generator=generator(0, "h"))
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=1e-3)
    for epoch in range(8):
        for index in torch.randperm(1297, generator=generator(0, "order", epoch)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(head(encoder(inputs.rows(index))), y[index]).backward()
            optimizer.step()
    predicted = head(representations(encoder, inputs, torch.arange(1297, 1797))).argmax(1)
    assert (predicted == y[1297:]).double().mean() >= 0.95


def test_learns_digits_without_labels(digits: tuple[Tensor, Tensor]) -> None:
    """The nearest class mean gets better by 5 points or more over that of a random encoder."""
    images, y = digits
    inputs = ImageInputs(images, scale=(0.3, 1.0), flips=False, padding=1)
    encoder, head = SmallCNN(generator=generator(0, "e")), MLP(64, (64, 64), generator=generator(0, "h"))

    def accuracy() -> float:
        z = representations(encoder, inputs)
        means = torch.stack([z[:500][y[:500] == k].mean(0) for k in range(10)])
        return (torch.cdist(z[500:], means).argmin(1) == y[500:]).double().mean().item()

    before = accuracy()
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=1e-3)
    objective = NTXent(0.2)
    for epoch in range(25):
        for step, index in enumerate(torch.randperm(500, generator=generator(0, "order", epoch)).split(125)):
            first, second = inputs.two_views(inputs.rows(index), generator(0, "augment", epoch, step))
            z = head(encoder(torch.cat([first, second])))
            optimizer.zero_grad()
            objective(*z.chunk(2)).backward()
            optimizer.step()
    after = accuracy()
    assert after >= 0.87
    assert after >= before + 0.05
