"""The named softmax losses: identities between them, limits, and slow loops."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.objectives import (
    DCL,
    DCLW,
    InfoNCE,
    KeyQueue,
    LearnableTemperature,
    NTXent,
    SupCon,
    contrast,
)
from nearfar.objectives import denominator as rules
from nearfar.objectives.logsumexp import Backend

DOUBLE = torch.float64


def views(num: int, dim: int = 6, count: int = 2) -> list[Tensor]:
    rng = torch.Generator().manual_seed(num)
    return [torch.randn(num, dim, generator=rng, dtype=DOUBLE) for _ in range(count)]


def cosine(x: Tensor, y: Tensor) -> float:
    return float((x @ y) / (x.norm() * y.norm()))


def each(z1: Tensor, z2: Tensor, **options: Any) -> Tensor:
    losses: Tensor = contrast(torch.cat([z1, z2]), positives=("paired", len(z1)), reduction="none", **options)
    return losses


@pytest.mark.parametrize("backend", ["dense", "tiled"])
@pytest.mark.parametrize("temperature", [1.0, 0.1, 0.02])
def test_ntxent_is_the_softplus_of_dcl(backend: str, temperature: float) -> None:
    z1, z2 = views(20)
    options = {"backend": backend, "temperature": temperature}
    decoupled = each(z1, z2, include_positive=False, **options)
    torch.testing.assert_close(
        each(z1, z2, **options), F.softplus(decoupled, threshold=1e9), atol=1e-9, rtol=0
    )
    by_rule = each(z1, z2, denominator=rules.NotSelf() & rules.NotPositive(), **options)
    torch.testing.assert_close(by_rule, decoupled)
    assert NTXent(temperature)(z1, z2).item() == pytest.approx(F.softplus(decoupled).mean().item())
    assert DCL(temperature)(z1, z2).item() == pytest.approx(decoupled.mean().item())


def test_the_pull_on_a_positive_is_one_in_dcl_and_less_in_ntxent() -> None:
    """Derivatives by the logits: a DCL positive always gets -1, and every row's derivatives add up to 0."""
    logits = views(8, 8)[0].requires_grad_()  # with unit keys the dot products are the logits
    keys = torch.eye(8, dtype=DOUBLE)
    for include in (True, False):
        loss = contrast(
            logits, keys, similarity="dot", temperature=1, include_positive=include, reduction="sum"
        )
        (grad,) = torch.autograd.grad(loss, logits)
        torch.testing.assert_close(grad.sum(1), torch.zeros(8, dtype=DOUBLE), atol=1e-12, rtol=0)
        assert (grad.diagonal() == -1).all() != include


def test_closed_forms_for_orthonormal_and_equal_rows() -> None:
    num, scale = 16, 10.0
    eye, ones = torch.eye(num, dtype=DOUBLE), torch.ones(num, 3, dtype=DOUBLE)
    assert DCL()(eye, eye).item() == pytest.approx(math.log(2 * num - 2) - scale)
    assert NTXent()(eye, eye).item() == pytest.approx(math.log(math.exp(scale) + 2 * num - 2) - scale)
    assert InfoNCE()(eye, eye).item() == pytest.approx(math.log(math.exp(scale) + num - 1) - scale)
    assert NTXent()(ones, ones).item() == pytest.approx(math.log(2 * num - 1))
    assert DCL()(ones, ones).item() == pytest.approx(math.log(2 * num - 2))
    assert InfoNCE(symmetric=True)(ones, ones).item() == pytest.approx(math.log(num))


def test_supcon_with_a_label_a_sample_is_ntxent() -> None:
    z1, z2 = views(9)
    labels = torch.randperm(9, generator=torch.Generator().manual_seed(0)).repeat(2)
    assert SupCon()(torch.cat([z1, z2]), labels).item() == pytest.approx(NTXent()(z1, z2).item())
    three = views(5, count=3)
    labels = torch.arange(5).repeat(3)
    assert SupCon()(torch.cat(three), labels).item() == pytest.approx(NTXent()(*three).item())


def test_supcon_of_one_class_is_the_log_sum_exp_minus_the_mean_positive() -> None:
    z = torch.cat(views(6))
    similar = F.normalize(z) @ F.normalize(z).T / 0.1
    off = ~torch.eye(12, dtype=torch.bool)
    expected = similar.masked_fill(~off, -torch.inf).logsumexp(1).mean() - similar[off].mean()
    assert SupCon()(z, torch.zeros(12, dtype=torch.int64)).item() == pytest.approx(expected.item())
    same = torch.ones(12, 3, dtype=DOUBLE)
    assert SupCon()(same, torch.zeros(12, dtype=torch.int64)).item() == pytest.approx(math.log(11))


def test_an_unlabelled_row_changes_denominators_only() -> None:
    z = torch.cat(views(6))
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 2, 1, 0, 0, 1, -1])
    expected, count = 0.0, 0
    for i in range(11):
        others = [j for j in range(12) if j != i]
        lse = math.log(sum(math.exp(cosine(z[i], z[j]) / 0.1) for j in others))
        positives = [j for j in others if labels[j] == labels[i]]
        expected += lse - sum(cosine(z[i], z[j]) / 0.1 for j in positives) / len(positives)
        count += 1
    assert SupCon()(z, labels).item() == pytest.approx(expected / count)
    assert SupCon(base_temperature=0.07)(z, labels).item() == pytest.approx(expected / count * 0.1 / 0.07)


def test_dclw_is_its_formula_and_dcl_in_the_limit() -> None:
    z1, z2 = views(7)
    similar = [cosine(x, y) for x, y in zip(z1, z2, strict=True)]
    total = sum(math.exp(s / 0.5) for s in similar)
    weights = [2 - 7 * math.exp(s / 0.5) / total for s in similar]
    assert sum(weights) == pytest.approx(7)
    lse = each(z1, z2, include_positive=False) + torch.tensor(similar * 2, dtype=DOUBLE) / 0.1
    expected = sum(float(lse[i]) - weights[i % 7] * similar[i % 7] / 0.1 for i in range(14)) / 14
    assert DCLW()(z1, z2).item() == pytest.approx(expected)
    assert DCLW(sigma=1e9)(z1, z2).item() == pytest.approx(DCL()(z1, z2).item(), abs=1e-7)
    # The weights are constants: the gradient is that of the formula with fixed numbers.
    z1.requires_grad_()
    (grad,) = torch.autograd.grad(DCLW()(z1, z2), z1)
    factor = torch.tensor(weights, dtype=DOUBLE)
    fixed = DCL()(z1, z2) + ((1 - factor) * F.cosine_similarity(z1, z2) / 0.1).mean()
    torch.testing.assert_close(grad, *torch.autograd.grad([fixed], [z1]))


@pytest.mark.parametrize("backend", ["dense", "tiled"])
@pytest.mark.parametrize("filled", [0, 3, 5, 12])
def test_a_queue_holds_the_negatives_of_moco(
    filled: int, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nearfar.objectives.tiles.CPU_EDGE", 3)
    q, k = views(6)
    q.requires_grad_()
    queue = KeyQueue(5, 6).double()
    keys = views(12)[0]
    queue.enqueue(keys[:filled])
    held = keys[max(0, filled - 5) : filled]
    unit, unit_k, unit_held = (F.normalize(x) for x in (q, k.detach(), held))
    logits = torch.cat([(unit * unit_k).sum(1, keepdim=True), unit @ unit_held.T], 1) / 0.07
    expected = F.cross_entropy(logits, torch.zeros(6, dtype=torch.int64))
    loss = InfoNCE(0.07, backend=backend)(q, k, queue)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-9)
    torch.testing.assert_close(*torch.autograd.grad([loss], q), *torch.autograd.grad([expected], q))


@pytest.mark.parametrize("backend", ["dense", "tiled"])
def test_a_queue_with_ids_leaves_false_negatives_out(backend: Backend) -> None:
    q, k = views(6)
    ids, held_ids = torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor([0, 0, 1, 3])
    queue = KeyQueue(4, 6, with_ids=True).double()
    held = views(4)[0]
    queue.enqueue(held, held_ids)
    expected = 0.0
    for i in range(6):
        terms = [cosine(q[i], k[i]) / 0.1]
        terms += [cosine(q[i], held[j]) / 0.1 for j in range(4) if held_ids[j] != ids[i]]
        expected += math.log(sum(map(math.exp, terms))) - terms[0]
    rule = rules.Nothing() & rules.NotSame(ids)
    loss = contrast(q, k, queue=queue, denominator=rule, backend=backend)
    assert loss.item() == pytest.approx(expected / 6)
    everything = contrast(q, k, queue=queue, denominator=rules.All(), return_stats=True)[1]
    assert everything.denominator_size.tolist() == [10] * 6


def test_inside_the_logarithm_is_below_outside() -> None:
    """Jensen: one softmax over all positives (Khosla eq. 3) is never larger than the mean of their own."""
    z = torch.cat(views(9))
    labels = torch.arange(18) % 4
    similar = F.normalize(z) @ F.normalize(z).T / 0.1
    own = torch.eye(18, dtype=torch.bool)
    positive = (labels[:, None] == labels) & ~own
    lse = similar.masked_fill(own, -torch.inf).logsumexp(1)
    inside = lse - similar.masked_fill(~positive, -torch.inf).logsumexp(1) + positive.sum(1).log()
    assert (inside <= contrast(z, positives=labels, reduction="none") + 1e-9).all()


def test_a_learned_temperature_is_trained_and_bounded() -> None:
    q, k = (x.float() for x in views(8))
    loss = InfoNCE(LearnableTemperature(0.07), symmetric=True)
    assert [name for name, _ in loss.named_parameters()] == ["temperature.log_scale"]
    assert loss.config["temperature"] == "LearnableTemperature"
    assert loss(q, k).item() == pytest.approx(contrast(q, k, temperature=0.07, symmetric=True).item())
    optimiser = torch.optim.SGD(loss.parameters(), lr=0.1)
    for _ in range(20):
        optimiser.zero_grad()
        loss(q, k).backward()
        optimiser.step()
    assert loss(q, k).item() < contrast(q, k, temperature=0.07, symmetric=True).item()
    cold = LearnableTemperature(0.01)
    with torch.no_grad():
        cold.log_scale.add_(3)
    assert cold().item() == pytest.approx(0.01)
    cold().neg().backward()  # and comes back when the loss wants it warmer
    torch.optim.SGD(cold.parameters(), lr=10.0).step()
    assert cold().item() > 0.0105


def test_modules_show_and_hand_over_their_settings() -> None:
    assert repr(DCLW(0.2, sigma=0.3)) == "DCLW(temperature=0.2, backend='auto', sigma=0.3)"
    assert SupCon().config == {"temperature": 0.1, "backend": "auto", "base_temperature": None}
    assert "LearnableTemperature" in repr(InfoNCE(LearnableTemperature()))


class PerRow(torch.nn.Module):
    def forward(self) -> Tensor:
        return torch.ones(4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NTXent(0.0), "temperature: a positive number expected, got 0.0"),
        (lambda: InfoNCE(backend="quick"), "backend: 'auto'"),  # type: ignore[arg-type]
        (lambda: DCLW(sigma=0), "sigma: a finite positive number expected, got 0"),
        (lambda: SupCon(base_temperature=-1), "base_temperature: a finite positive number expected, got -1"),
        (lambda: LearnableTemperature(0.001), "initial: a temperature of at least 0.01 expected, got 0.001"),
        (lambda: NTXent()(torch.ones(2, 3), torch.ones(3, 3)), "z2: shape (2, 3) expected, got (3, 3)"),
        (
            lambda: NTXent()(torch.ones(2, 3), torch.ones(2, 3), torch.ones(1, 3)),
            "view 3: shape (2, 3) expected",
        ),
        (
            lambda: SupCon(PerRow(), base_temperature=0.1)(torch.ones(4, 2), torch.zeros(4).long()),
            "temperature: one",
        ),
        (
            lambda: DCLW(PerRow())(torch.ones(2, 2), torch.ones(2, 2)),
            "temperature: one value expected by DCLW",
        ),
        (lambda: DCL()(torch.ones(1, 3), torch.ones(1, 3)), "denominator: at least one row"),
    ],
)
def test_bad_settings_are_named(make: Any, message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the message is compared below
        make()
    assert message in str(error.value)


def test_equals_pytorch_metric_learning() -> None:
    losses = pytest.importorskip(
        "pytorch_metric_learning.losses", reason="the extra 'bench' is not installed"
    )
    z1, z2 = (x.float() for x in views(24))
    z = torch.cat([z1, z2])
    labels = torch.arange(24).repeat(2)
    assert NTXent(0.07)(z1, z2).item() == pytest.approx(losses.NTXentLoss(0.07)(z, labels).item(), abs=1e-5)
    few = labels % 5
    assert SupCon()(z, few).item() == pytest.approx(losses.SupConLoss(0.1)(z, few).item(), abs=1e-5)
