"""Contrast between models against loops; weights of clients against a softmax of loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nearfar.objectives import InfoNCE
from nearfar.objectives.model_contrast import ModelContrast, aggregation_weights, model_contrast_loss
from nearfar.testing import LargestTensor, draw


def cosine(x: Tensor, y: Tensor) -> float:
    return float((x @ y) / (x.norm() * y.norm()))


@pytest.mark.parametrize("temperature", [0.5, 0.05])
def test_is_the_loop(temperature: float) -> None:
    z, positive, previous = (draw(6, 4, seed=i) for i in range(3))
    rows = zip(z, positive, previous, strict=True)
    losses = [math.log1p(math.exp((cosine(a, o) - cosine(a, p)) / temperature)) for a, p, o in rows]
    found = model_contrast_loss(z, positive, previous, temperature)
    assert found.item() == pytest.approx(math.fsum(losses) / 6, rel=1e-10)
    module = ModelContrast(temperature, weight=2.0)(z, positive, previous)
    assert module.item() == pytest.approx(InfoNCE(temperature)(z, positive).item() + 2 * found.item())
    assert torch.equal(ModelContrast(weight=0)(z, positive, previous), InfoNCE(0.5)(z, positive))


def test_limits() -> None:
    z, positive = draw(6, 4), draw(6, 4, seed=1)
    assert model_contrast_loss(z, positive, positive).item() == pytest.approx(math.log(2))
    assert model_contrast_loss(z, z, -z).item() == pytest.approx(math.log1p(math.exp(-4)))
    assert model_contrast_loss(z, -z, z).item() == pytest.approx(math.log1p(math.exp(4)))


def test_gradients_reach_all_but_the_previous_model() -> None:
    z, positive, previous = (draw(4, 3, seed=i).requires_grad_() for i in range(3))
    ModelContrast()(z, positive, previous).backward()
    assert z.grad is not None
    assert positive.grad is not None
    assert previous.grad is None
    fixed = previous.detach()
    assert torch.autograd.gradcheck(lambda z, p: ModelContrast()(z, p, fixed), (z, positive))


def test_weights_are_the_loop() -> None:
    local, other = draw(3, 5, 4), draw(5, 4, seed=1)
    for i in range(5):
        quality = []
        for client in local:
            rest = math.fsum(math.exp(cosine(client[i], other[j]) / 0.3) for j in range(5) if j != i)
            quality.append(math.exp(cosine(client[i], other[i]) / 0.3) / rest)
        expected = torch.tensor([x / math.fsum(quality) for x in quality], dtype=torch.float64)
        torch.testing.assert_close(aggregation_weights(local, other, 0.3)[:, i], expected)


def test_weights_add_up_and_prefer_who_knows() -> None:
    other = draw(20, 8)
    local = torch.stack([other, draw(20, 8, seed=1), other + 0.5 * draw(20, 8, seed=2)]).requires_grad_()
    weights = aggregation_weights(local, other, 0.2)
    torch.testing.assert_close(weights.sum(0), torch.ones(20, dtype=torch.float64))
    assert not weights.requires_grad
    mean = weights.mean(1)
    assert mean[0] > mean[2] > mean[1]
    torch.testing.assert_close(aggregation_weights(local[:1], other), torch.ones(1, 20, dtype=torch.float64))
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(aggregation_weights(local[order], other, 0.2), weights[order])


def test_half_precision_is_computed_in_single() -> None:
    inputs = [draw(6, 4, seed=i).bfloat16() for i in range(3)]
    found = ModelContrast()(*inputs)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, ModelContrast()(*(x.float() for x in inputs)))


def test_no_table_of_all_pairs() -> None:
    inputs = [draw(4096, 8, seed=i).float().requires_grad_() for i in range(3)]
    with LargestTensor() as largest:
        ModelContrast()(*inputs).backward()
        aggregation_weights(torch.stack(inputs[:2]).detach(), inputs[2].detach())
    assert 4096 * 8 <= largest.numbers < 4096**2 / 8


def test_bad_input() -> None:
    z = draw(4, 3)
    with pytest.raises(ValueError, match="previous: shape"):
        model_contrast_loss(z, z, z[:2])
    with pytest.raises(ValueError, match="target_first: shape"):
        ModelContrast()(z, z, z[:, :2].repeat(1, 2)[:2, :3])
    with pytest.raises(ValueError, match="weight"):
        ModelContrast(weight=math.inf)
    with pytest.raises(ValueError, match="temperature"):
        aggregation_weights(z[None], z, -1.0)
    with pytest.raises(ValueError, match=r"local: \(C, 4, 3\)"):
        aggregation_weights(z, z)
    with pytest.raises(ValueError, match=r"local: \(C, 4, 3\)"):
        aggregation_weights(draw(2, 5, 3), z)
    with pytest.raises(ValueError, match="other: .*at least 2"):
        aggregation_weights(z[None, :1], z[:1])
