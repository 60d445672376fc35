"""View statistics against slow loops, closed forms and torch's own SVD."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.objectives import statistics as stats


def views(num: int = 11, dim: int = 4) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(num)
    first = torch.randn(num, dim, generator=rng, dtype=torch.float64)
    return first, first + 0.8 * torch.randn(num, dim, generator=rng, dtype=torch.float64)


@pytest.mark.parametrize("edge", [1, 3, 768])
def test_equal_their_definitions(edge: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearfar.objectives.tiles.CPU_EDGE", edge)
    monkeypatch.setattr("nearfar.objectives.logsumexp.DENSE_LOGITS", 0)
    z1, z2 = views()
    u, v = F.normalize(z1), F.normalize(z2)
    num = len(u)
    pairs = [(i, j) for i in range(num) for j in range(i)]
    aligned = sum(float((u[i] - v[i]).norm()) ** 3 for i in range(num)) / num
    potential = sum(math.exp(-1.5 * float((u[i] - u[j]).norm()) ** 2) for i, j in pairs) / len(pairs)
    hits = sum(all(u[i] @ v[i] > u[i] @ v[j] for j in range(num) if j != i) for i in range(num))
    assert 0 < hits < num
    assert stats.alignment(z1, z2, power=3).item() == pytest.approx(aligned)
    assert stats.uniformity(z1, t=1.5).item() == pytest.approx(math.log(potential))
    assert stats.isotropy(z1).item() == pytest.approx(
        1 - sum(float(u[i] @ u[j]) for i, j in pairs) / len(pairs)
    )
    assert stats.top1_retrieval(z1, z2).item() == pytest.approx(hits / num)


@pytest.mark.parametrize("shape", [(9, 4), (4, 9)])
def test_effective_rank_is_that_of_the_singular_values(shape: tuple[int, int]) -> None:
    z = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    share = torch.linalg.svdvals(z) / torch.linalg.svdvals(z).sum()
    assert stats.effective_rank(z).item() == pytest.approx(math.exp(-(share * share.log()).sum()))
    assert stats.effective_rank(torch.ones(5, 3)).item() == pytest.approx(1, abs=1e-3)  # one direction
    assert stats.effective_rank(torch.zeros(5, 3)).item() == 0


def test_limits() -> None:
    same, spread = torch.ones(6, 3), torch.randn(4000, 64, generator=torch.Generator().manual_seed(0))
    assert stats.alignment(same, same).item() == 0
    assert stats.alignment(same, -same).item() == pytest.approx(4)
    assert stats.uniformity(same).item() == pytest.approx(0, abs=1e-5)
    assert stats.isotropy(same).item() == pytest.approx(0, abs=1e-6)
    # Random directions: nearly orthogonal, so exp(-t 2) each; the variance 1/d of the cosine adds 8/d.
    assert stats.uniformity(spread).item() == pytest.approx(-4 + 8 / 64, abs=0.01)
    assert stats.isotropy(spread).item() == pytest.approx(1, abs=1e-3)
    assert stats.effective_rank(spread).item() == pytest.approx(64, rel=0.01)
    assert stats.top1_retrieval(same, same).item() == 0  # a tie tells nothing apart
    assert stats.top1_retrieval(spread, spread).item() == 1


def test_gradients() -> None:
    z1, z2 = (z.requires_grad_() for z in views(5))
    functions: list[Callable[[Tensor], Tensor]] = [
        stats.uniformity,
        stats.isotropy,
        lambda z: stats.alignment(z, z2),
    ]
    for function in functions:
        assert torch.autograd.gradcheck(function, (z1,))


@pytest.mark.parametrize("power", [0.5, 1.0, 1.5, 2.0, 3.0])
def test_equal_rows_have_no_gradient_of_alignment(power: float) -> None:
    z1, z2 = (z.requires_grad_() for z in views(6))
    with torch.no_grad():
        z2[:2] = z1[:2]
    loss = stats.alignment(z1, z2, power=power)
    rest = stats.alignment(z1[2:], z2[2:], power=power) * 4 / 6
    assert loss.item() == pytest.approx(rest.item(), rel=1e-14)
    for found, expected in zip(
        torch.autograd.grad(loss, (z1, z2)), torch.autograd.grad(rest, (z1, z2)), strict=True
    ):
        assert not found[:2].any()
        torch.testing.assert_close(found[2:], expected[2:], rtol=1e-12, atol=0)


@pytest.mark.parametrize("power", [2.0, 3.0])
def test_second_derivatives_of_alignment_at_equal_rows(power: float) -> None:
    z1, _ = (z.requires_grad_() for z in views(3))
    z2 = z1.detach().clone()
    z2[0] += 1
    curvature = torch.autograd.functional.hessian(lambda z: stats.alignment(z, z2, power=power), z1)
    own = curvature[1, :, 1]
    # Of the square: 2 / N on the tangent plane at z over its squared length; the cube is flat there.
    tangent = torch.eye(4) - torch.outer(z1[1], z1[1]).detach() / z1[1].square().sum().item()
    expected = (2 / 3) * tangent / z1[1].square().sum().item() if power == 2 else torch.zeros(4, 4)
    torch.testing.assert_close(own, expected.double(), rtol=1e-8, atol=1e-10)


def test_all_at_once_in_half_precision() -> None:
    z1, z2 = (z.to(torch.bfloat16) for z in views())
    values = stats.view_statistics(z1, z2)
    assert values["alignment"] == pytest.approx(stats.alignment(z1.float(), z2.float()).item())
    assert values["uniformity"] == pytest.approx(stats.uniformity(z1.float()).item())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stats.uniformity(torch.ones(1, 3)), "z: (N, d) with N at least 2"),
        (lambda: stats.uniformity(torch.ones(2, 3), t=0), "t: a finite positive number"),
        (lambda: stats.alignment(torch.ones(2, 3), torch.ones(3, 3)), "z2: shape (2, 3) expected"),
        (lambda: stats.alignment(torch.ones(2, 3), torch.ones(2, 3), power=-1), "power: a finite positive"),
        (lambda: stats.top1_retrieval(torch.ones(2, 3), torch.ones(2, 3).double()), "k: torch.float32"),
        (lambda: stats.isotropy(torch.full((2, 2), math.nan)), "z: finite numbers expected"),
    ],
)
def test_bad_views_are_named(call: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the message is compared below
        call()
    assert message in str(error.value)
