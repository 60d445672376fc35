"""Losses of the base models against slow float64 loops of the printed formulas."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nearfar.errors import ConfigError, DataError
from nearfar.graph.contrast import costa, progcl
from nearfar.graph.contrast.beta_mixture import BetaMixture, fit_beta_mixture
from nearfar.graph.contrast.bgrl import Predictor, bgrl_loss
from nearfar.graph.contrast.costa import costa_loss, sketch, sketched
from nearfar.graph.contrast.grace import Projector, grace_loss
from nearfar.graph.contrast.progcl import fit_mixture, progcl_loss
from nearfar.objectives.logsumexp import small_tiles
from nearfar.optional import installed

MIXTURE = BetaMixture(
    torch.tensor([3.0, 6.0]).double(), torch.tensor([4.0, 1.5]).double(), torch.tensor([0.8, 0.2]).double()
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def two_views(n: int, d: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    """float64, with gradients, the second near the first."""
    rng = seeded(seed)
    first, noise = (torch.randn(n, d, generator=rng, dtype=torch.float64) for _ in range(2))
    return first.requires_grad_(), (first.detach() + noise).requires_grad_()


def cosine(a: Tensor, b: Tensor) -> Tensor:
    value: Tensor = (a * b).sum() / (a.norm() * b.norm())
    return value


def same_with_gradients(fast: Tensor, slow: Tensor, *inputs: Tensor) -> None:
    torch.testing.assert_close(fast, slow, atol=1e-10, rtol=1e-10)
    for one, other in zip(torch.autograd.grad(fast, inputs), torch.autograd.grad(slow, inputs), strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-8)


# GRACE


def slow_grace(h1: Tensor, h2: Tensor, tau: float) -> Tensor:
    n, total = len(h1), h1.new_zeros(())
    for a, b in ((h1, h2), (h2, h1)):
        for i in range(n):
            positive = (cosine(a[i], b[i]) / tau).exp()
            between = sum((cosine(a[i], b[j]) / tau).exp() for j in range(n))
            within = sum((cosine(a[i], a[j]) / tau).exp() for j in range(n) if j != i)
            total = total - (positive / (between + within)).log()
    return total / (2 * n)


@pytest.mark.parametrize("n", [2, 7])
@pytest.mark.parametrize("tau", [0.2, 0.9])
def test_grace_is_the_printed_formula(n: int, tau: float) -> None:
    h1, h2 = two_views(n)
    same_with_gradients(grace_loss(h1, h2, temperature=tau), slow_grace(h1, h2, tau), h1, h2)


@pytest.mark.parametrize("kind", [Projector, Predictor])
def test_heads_start_as_their_generator_says_with_the_distribution_of_torch(kind: type[nn.Module]) -> None:
    before = torch.random.get_rng_state()
    first, again, other = (kind(400, 50, generator=seeded(s)) for s in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    for (name, one), two, three in zip(
        first.named_parameters(), again.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(one, two)
        if not name.startswith("activation"):
            assert not torch.equal(one, three)
    for layer in (first.inner, first.outer):
        assert isinstance(layer, nn.Linear)
        bound = layer.in_features**-0.5
        assert layer.weight.abs().amax().item() == pytest.approx(bound, rel=1e-3)
        assert layer.bias.abs().amax().item() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)


def test_heads_compute_what_they_say() -> None:
    z = torch.randn(6, 8, generator=seeded())
    head = Projector(8, 3, generator=seeded())
    torch.testing.assert_close(head(z), head.outer(F.elu(head.inner(z))))
    predictor = Predictor(8, 3, generator=seeded())
    inner = predictor.inner(z)
    torch.testing.assert_close(predictor(z), predictor.outer(inner.relu() - 0.25 * (-inner).relu()))


# ProGCL


def posterior(value: float, mixture: BetaMixture) -> float:
    densities = []
    for a, b, w in zip(mixture.alpha.tolist(), mixture.beta.tolist(), mixture.weight.tolist(), strict=True):
        constant = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
        densities.append(w * math.exp(constant + (a - 1) * math.log(value) + (b - 1) * math.log1p(-value)))
    return float(densities[0] / sum(densities))


def slow_progcl(h1: Tensor, h2: Tensor, mixture: BetaMixture, tau: float) -> Tensor:
    n, total = len(h1), h1.new_zeros(())
    for a, b in ((h1, h2), (h2, h1)):
        for i in range(n):
            shifted = [(cosine(a[i], b[j]).item() + 1) / 2 for j in range(n)]
            hardness = [posterior(s, mixture) * s for s in shifted]
            mean = sum(hardness[j] for j in range(n) if j != i) / (n - 1)
            positive = (cosine(a[i], b[i]) / tau).exp()
            rest = h1.new_zeros(())
            for j in range(n):
                if j != i:
                    weight = hardness[j] / mean
                    rest = rest + weight * (cosine(a[i], b[j]) / tau).exp()
                    rest = rest + weight * (cosine(a[i], a[j]) / tau).exp()
            total = total - (positive / (positive + rest)).log()
    return total / (2 * n)


@pytest.mark.parametrize("n", [2, 9])
@pytest.mark.parametrize("edge", [None, 4])
def test_progcl_is_the_printed_formula(n: int, edge: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progcl, "_BLOCK", 20)  # rows of B, two at a time
    h1, h2 = two_views(n)
    with small_tiles(edge):
        fast = progcl_loss(h1, h2, MIXTURE, temperature=0.4)
        same_with_gradients(fast, slow_progcl(h1, h2, MIXTURE, 0.4), h1, h2)


def test_progcl_is_grace_without_a_mixture_and_with_even_weights() -> None:
    h1, h2 = two_views(6)
    grace = grace_loss(h1, h2, temperature=0.4)
    torch.testing.assert_close(progcl_loss(h1, h2, None, temperature=0.4), grace, atol=0, rtol=0)
    # Every pair of nodes has the same cosine.
    same = torch.eye(6, dtype=torch.float64)
    expected = grace_loss(same, same, temperature=0.4)
    torch.testing.assert_close(progcl_loss(same, same, MIXTURE, temperature=0.4), expected)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_progcl_is_finite_whatever_the_mixture(scale: float) -> None:
    h1, h2 = (h.detach().float().requires_grad_() for h in two_views(8))
    extreme = BetaMixture(
        torch.tensor([1.0, 2.0]) * scale, torch.tensor([2.0, 1.0]) * scale, torch.tensor([0.95, 0.05])
    )
    views = [(h1, h2), (h1, h1), (h1, -h1), (torch.zeros_like(h1) + 0 * h1, h2), (h1[:1], h2[:1])]
    for a, b in views:
        loss = progcl_loss(a, b, extreme, temperature=0.2)
        (gradient,) = torch.autograd.grad(loss, h1)
        assert loss.isfinite()
        assert gradient.isfinite().all()


def test_a_mixture_is_fitted_to_some_columns() -> None:
    h1, h2 = two_views(40)
    chosen = torch.randperm(40, generator=seeded(3))[:10]
    values = [(cosine(h1[i], h2[j]).item() + 1) / 2 for i in range(40) for j in chosen.tolist()]
    expected = fit_beta_mixture(torch.tensor(values, dtype=torch.float64))
    found = fit_mixture(h1, h2, seeded(3), columns=10)
    for name in ("alpha", "beta", "weight"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-9, atol=0)
        assert not getattr(found, name).requires_grad
    few = fit_mixture(h1[:5], h2[:5], seeded(3))  # fewer columns than asked for
    assert few.alpha.isfinite().all()


# The mixture


@pytest.mark.skipif(not installed("scipy"), reason="scipy is not installed")
@pytest.mark.parametrize(("low", "high", "forced"), [((4, 6), (9, 0.7), True), ((40, 60), (40, 20), False)])
def test_expectation_maximisation_against_a_slow_loop(
    low: tuple[float, float], high: tuple[float, float], forced: bool
) -> None:
    from scipy.stats import beta as beta_distribution

    rng = np.random.default_rng(0)
    values = np.concatenate([rng.beta(*low, 300), rng.beta(*high, 60), [0.0, 1.0][: 2 * forced]])
    x = np.clip(values, 1e-12, 1 - 1e-12)
    alpha, beta, weight = [1.0, 2.0], [2.0, 1.0], [0.95, 0.05]
    for _ in range(10):
        pdf = np.stack([weight[k] * beta_distribution.pdf(x, alpha[k], beta[k]) for k in range(2)])
        share = pdf / pdf.sum(0)
        for k in range(2):
            mean = (share[k] * x).sum() / share[k].sum()
            variance = (share[k] * (x - mean) ** 2).sum() / share[k].sum()
            alpha[k] = mean * (mean * (1 - mean) / variance - 1)
            beta[k] = alpha[k] * (1 - mean) / mean
        if beta[1] < 1:
            beta[1] = 1.01
        weight = (share.sum(1) / share.sum()).tolist()
    found = fit_beta_mixture(torch.from_numpy(values))
    assert found.alpha.tolist() == pytest.approx(alpha, rel=1e-7)
    assert found.beta.tolist() == pytest.approx(beta, rel=1e-7)
    assert found.weight.tolist() == pytest.approx(weight, rel=1e-7)
    assert (found.beta[1].item() == 1.01) == forced

    pdf = np.stack([weight[k] * beta_distribution.pdf(x, alpha[k], beta[k]) for k in range(2)])
    inside = (values > 0) & (values < 1)
    for k in range(2):
        wanted = (pdf[k] / pdf.sum(0))[inside]
        double = found.posterior(torch.from_numpy(values), k).numpy()[inside]
        np.testing.assert_allclose(double, wanted, rtol=1e-6)
        single = found.posterior(torch.from_numpy(values).float(), k).numpy()[inside]
        np.testing.assert_allclose(single, wanted, atol=2e-5)


def test_two_groups_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    values = torch.from_numpy(np.concatenate([rng.beta(40, 60, 5000), rng.beta(80, 20, 500)]))
    found = fit_beta_mixture(values)
    assert found.weight.tolist() == pytest.approx([10 / 11, 1 / 11], abs=0.002)
    assert found.alpha.tolist() == pytest.approx([40, 80], rel=0.05)
    assert found.beta.tolist() == pytest.approx([60, 20], rel=0.05)
    assert found.posterior(torch.tensor(0.3)).item() > 0.999
    assert found.posterior(torch.tensor(0.8)).item() < 0.001


@pytest.mark.parametrize(
    "values", [[0.5] * 9, [0.0] * 9, [1.0] * 9, [0.0, 1.0] * 5, [0.3], [0.5, 0.5 + 1e-9], [0.2] * 50 + [0.9]]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_without_a_spread_end_in_no_nan(values: list[float], dtype: torch.dtype) -> None:
    found = fit_beta_mixture(torch.tensor(values, dtype=dtype))
    for parameter in (found.alpha, found.beta, found.weight):
        assert parameter.isfinite().all()
        assert (parameter > 0).all()
    assert found.weight.sum().item() == pytest.approx(1)
    everywhere = torch.linspace(0, 1, 11, dtype=dtype)
    total = found.posterior(everywhere, 0) + found.posterior(everywhere, 1)
    torch.testing.assert_close(total, torch.ones_like(total))


# COSTA


def slow_costa(h1: Tensor, h2: Tensor, tau: float) -> Tensor:
    k, total = len(h1), h1.new_zeros(())
    for a, b in ((h1, h2), (h2, h1)):
        for i in range(k):
            keys = sum((cosine(a[i], b[j]) / tau).exp() for j in range(k))
            total = total + torch.as_tensor(keys).log() - cosine(a[i], b[i]) / tau
    return total / (2 * k)


def test_costa_is_the_printed_formula() -> None:
    h1, h2 = two_views(7)
    same_with_gradients(costa_loss(h1, h2, temperature=0.4), slow_costa(h1, h2, 0.4), h1, h2)


@pytest.mark.parametrize("block", [1, 40, 1 << 22])
def test_a_sketch_is_the_dense_product(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costa, "_BLOCK", block)  # one row, three rows, all rows at a time
    z1, z2 = two_views(13)
    rng = seeded(5)
    fast = sketched(z1, z2, rng, 7)
    after = rng.get_state()
    p = sketch(13, 7, seeded(5), z1)
    up = [torch.randn(7, 5, generator=seeded(s), dtype=torch.float64) for s in (1, 2)]
    loss = sum((a * b).sum() for a, b in zip(fast, up, strict=True))
    assert isinstance(loss, Tensor)
    same_with_gradients(loss, (p @ z1 * up[0]).sum() + (p @ z2 * up[1]).sum(), z1, z2)
    # The gradient draws P again, and the caller's generator does not notice.
    assert torch.equal(rng.get_state(), after)
    assert not torch.equal(sketch(13, 7, rng, z1), p)


def test_derivatives_of_a_sketch() -> None:
    z1, z2 = two_views(6, 2)

    def apply(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return sketched(a, b, seeded(2), 3)

    assert torch.autograd.gradcheck(apply, (z1, z2))
    assert torch.autograd.gradgradcheck(apply, (z1, z2))


def test_entries_of_a_sketch() -> None:
    p = sketch(300, 200, seeded(), torch.zeros(1, dtype=torch.float64)) * 200**0.5
    assert p.shape == (200, 300)
    assert p.mean().item() == pytest.approx(0, abs=5 / 60_000**0.5)
    assert p.var().item() == pytest.approx(1, abs=5 * (2 / 60_000) ** 0.5)
    assert p.pow(4).mean().item() == pytest.approx(3, abs=5 * (96 / 60_000) ** 0.5)
    gram = (p @ p.T / 300).fill_diagonal_(0)
    assert gram.abs().amax().item() < 6 / 300**0.5


def test_a_sketch_in_half_precision_is_computed_in_single() -> None:
    z1, z2 = (z.detach().bfloat16() for z in two_views(9))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fast = sketched(z1, z2, seeded(), 4)
    p = sketch(9, 4, seeded(), torch.zeros(1))
    torch.testing.assert_close(fast, (p @ z1.float(), p @ z2.float()))


# BGRL


def test_bgrl_is_the_printed_formula() -> None:
    (p1, p2), (t1, t2) = two_views(6), two_views(6, seed=1)
    slow = p1.new_zeros(())
    for p, t in ((p1, t2), (p2, t1)):
        for i in range(6):
            slow = slow + (2 - 2 * cosine(p[i], t[i].detach())) / 12
    fast = bgrl_loss(p1, p2, t1, t2)
    same_with_gradients(fast, slow, p1, p2)
    unused = torch.autograd.grad(bgrl_loss(p1, p2, t1, t2), (t1, t2), allow_unused=True)
    assert all(gradient is None for gradient in unused)


# All of them

WORKER = """
import os, sys, torch, torch.distributed as dist
from nearfar.graph.contrast.costa import costa_loss
from nearfar.graph.contrast.grace import grace_loss
rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
h1, h2 = (h[:3] if rank == 0 else h[3:] for h in torch.load(f"{folder}/views.pt"))
found = []
for loss_of in (grace_loss, costa_loss):
    parts = [h.clone().requires_grad_() for h in (h1, h2)]
    loss = loss_of(*parts, temperature=0.5, group=dist.group.WORLD)
    # What averaging over processes leaves of the gradient.
    found.append((loss.detach(), [g / 2 for g in torch.autograd.grad(loss, parts)]))
torch.save(found, f"{folder}/{rank}.pt")
dist.barrier()  # who leaves first must not take the connections of the other one down
dist.destroy_process_group()
os._exit(0)  # threads of the group that are still alive abort an interpreter that ends by itself
"""


def test_two_processes_contrast_all_nodes(tmp_path: Path) -> None:
    views = two_views(8)
    torch.save([h.detach() for h in views], tmp_path / "views.pt")
    command = [sys.executable, "-c", WORKER]
    workers = [subprocess.Popen([*command, str(rank), str(tmp_path)]) for rank in range(2)]
    assert [worker.wait(60) for worker in workers] == [0, 0]
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for k, loss_of in enumerate((grace_loss, costa_loss)):
        loss = loss_of(*views, temperature=0.5)
        gradients = torch.autograd.grad(loss, views)
        for found, _ in (results[0][k], results[1][k]):
            torch.testing.assert_close(found, loss.detach())
        for view in range(2):
            whole = torch.cat([results[rank][k][1][view] for rank in range(2)])
            torch.testing.assert_close(whole, gradients[view])


@pytest.mark.parametrize(
    ("error", "name", "call"),
    [
        (ValueError, "h2", lambda a, b: grace_loss(a, b[:2])),
        (ValueError, "h1", lambda a, b: grace_loss(a[None], b[None])),
        (ValueError, "temperature", lambda a, b: grace_loss(a, b, temperature=0.0)),
        (ValueError, "h2", lambda a, b: progcl_loss(a, b[:, :2], MIXTURE)),
        (ValueError, "h2", lambda a, b: fit_mixture(a, b[:2], seeded())),
        (ValueError, "k", lambda a, b: costa_loss(a, b[:2])),
        (ValueError, "z2", lambda a, b: sketched(a, b[:2], seeded(), 2)),
        (ConfigError, "k", lambda a, b: sketched(a, b, seeded(), 0)),
        (ConfigError, "k", lambda a, b: sketch(3, 0, seeded(), a)),
        (ValueError, "z2", lambda a, b: bgrl_loss(a, a, b, b[:2])),
        (DataError, "values", lambda a, b: fit_beta_mixture(a)),
        (DataError, "values", lambda a, b: fit_beta_mixture(b.new_empty(0))),
        (DataError, "values", lambda a, b: fit_beta_mixture(a.new_tensor([0.5, 1.5]))),
        (DataError, "values", lambda a, b: fit_beta_mixture(a.new_tensor([0.5, torch.nan]))),
    ],
)
def test_refusals_name_the_argument(
    error: type[ValueError], name: str, call: Callable[[Tensor, Tensor], object]
) -> None:
    a, b = two_views(4)
    with pytest.raises(error, match=f"^{name}: "):
        call(a, b)
