"""BYOL and SimSiam with a predictor: against the predictor written out, and gradients that must stop."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nearfar.objectives.predicted import PredictedBYOL, PredictedSimSiam, Predictor
from nearfar.testing import draw


def views(count: int, num: int = 7, dim: int = 4) -> list[Tensor]:
    return [draw(num, dim, seed=i) for i in range(count)]


def predicted(predictor: Predictor, z: Tensor) -> Tensor:
    """What the four layers do in training mode."""
    first, norm, _, last = predictor.layers
    assert isinstance(first, nn.Linear)
    assert isinstance(norm, nn.BatchNorm1d)
    assert isinstance(last, nn.Linear)
    hidden = z @ first.weight.T
    hidden = (hidden - hidden.mean(0)) / (hidden.var(0, unbiased=False) + norm.eps).sqrt()
    return (hidden * norm.weight + norm.bias).clamp(min=0) @ last.weight.T + last.bias


def distance(p: Tensor, z: Tensor) -> float:
    return float(2 - 2 * F.cosine_similarity(p, z).mean())


def test_byol_is_the_definition() -> None:
    loss = PredictedBYOL(4).double()
    first, second, target_first, target_second = views(4)
    with torch.no_grad():
        one, two = (predicted(loss.predictor, z) for z in (first, second))
    expected = (distance(one, target_second) + distance(two, target_first)) / 2
    assert loss(first, second, target_first, target_second).item() == pytest.approx(expected)


def test_simsiam_is_the_definition() -> None:
    loss = PredictedSimSiam(4, hidden=6).double()
    first, second = views(2)
    with torch.no_grad():
        one, two = (predicted(loss.predictor, z) for z in (first, second))
    expected = (distance(one, second) + distance(two, first)) / 2
    assert loss(first, second).item() == pytest.approx(expected)


def test_widths() -> None:
    assert PredictedBYOL(8).predictor.layers[0].out_features == 32
    assert PredictedSimSiam(8).predictor.layers[0].out_features == 2
    assert PredictedSimSiam(2).predictor.layers[0].out_features == 1
    assert PredictedBYOL(8, hidden=3).config == {"dim": 8, "hidden": 3}


def test_gradients_reach_predictor_and_views_but_no_target() -> None:
    inputs = [x.requires_grad_() for x in views(4)]
    byol = PredictedBYOL(4).double()
    byol(*inputs).backward()
    assert [x.grad is not None for x in inputs] == [True, True, False, False]
    assert all(p.grad is not None for p in byol.parameters())
    fixed = [x.detach() for x in inputs[2:]]
    assert torch.autograd.gradcheck(lambda a, b: byol(a, b, *fixed), tuple(inputs[:2]))


def test_simsiam_stops_the_gradient_at_targets() -> None:
    first, second = (x.requires_grad_() for x in views(2))
    loss = PredictedSimSiam(4, hidden=6).double()
    grads = torch.autograd.grad(loss(first, second), (first, second))
    one, two = (predicted(loss.predictor, z) for z in (first, second))
    held = [
        1 - F.cosine_similarity(one, second.detach()).mean(),
        1 - F.cosine_similarity(two, first.detach()).mean(),
    ]
    for got, want in zip(grads, torch.autograd.grad(held[0] + held[1], (first, second)), strict=True):
        torch.testing.assert_close(got, want)


def test_a_trained_predictor_finds_the_target() -> None:
    torch.manual_seed(0)
    loss = PredictedBYOL(4, hidden=32)
    z = draw(64, 4).float()
    turned = z @ torch.linalg.qr(draw(4, 4, seed=1).float())[0]
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.02)
    values = []
    for _ in range(150):
        optimizer.zero_grad()
        value = loss(z, z, turned, turned)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.1 < values[0]


def test_state_round_trip_and_evaluation() -> None:
    loss, again = PredictedBYOL(4).double(), PredictedBYOL(4).double()
    inputs = views(4)
    loss(*inputs)
    again.load_state_dict(loss.state_dict())
    loss.eval()
    again.eval()
    assert torch.equal(loss(*inputs), again(*inputs))
    assert loss(*inputs).item() != loss.train()(*inputs).item()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single(dtype: torch.dtype) -> None:
    inputs = [x.to(dtype) for x in views(4)]
    byol, simsiam = PredictedBYOL(4), PredictedSimSiam(4, hidden=6)
    assert byol(*inputs).dtype == simsiam(*inputs[:2]).dtype == torch.float32
    torch.testing.assert_close(byol(*inputs), byol(*(x.float() for x in inputs)))
    with torch.autocast("cpu", torch.bfloat16):
        assert byol(*(x.float() for x in inputs)).dtype == torch.float32


def test_bad_input() -> None:
    x = torch.ones(4, 3)
    with pytest.raises(ValueError, match="dim: .*0"):
        PredictedBYOL(0)
    with pytest.raises(ValueError, match="dim: .*0"):
        PredictedSimSiam(0)
    with pytest.raises(ValueError, match="hidden: .*-1"):
        PredictedSimSiam(4, hidden=-1)
    with pytest.raises(ValueError, match="first: 5 features"):
        PredictedBYOL(5)(x, x, x, x)
    with pytest.raises(ValueError, match="first: 5 features"):
        PredictedSimSiam(5)(x, x)
    with pytest.raises(ValueError, match="target_second: shape"):
        PredictedBYOL(3)(x, x, x, x[:2])
    with pytest.raises(ValueError, match="first: .*at least 2"):
        PredictedSimSiam(3)(x[:1], x[:1])
