"""The two terms of SBCL against a double loop over plain numbers, its limits, its invariances."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nearfar.longtail.sbcl.loss import SBCLKeys, SBCLLoss, sbcl_loss
from nearfar.objectives import NTXent, SupCon
from nearfar.objectives.logsumexp import Backend
from nearfar.testing.ranks import run_ranks

DOUBLE = torch.float64
BACKENDS: list[Backend] = ["dense", "tiled"]
WORKER = Path(__file__).with_name("sbcl_loss_worker.py")


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearfar.objectives.tiles.CPU_EDGE", 5)


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(num_items: int = 12, views: int = 2, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features of stacked views, labels of three classes (of three, two, one subclasses), subclasses, items."""
    labels = torch.randint(3, (num_items,), generator=rng(seed))
    subclasses = labels * 3 + torch.randint(9, (num_items,), generator=rng(seed + 1)) % (3 - labels)
    z = torch.randn(views * num_items, 5, generator=rng(seed + 2), dtype=DOUBLE).requires_grad_()
    return z, labels.repeat(views), subclasses.repeat(views), torch.arange(num_items).repeat(views)


TAU = torch.tensor([0.3, 0.15, 0.5], dtype=DOUBLE)
SETTINGS: dict[str, Any] = {"temperature": 0.2, "class_temperatures": TAU, "beta": 0.7, "scale": 1.3}


def loop(
    z: Tensor,
    labels: Tensor,
    subclasses: Tensor,
    items: Tensor,
    *,
    keys: SBCLKeys | None = None,
    temperature: float,
    class_temperatures: Tensor,
) -> tuple[float, float]:
    """Both terms, anchor by anchor and key by key, in Python numbers."""
    rows, tau2 = _unit(z), class_temperatures.tolist()
    y, sub, item = labels.tolist(), subclasses.tolist(), items.tolist()
    others = (
        (rows, y, sub, item)
        if keys is None
        else (_unit(keys.z), keys.labels.tolist(), keys.subclasses.tolist(), keys.items.tolist())
    )
    firsts, seconds = [], []
    for i, row in enumerate(rows):
        mates, own, elsewhere, seen = [], [], [], []
        for j, (key, key_y, key_sub, key_item) in enumerate(zip(*others, strict=True)):
            if keys is None and i == j:
                continue
            seen.append(cosine := math.fsum(a * b for a, b in zip(row, key, strict=True)))
            if key_item == item[i]:
                own.append(cosine)
            elif key_sub == sub[i]:
                mates.append(cosine)
            elif key_y == y[i]:
                elsewhere.append(cosine)
        rest = list(seen)
        for mate in mates:
            rest.remove(mate)
        firsts += _mean_log_share(mates + own, seen, temperature)
        seconds += _mean_log_share(elsewhere + own, rest, tau2[y[i]])
    return math.fsum(firsts) / max(len(firsts), 1), math.fsum(seconds) / max(len(seconds), 1)


def _unit(z: Tensor) -> list[list[float]]:
    rows = z.detach().tolist()
    return [[x / math.sqrt(math.fsum(v * v for v in row)) for x in row] for row in rows]


def _mean_log_share(positives: Sequence[float], seen: Sequence[float], tau: float) -> list[float]:
    """Of one anchor, in a list that is empty for an anchor without positives."""
    if not positives:
        return []
    total = math.log(math.fsum(math.exp(x / tau) for x in seen))
    return [math.fsum(total - x / tau for x in positives) / len(positives)]


def queue(like: tuple[Tensor, Tensor, Tensor, Tensor], old: int = 9, views: int = 1) -> SBCLKeys:
    """Fresh keys of every item, and older ones, of which some are of the batch's items."""
    _, labels, subclasses, items = like
    num_items = int(items.max()) + 1
    chosen = torch.cat(
        [torch.arange(num_items).repeat(views), torch.randint(num_items, (old,), generator=rng(7))]
    )
    known = torch.cat(
        [items[chosen][:-5], items[chosen][-5:] + 100]
    )  # the last five are of no item of the batch
    z = torch.randn(len(chosen), 5, generator=rng(8), dtype=DOUBLE)
    return SBCLKeys(z, labels[chosen], subclasses[chosen], known)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("with_keys", [False, True])
@pytest.mark.parametrize("views", [1, 2, 3])
def test_it_is_the_double_loop(views: int, with_keys: bool, seed: int, backend: Backend) -> None:
    rows = batch(views=views, seed=10 * seed)
    keys = queue(rows) if with_keys else None
    first, second = loop(*rows, keys=keys, temperature=0.2, class_temperatures=TAU)
    loss, terms = sbcl_loss(*rows, keys=keys, backend=backend, return_terms=True, **SETTINGS)
    assert [x.item() for x in terms] == pytest.approx([first, second], abs=1e-10)
    assert loss.item() == pytest.approx(1.3 * first + 0.7 * second, abs=1e-10)
    assert sbcl_loss(*rows, keys=keys, backend=backend, **SETTINGS).item() == loss.item()
    assert not any(x.requires_grad for x in terms)


@pytest.mark.parametrize("backend", BACKENDS)
def test_limits(backend: Backend) -> None:
    """SupCon with the class as its subclass, NT-Xent with items as subclasses, and SupCon of the classes then in T2."""
    z, labels, _, items = batch()
    options: dict[str, Any] = {"temperature": 0.2, "backend": backend}
    whole = sbcl_loss(z, labels, labels, items, beta=0.0, **options)
    assert whole.item() == pytest.approx(SupCon(0.2)(z, labels).item(), abs=1e-12)
    single = labels * 100 + items  # a subclass of its own for every item
    apart = sbcl_loss(z, labels, single, items, beta=0.0, **options)
    assert apart.item() == pytest.approx(NTXent(0.2)(*z.chunk(2)).item(), abs=1e-12)
    tau2 = torch.full((3,), 0.35, dtype=DOUBLE)
    _, (first, second) = sbcl_loss(
        z, labels, single, items, class_temperatures=tau2, return_terms=True, **options
    )
    assert first.item() == pytest.approx(apart.item(), abs=1e-12)
    assert second.item() == pytest.approx(SupCon(0.35)(z, labels).item(), abs=1e-12)
    _, (_, same) = sbcl_loss(z, labels, single, items, return_terms=True, **options)
    assert same.item() == pytest.approx(SupCon(0.2)(z, labels).item(), abs=1e-12)


def test_an_unsplit_class_keeps_its_views_and_meets_other_classes_only() -> None:
    z, labels, _, items = batch()
    unit = torch.nn.functional.normalize(z.detach(), dim=1)
    _, (_, second) = sbcl_loss(z, labels, labels, items, temperature=0.2, return_terms=True)
    expected = []
    for i, row in enumerate(unit):
        own = (items == items[i]) & (torch.arange(len(z)) != i)
        seen = own | (labels != labels[i])
        expected.append(torch.logsumexp(unit[seen] @ row / 0.2, 0) - (unit[own] @ row / 0.2).mean())
    assert second.item() == pytest.approx(torch.stack(expected).mean().item(), abs=1e-12)


@pytest.mark.parametrize("with_keys", [False, True])
def test_gradients_are_the_derivatives_and_those_of_tiles(with_keys: bool) -> None:
    rows = batch(8)
    keys = queue(rows) if with_keys else None
    inputs = [rows[0]]
    if keys is not None:
        inputs.append(keys.z.requires_grad_())

    def loss(backend: Backend, z: Tensor, key_z: Tensor | None = None) -> Tensor:
        given = None if keys is None or key_z is None else SBCLKeys(key_z, *list(vars(keys).values())[1:])
        value: Tensor = sbcl_loss(z, *rows[1:], keys=given, backend=backend, **SETTINGS)
        return value

    assert torch.autograd.gradcheck(lambda *x: loss("dense", *x), inputs)
    dense, tiled = (torch.autograd.grad(loss(backend, *inputs), inputs) for backend in BACKENDS)
    for mine, theirs in zip(tiled, dense, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-12, rtol=1e-10)


def test_order_views_and_names_do_not_matter() -> None:
    z, labels, subclasses, items = batch()
    expected = sbcl_loss(z, labels, subclasses, items, **SETTINGS).item()
    order = torch.randperm(len(z), generator=rng(3))
    shuffled = sbcl_loss(z[order], labels[order], subclasses[order], items[order], **SETTINGS)
    assert shuffled.item() == pytest.approx(expected, abs=1e-12)
    swapped = torch.cat(z.chunk(2)[::-1])
    assert sbcl_loss(swapped, labels, subclasses, items, **SETTINGS).item() == pytest.approx(
        expected, abs=1e-12
    )
    names = torch.tensor([50, 3, 41, 7, 8, 99, 0, 12, 13])  # of subclasses, one to one
    renamed = sbcl_loss(z, labels, names[subclasses], 1000 - 7 * items, **SETTINGS)
    assert renamed.item() == pytest.approx(expected, abs=1e-12)
    doubled = sbcl_loss(z * 7, labels, subclasses, items, **SETTINGS)  # only directions count
    assert doubled.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_mate_is_nothing_to_the_second_term_and_something_to_the_first(backend: Backend) -> None:
    """The loss of anchor 0 by the features of another item of its subclass, from the loss of fixed keys."""
    z, labels, subclasses, items = batch()
    mate = int(((subclasses == subclasses[0]) & (items != items[0])).nonzero()[0, 0])
    other = int((subclasses != subclasses[0]).nonzero()[0, 0])
    rest = torch.arange(1, len(z))
    fixed = z.detach()[rest].requires_grad_()
    keys = SBCLKeys(fixed, labels[rest], subclasses[rest], items[rest])
    row = (z.detach()[:1], labels[:1], subclasses[:1], items[:1])
    for scale, beta, moved in ((0.0, 1.0, False), (1.0, 0.0, True)):
        loss = sbcl_loss(*row, keys=keys, temperature=0.2, scale=scale, beta=beta, backend=backend)
        (gradient,) = torch.autograd.grad(loss, fixed)
        assert bool(gradient[mate - 1].any()) == moved
        assert gradient[other - 1].any()


def test_weights_of_the_terms() -> None:
    rows = batch()
    _, (first, second) = sbcl_loss(*rows, return_terms=True, **SETTINGS)
    for scale, beta in ((0.2 / 0.07, 0.25), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)):
        loss = sbcl_loss(*rows, **{**SETTINGS, "scale": scale, "beta": beta})
        assert loss.item() == pytest.approx(scale * first.item() + beta * second.item(), abs=1e-12)
        assert loss.requires_grad


@pytest.mark.parametrize("views", [1, 2, 3])
def test_a_batch_of_one_item(views: int) -> None:
    """Its views are all there is to pick from: with two views no choice, with three one of two."""
    z = torch.randn(views, 4, generator=rng(0), dtype=DOUBLE).requires_grad_()
    ids = torch.zeros(views, dtype=torch.int64)
    loss, terms = sbcl_loss(z, ids, ids, ids, temperature=0.2, return_terms=True)
    expected = loop(z, ids, ids, ids, temperature=0.2, class_temperatures=torch.tensor([0.2], dtype=DOUBLE))
    assert [x.item() for x in terms] == pytest.approx(expected, abs=1e-12)
    (gradient,) = torch.autograd.grad(loss, z)
    assert gradient.isfinite().all()
    assert (loss.item() == pytest.approx(0, abs=1e-12)) == (views < 3)


def test_a_class_of_one_item_and_rows_without_a_class() -> None:
    z, labels, subclasses, items = batch()
    labels, subclasses = labels.clone(), subclasses.clone()
    labels[[3, 15]], subclasses[[3, 15]] = 2, 77
    others = (labels == 2) & (subclasses != 77)
    labels[others], subclasses[others] = 0, 0  # class 2 has the one item left
    rows = (z, labels, subclasses, items)
    _, terms = sbcl_loss(*rows, return_terms=True, **SETTINGS)
    expected = loop(*rows, temperature=0.2, class_temperatures=TAU)
    assert [x.item() for x in terms] == pytest.approx(expected, abs=1e-10)
    labels[[3, 15]] = -1  # the views of the item stay positives; its temperature is whatever
    unknown = sbcl_loss(z, labels, subclasses, items, temperature=0.2, beta=1.0)
    labels[[3, 15]] = 2
    assert unknown.item() == pytest.approx(
        sbcl_loss(z, labels, subclasses, items, temperature=0.2, beta=1.0).item(), abs=1e-12
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_under_autocast(dtype: torch.dtype) -> None:
    """Similarities are computed in single precision, also with keys that are kept in it."""
    rows = batch()
    half = rows[0].detach().to(dtype).requires_grad_()
    keys = queue(rows)
    single = SBCLKeys(keys.z.float(), keys.labels, keys.subclasses, keys.items)
    for given in (None, single):
        exact = sbcl_loss(half.float(), *rows[1:], keys=given, **SETTINGS)
        with torch.autocast("cpu", torch.bfloat16):
            loss = sbcl_loss(half, *rows[1:], keys=given, **SETTINGS)
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(exact.item(), abs=1e-5)
        (gradient,) = torch.autograd.grad(loss, half)
        assert gradient.dtype == dtype
        assert gradient.isfinite().all()


def test_the_module_is_the_function() -> None:
    z, labels, subclasses, items = batch()
    module = SBCLLoss(0.2, beta=0.7, scale=1.3)
    expected = sbcl_loss(z, labels, subclasses, items, **SETTINGS).item()
    assert module(z, labels, subclasses, class_temperatures=TAU).item() == pytest.approx(expected, abs=1e-12)
    assert module(z, labels, subclasses, items, class_temperatures=TAU).item() == pytest.approx(expected)
    three, keys = batch(views=3), queue(batch(views=3))
    assert SBCLLoss(0.2, beta=0.7, scale=1.3, views=3)(
        *three[:3], class_temperatures=TAU
    ).item() == pytest.approx(sbcl_loss(*three, **SETTINGS).item())
    assert module(*three, keys=keys, class_temperatures=TAU).item() == pytest.approx(
        sbcl_loss(*three, keys=keys, **SETTINGS).item()
    )
    assert module.config == {"temperature": 0.2, "beta": 0.7, "scale": 1.3, "views": 2, "backend": "auto"}
    assert not list(module.parameters())


Z, IDS = torch.ones(4, 3), torch.tensor([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"z": torch.ones(4)}, "z: floating point (N, d) expected, got torch.float32 of shape (4,)"),
        ({"z": torch.ones(1, 4, 3)}, "z: (N, d) expected, got shape (1, 4, 3)"),
        ({"z": Z * torch.nan}, "z: finite numbers expected, got nan at (0, 0)"),
        ({"labels": IDS[:3]}, "labels: integers of shape (4,) expected, got torch.int64 of shape (3,)"),
        ({"subclasses": IDS.float()}, "subclasses: integers of shape (4,) expected, got torch.float32 of shape (4,)"),
        ({"items": [0, 1, 0, 1]}, "items: integers of shape (4,) expected, got [0, 1, 0, 1]"),
        ({"subclasses": IDS * 0}, "OtherGroups.groups within one of OtherGroups.labels each expected, got 0"),
        ({"items": IDS * 0}, "OtherGroups.items within one of OtherGroups.groups each expected, got 0 in several"),
        ({"temperature": 0.0}, "temperature: a finite positive number expected, got 0.0"),
        ({"beta": -1.0}, "beta: a finite number of at least 0 expected, got -1.0"),
        ({"scale": math.inf}, "scale: a finite number of at least 0 expected, got inf"),
        ({"class_temperatures": torch.ones(1)}, "class_temperatures: one a class expected, got 1; index 1 is out"),
        ({"class_temperatures": torch.ones(2, 2)}, "class_temperatures: tensor (C,) expected, got shape (2, 2)"),
        ({"class_temperatures": 0.3}, "class_temperatures: tensor (C,) expected, got 0.3"),
        ({"class_temperatures": torch.zeros(2)}, "temperature: finite positive values expected, got 0.0"),
        ({"class_temperatures": torch.ones(2, requires_grad=True)}, "temperatures without gradient expected"),
        ({"keys": SBCLKeys(Z, IDS, IDS[:3], IDS)}, "keys.subclasses: integers of shape (4,) expected"),
        ({"keys": SBCLKeys(torch.ones(4, 2), IDS, IDS, IDS)}, "k: torch.float32 with 3 features on cpu expected"),
        ({"backend": "fast"}, "backend: 'auto' or"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"z": Z, "labels": IDS, "subclasses": IDS, "items": IDS, **change}
    with pytest.raises(ValueError, match=re.escape(message)):
        sbcl_loss(**arguments)


def test_what_does_not_fit_the_module_is_named() -> None:
    with pytest.raises(ValueError, match="views: at least 1 expected, got 0"):
        SBCLLoss(views=0)
    with pytest.raises(ValueError, match="temperature: a finite positive number expected"):
        SBCLLoss(-1.0)
    with pytest.raises(ValueError, match="embeddings: rows of 2 stacked views expected, got 3 rows"):
        SBCLLoss()(Z[:3], IDS[:3], IDS[:3])
    with pytest.raises(ValueError, match="items: one a row expected with keys, got None"):
        SBCLLoss()(Z, IDS, IDS, keys=SBCLKeys(Z, IDS, IDS, IDS))


@pytest.mark.parametrize("form", ["itself", "items", "keys", "dense", "contrast"])
def test_two_processes_are_one_batch(form: str, ranks: tuple[list[Any], Any]) -> None:
    found, evaluate = ranks
    loss, gradient = evaluate(form)
    for result in found:
        torch.testing.assert_close(result[form][0], loss, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(result[form][1], gradient, atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], Any]:
    """What both processes found, and the function that computes it for the whole batch."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("sbcl_loss_worker", WORKER)
    assert spec is not None
    assert spec.loader is not None
    worker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(worker)
    folder = tmp_path_factory.mktemp("ranks")
    run_ranks([str(WORKER)], 2, folder)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)], worker.evaluate
