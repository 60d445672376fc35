"""The contrastive terms of MCLRec against slow loops, their closed forms and one explicit Gram matrix."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.recsys.mclrec.augmenters import Augmenter, Augmenters
from nearfar.recsys.mclrec.losses import (
    data_contrast,
    model_contrast,
    pair_regulariser,
    regulariser,
    spread,
)

IDS = torch.tensor([3, 0, 3, 5, 0, 7])


def vectors(rows: int = 12, dim: int = 8, seed: int = 0, scale: float = 1.0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return scale * torch.randn(rows, dim, generator=rng, dtype=torch.float64)


def views(scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """Data views that require gradients, and the model views made from them."""
    h = vectors(scale=scale).requires_grad_()
    return h, Augmenters(8, "learned", shared=False, seed=1).double()(h)


def slow_contrast(a: Tensor, b: Tensor, ids: Tensor | None = None) -> float:
    """L_con by the definition: two loops."""
    c, size = torch.cat([a, b]).tolist(), len(a)
    names = list(range(size)) if ids is None else ids.tolist()
    losses = []
    for i, anchor in enumerate(c):
        partner = (i + size) % (2 * size)
        dots = [sum(x * y for x, y in zip(anchor, other, strict=True)) for other in c]
        counted = [j for j in range(2 * size) if j == partner or names[j % size] != names[i % size]]
        losses.append(math.log(sum(math.exp(dots[j]) for j in counted)) - dots[partner])
    return math.fsum(losses) / len(losses)


def clamped(a: Tensor, b: Tensor, form: str, ids: Tensor | None = None) -> Tensor:
    """R as the paper and its code write it, with clamps over gathered similarities."""
    c, size = torch.cat([a, b]), len(a)
    names = (torch.arange(size) if ids is None else ids).repeat(2)
    gram = c @ c.T
    rows = torch.arange(2 * size)
    positive = gram[rows, rows.roll(size)]
    is_negative = names[:, None] != names
    low, high = [], []
    for i in range(2 * size):
        negatives = gram[i][is_negative[i]]
        least, most = positive[i], negatives.max()
        if form == "batch":
            least, most = positive.min(), gram[is_negative].max()
        low.append((positive[i] - torch.minimum(least, most)).clamp(min=0))
        high.append((torch.maximum(least, most) - negatives).clamp(min=0))
    return torch.stack(low).mean() + torch.cat(high).mean()


@pytest.mark.parametrize("ids", [None, IDS])
def test_contrasts_equal_double_loops(ids: Tensor | None) -> None:
    h, z = views()
    (h1, h2), (z1, z2) = h.chunk(2), z.chunk(2)
    assert data_contrast(h, ids=ids).item() == pytest.approx(slow_contrast(h1, h2, ids), abs=1e-12)
    expected = slow_contrast(z1, z2, ids) + slow_contrast(h1, z2, ids) + slow_contrast(h2, z1, ids)
    assert model_contrast(h, z, ids=ids).item() == pytest.approx(expected, abs=1e-12)


def test_all_terms_come_from_the_gram_matrix_of_all_views() -> None:
    """Section by section of the 4B x 4B matrix: log-sum-exps of blocks, put together pair by pair."""
    h, z = views()
    size = len(h) // 2
    x = torch.cat([h, z])
    gram = (x @ x.T).masked_fill(torch.eye(len(x), dtype=torch.bool), -torch.inf)
    lse = gram.view(len(x), 4, size).logsumexp(-1).view(4, size, 4)  # (block of rows, row, block of keys)

    def pair(a: int, b: int) -> Tensor:
        agreement = torch.linalg.vecdot(*(x.view(4, size, -1)[[a, b]]))
        forth = torch.logaddexp(lse[a, :, a], lse[a, :, b]) - agreement
        back = torch.logaddexp(lse[b, :, b], lse[b, :, a]) - agreement
        both: Tensor = forth.mean() + back.mean()
        return both / 2

    torch.testing.assert_close(data_contrast(h), pair(0, 1), atol=1e-12, rtol=0)
    torch.testing.assert_close(model_contrast(h, z), pair(2, 3) + pair(0, 3) + pair(1, 2), atol=1e-12, rtol=0)


def test_contrast_of_one_history_has_nothing_to_tell_apart() -> None:
    h, z = vectors(2), F.normalize(vectors(2, seed=1), dim=-1)
    assert data_contrast(h).item() == pytest.approx(0, abs=1e-12)
    assert model_contrast(h, z).item() == pytest.approx(0, abs=1e-12)
    assert regulariser(h, z, form="row").item() == 0
    assert regulariser(h, z, form="batch").item() == 0


def test_known_answer_of_equal_views_of_orthogonal_histories() -> None:
    unit = torch.eye(5, dtype=torch.float64).repeat(2, 1)
    assert data_contrast(unit).item() == pytest.approx(math.log(1 + 8 * math.exp(-1)), abs=1e-12)


def test_contrast_does_not_depend_on_the_order_of_views_or_histories() -> None:
    h, _ = views()
    first, second = h.chunk(2)
    shuffled = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    for other in (torch.cat([second, first]), torch.cat([first[shuffled], second[shuffled]])):
        torch.testing.assert_close(data_contrast(other), data_contrast(h), atol=1e-12, rtol=0)


@pytest.mark.parametrize("scale", [0.3, 3.0])
@pytest.mark.parametrize("ids", [None, IDS])
@pytest.mark.parametrize("form", ["row", "batch"])
def test_regulariser_is_the_clamped_form(form: str, ids: Tensor | None, scale: float) -> None:
    h, z = views(scale)
    (h1, h2), (z1, z2) = h.chunk(2), z.chunk(2)
    value = regulariser(h, z, form=form, ids=ids)  # type: ignore[arg-type]
    pairs = [(z1, z2), (h1, z2), (h2, z1)] if form == "row" else [(z1, z2)]
    expected = torch.stack([clamped(a, b, form, ids) for a, b in pairs]).sum()
    torch.testing.assert_close(value, expected, atol=1e-12, rtol=1e-12)
    gradients = [torch.autograd.grad(v, h, retain_graph=True)[0] for v in (value, expected)]
    torch.testing.assert_close(*gradients, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("form", ["row", "batch"])
def test_regulariser_is_never_negative(form: str) -> None:
    for seed in range(20):
        some = vectors(10, 3, seed)[None]
        assert pair_regulariser(some, form).item() >= -1e-12  # type: ignore[arg-type]


def test_row_regulariser_where_no_positive_beats_a_negative() -> None:
    """It is then mean hardest negative minus mean negative."""
    first = vectors(6)
    c = torch.cat([first, -first])
    gram = c @ c.T
    other = torch.arange(6).repeat(2)[:, None] != torch.arange(6).repeat(2)
    hardest = gram.masked_fill(~other, -torch.inf).amax(1)
    assert (torch.linalg.vecdot(c, c.roll(6, 0)) <= hardest).all()
    expected = hardest.mean() - gram[other].mean()
    torch.testing.assert_close(pair_regulariser(c[None]), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("form", ["row", "batch"])
def test_regulariser_ignores_a_constant_in_all_similarities(form: str) -> None:
    c = vectors(12)
    lifted = torch.cat([c, torch.full((12, 1), 1.7, dtype=torch.float64)], 1)
    values = [pair_regulariser(x[None], form) for x in (c, lifted)]  # type: ignore[arg-type]
    torch.testing.assert_close(*values, atol=1e-12, rtol=0)


def test_temperature_divides_what_the_regulariser_compares() -> None:
    h, z = views()
    cold = regulariser(h, z, temperature=0.25)
    torch.testing.assert_close(cold, 4 * regulariser(h, z))


def test_spread_is_a_mean_log_sum_exp() -> None:
    h = vectors(6).requires_grad_()
    gram = (h @ h.T).masked_fill(torch.eye(6, dtype=torch.bool), -torch.inf)
    expected = gram.logsumexp(1).mean()
    torch.testing.assert_close(spread(h), expected)
    gradients = [torch.autograd.grad(v, h, retain_graph=True)[0] for v in (spread(h), expected)]
    torch.testing.assert_close(*gradients)


def test_augmenters_have_unit_rows_and_the_published_shape() -> None:
    augmenter = Augmenter(64)
    layers = [augmenter.first, augmenter.second, augmenter.third]
    assert [tuple(layer.weight.shape) for layer in layers] == [(32, 64), (16, 32), (64, 16)]
    for layer in layers:
        bound = layer.in_features**-0.5
        for parameter in layer.parameters():
            assert bound * 0.7 < parameter.abs().max() <= bound
    z = augmenter(torch.randn(9, 64, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(z.norm(dim=-1), torch.ones(9))
    for layer in layers:
        torch.nn.init.zeros_(layer.bias)
    zero = torch.zeros(2, 64, requires_grad=True)
    augmenter(zero).sum().backward()
    assert zero.grad is not None
    assert torch.isfinite(zero.grad).all()


@pytest.mark.parametrize(
    ("kind", "shared", "networks"), [("learned", False, 2), ("frozen", True, 1), ("identity", False, 0)]
)
def test_kinds_of_augmenters(kind: str, shared: bool, networks: int) -> None:
    augmenters = Augmenters(8, kind, shared=shared, seed=0)  # type: ignore[arg-type]
    assert len(augmenters.networks) == networks
    assert all(p.requires_grad == (kind == "learned") for p in augmenters.parameters())
    h = vectors().float()
    first, second = augmenters(h).chunk(2)
    if kind == "identity":
        torch.testing.assert_close(torch.cat([first, second]), F.normalize(h, dim=-1))
    of_first, of_second = augmenters(torch.cat([h[:6], h[:6]])).chunk(2)
    assert torch.equal(of_first, of_second) == (kind == "identity" or shared)
