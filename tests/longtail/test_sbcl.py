"""The method: when subclasses are found, what a step computes, and what a checkpoint holds."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from nearfar.adapters import DatasetInputs, FeatureInputs, representations
from nearfar.classification.row_batches import RowBatches
from nearfar.errors import ConfigError, PreemptedError
from nearfar.longtail.sbcl.config import SBCLConfig
from nearfar.longtail.sbcl.loss import sbcl_loss
from nearfar.longtail.sbcl.method import DIAGNOSTICS, SBCL
from nearfar.longtail.sbcl.subclasses import find_subclasses
from nearfar.objectives import NTXent, SupCon
from nearfar.runtime import Runtime
from nearfar.testing.conformance import _Asynchronous
from nearfar.training import CheckpointStore, fit
from nearfar.training.optim import lr_factor

Make = Callable[..., Any]


def run(method: SBCL, config: SBCLConfig, runtime: Runtime, **options: Any) -> Any:
    """Train to the end."""
    source = RowBatches(method.inputs, method.given, config.batch_size, config.seed)
    return fit(method, source, config=config, runtime=runtime, quiet=True, **options)


def views_of(method: SBCL, batch: Any, ctx: Any) -> Tensor:
    """Projections of both views, as the step draws them."""
    first, second = method.inputs.two_views(batch.x, ctx.rng("views"))
    found: Tensor = method.projected(torch.cat([first, second]))
    return found


# When subclasses are found ---------------------------------------------------------------------------------------


def test_subclasses_are_found_after_the_warm_up_and_then_every_few_epochs(
    settings: Make, build: Make, cpu: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the first step of epochs T0, T0 + K, ...: not at multiples of K, which the released code mistakes them for."""
    config = settings(epochs=12, warmup_epochs=4, subclasses={"every": 3})
    method = build(config)
    seen: list[int] = []
    monkeypatch.setattr(method, "regroup", lambda step, _: seen.append(step))
    run(method, config, cpu)
    assert method.epoch == 5
    assert seen == [4 * 5, 7 * 5, 10 * 5]


def test_a_part_of_an_epoch_of_warm_up(settings: Make, build: Make) -> None:
    """Steps are counted, not epochs."""
    method = build(settings(warmup_epochs=0.5, subclasses={"every": 2}))
    assert [step for step in range(30) if method.is_due(step)] == [2, 12, 22]
    none = build(settings(warmup_epochs=0))
    assert none.is_due(0)
    assert not build(settings(subclasses={"enabled": False})).is_due(10)


def test_learning_rates_are_never_negative() -> None:
    """From above zero to the peak at the end of its warm-up; the released code starts at -0.039."""
    config = SBCLConfig(data="cifar10").optim.model_copy(
        update={"lr": 0.5, "schedule": "cosine", "warmup": 0.01}
    )
    factors = [lr_factor(config, step, 10_000) for step in range(10_000)]
    assert min(factors) > 0
    assert factors[99] == 1.0
    assert factors[98] < 1.0


# A step ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["supcon", "simclr"])
def test_the_warm_up_contrasts_classes_or_views(
    settings: Make, build: Make, context: Make, batch_of: Make, kind: str
) -> None:
    """As the objectives of these names do."""
    method = build(settings(warmup_loss=kind)).train()
    batch, ctx = batch_of(method), context(1)
    z = views_of(method, batch, ctx)
    labels = batch.given.repeat(2)
    expected = SupCon(0.2)(z, labels) if kind == "supcon" else NTXent(0.2)(*z.chunk(2))
    torch.testing.assert_close(method.step(batch, ctx).loss, expected)


def test_a_step_after_the_warm_up(settings: Make, build: Make, context: Make, batch_of: Make) -> None:
    """Subclasses and temperatures of the method, items of the data; the code's weight of the first term."""
    for more, scale in (({}, 1.0), ({"variant": "code"}, 0.2 / 0.07)):
        config = settings(**more)
        method = build(config).train()
        method.regroup(10, context().runtime)
        batch, ctx = batch_of(method), context(11)
        z, items = views_of(method, batch, ctx), batch.rows.repeat(2)
        expected, terms = sbcl_loss(
            z,
            method.given[items],
            method.subclasses[items],
            items,
            temperature=0.2,
            class_temperatures=method.temperatures,
            beta=0.25,
            scale=scale,
            return_terms=True,
        )
        found = method.step(batch, ctx)
        torch.testing.assert_close(found.loss, expected)
        torch.testing.assert_close((found.terms["of_subclasses"], found.terms["of_classes"]), terms)
        assert set(DIAGNOSTICS) < set(found.terms)


def test_what_is_found_is_found_in_features_as_they_are(settings: Make, build: Make, cpu: Runtime) -> None:
    """In evaluation mode, no view; statistics and weights stay; the function of the method's pieces."""
    config = settings()
    method = build(config).train()
    before = copy.deepcopy(method.state_dict())
    method.regroup(10, cpu)
    moved = {name for name, value in method.state_dict().items() if not torch.equal(value, before[name])}
    assert moved <= {"subclasses", "temperatures", "centers", "parts", "diagnostics"}
    assert method.training
    z = representations(method.projected, method.inputs)
    expected = find_subclasses(
        z,
        method.given,
        3,
        subclasses=config.subclasses,
        temperatures=config.class_temperature,
        temperature=0.2,
        seed=5,
    )
    assert torch.equal(method.subclasses, expected.ids)
    torch.testing.assert_close(method.temperatures, expected.temperatures.float())
    assert method.parts.tolist() == [5, 1, 1]
    assert sorted(method.subclasses.bincount().tolist()) == [4, 5, 5, 6, 6, 6, 8]
    known = dict(zip(DIAGNOSTICS, method.diagnostics.tolist(), strict=True))
    assert (known["subclass_size_min"], known["subclass_size_max"]) == (4, 8)
    assert known["subclass_within"] == pytest.approx(expected.within, abs=1e-6)


def test_later_subclasses_begin_from_the_centres_of_the_earlier(
    settings: Make, build: Make, blobs: Make, cpu: Runtime
) -> None:
    """With features that stay, so do most of them; without a warm start they are drawn anew."""
    x, y = blobs((300, 40, 5))
    moved = {}
    for warm in (True, False):
        method = build(settings(subclasses={"warm_start": warm}), inputs=FeatureInputs(x), y=y)
        method.regroup(method.warmup_steps, cpu)
        method.regroup(method.warmup_steps + 3 * method.epoch, cpu)
        moved[warm] = float(method.diagnostics[DIAGNOSTICS.index("subclass_moved")])
    assert moved[True] < 0.1 < moved[False]


def test_no_step_between_waits_for_the_device(
    settings: Make, build: Make, context: Make, batch_of: Make
) -> None:
    """Only the steps that find subclasses do."""
    method = build(settings()).train()
    method.regroup(10, context().runtime)
    batch = batch_of(method)
    with _Asynchronous():
        method.step(batch, context(11)).loss.backward()


# A queue ---------------------------------------------------------------------------------------------------------


def test_keys_of_a_queue_have_the_labels_of_now(
    settings: Make, build: Make, context: Make, batch_of: Make
) -> None:
    """They are kept with the number of their row; a key of the row's own item is another view of it."""
    config = settings(queue={"size": 12, "momentum": 0.5})
    method = build(config).train()
    first, second = batch_of(method), batch_of(method, (1, 4, 6, 9))
    for batch in (first, second):
        method.step(batch, context(1))
        method.after_step(context(1))
    assert method.queue is not None
    assert method.queue.ids is not None
    assert method.queue.ids.tolist() == [*first.rows.tolist(), *second.rows.tolist()]
    method.regroup(10, context().runtime)
    batch, ctx = batch_of(method), context(11)
    views = method.inputs.two_views(batch.x, ctx.rng("views"))
    z = method.projected(views[0])
    assert method.target is not None
    fresh = torch.nn.functional.normalize(method.target(views[1]), dim=1)
    keys = torch.cat([fresh, method.queue.keys])
    items = torch.cat([batch.rows, method.queue.ids])
    found = method.step(batch, ctx).loss
    expected = slow_loss(
        z, batch.rows, keys, items, method.given, method.subclasses, 0.2, method.temperatures, 0.25
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def slow_loss(
    z: Tensor,
    rows: Tensor,
    keys: Tensor,
    items: Tensor,
    given: Tensor,
    subclasses: Tensor,
    tau: float,
    taus: Tensor,
    beta: float,
) -> Tensor:
    """Both terms, key by key."""
    z = torch.nn.functional.normalize(z, dim=1)
    total = z.new_zeros(())
    for q, row in zip(z, rows.tolist(), strict=True):
        logits = keys @ q
        own = [j for j, item in enumerate(items.tolist()) if item == row]
        same = [
            j for j, item in enumerate(items.tolist()) if item != row and subclasses[item] == subclasses[row]
        ]
        others = [
            j
            for j, item in enumerate(items.tolist())
            if item != row and given[item] == given[row] and j not in same
        ]
        seen = [j for j in range(len(items)) if j not in same]
        tau2 = taus[given[row]]
        first = (logits[own + same] / tau).mean() - (logits / tau).logsumexp(0)
        second = (logits[own + others] / tau2).mean() - (logits[seen] / tau2).logsumexp(0)
        total = total - first - beta * second
    return total / len(z)


def test_a_run_with_a_queue(settings: Make, build: Make, cpu: Runtime) -> None:
    config = settings(queue={"size": 16})
    method = build(config)
    run(method, config, cpu)
    assert all(
        tensor.isfinite().all() for tensor in method.state_dict().values() if tensor.is_floating_point()
    )
    assert method.queue is not None
    assert len(method.queue) == 16


# Batches of subclasses, wrong labels -----------------------------------------------------------------------------


def test_batches_of_subclasses(
    settings: Make, build: Make, context: Make, batch_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the warm-up a batch has so many subclasses with several rows of each; a function of the step."""
    method = build(settings(groups=2, batch_size=8)).train()
    method.regroup(10, context().runtime)
    seen: list[Tensor] = []
    taken = method.inputs.rows

    def watched(index: Tensor) -> Any:
        seen.append(index)
        return taken(index)

    monkeypatch.setattr(method.inputs, "rows", watched)
    batch = batch_of(method)
    losses = [method.step(batch, context(step)).loss.item() for step in (11, 11, 12)]
    assert losses[0] == losses[1] != losses[2]
    assert torch.equal(seen[1], seen[2])
    for rows in seen[1:]:
        assert len(rows.unique()) == len(rows) <= 8
        assert len(method.subclasses[rows].unique()) == 2
    before = len(seen)
    method.step(batch, context(3))  # in the warm-up it is the batch of the loop
    assert len(seen) == before


def test_labels_that_neighbours_do_not_share_are_left_out(
    settings: Make, build: Make, context: Make, batch_of: Make, blobs: Make
) -> None:
    """Each such row is a class of its own: its label, whatever it is, changes nothing."""
    x, y = blobs((30, 10))
    method = build(settings(filter={"enabled": True, "keep": 0.5}), y=y).train()
    method.regroup(10, context().runtime)
    kept = method.kept
    assert kept.sum() == 20
    batch, ctx = batch_of(method), context(11)
    loss = method.step(batch, ctx).loss
    method.given[~kept] = 1 - method.given[~kept]
    method.subclasses[~kept] = 0
    assert torch.equal(method.step(batch, ctx).loss, loss)
    found = method.found
    assert found is not None
    assert found.sizes.sum() == 20
    assert len(x) == len(kept)


# Going on --------------------------------------------------------------------------------------------------------


def stopper(step: int) -> Callable[[], str | None]:
    """Asks for an end after so many steps."""
    left = iter(range(step - 1, -1, -1))
    return lambda: None if next(left, 0) else "a test"


@pytest.mark.parametrize("queue", [0, 16])
def test_going_on_in_the_middle_of_an_interval(
    settings: Make, build: Make, encoder: Make, cpu: Runtime, tmp_path: Path, queue: int
) -> None:
    """Before, at and after steps that find subclasses: weights, subclasses and temperatures are those of one go."""
    config = settings(epochs=8, queue={"size": queue}, checkpoint={"every_fraction": 1.0})
    straight = build(config)
    run(straight, config, cpu)
    for at in (4, 10, 11, 17, 25, 26, 33):
        store = CheckpointStore(tmp_path / f"{at}")
        with pytest.raises(PreemptedError, match=f"after step {at} of 40"):
            run(build(config), config, cpu, store=store, stop=stopper(at))
        saved = store.load(at).method
        assert bool(saved["parts"].any()) == (at > 10)
        resumed = build(config, encoder(9))  # other weights: all comes from the checkpoint
        run(resumed, config, cpu, store=store, resume=True)
        found = resumed.state_dict()
        assert all(torch.equal(value, found[name]) for name, value in straight.state_dict().items()), at


# Bad input -------------------------------------------------------------------------------------------------------


def test_classes_of_one_row_and_of_none(settings: Make, cpu: Runtime, blobs: Make, encoder: Make) -> None:
    """They train."""
    x, y = blobs((28, 1, 11))
    given = torch.where(y == 2, 3, y)  # class 2 has none
    config = settings()
    method = SBCL(config, encoder(), FeatureInputs(x), given, 4)
    run(method, config, cpu)
    assert all(
        tensor.isfinite().all() for tensor in method.state_dict().values() if tensor.is_floating_point()
    )
    assert method.parts.tolist() == [5, 1, 0, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": 5}, "groups: at most half of batch_size=8 expected"),
        ({"subclasses": {"delta": 0}}, "delta"),
        ({"head": {"kind": "knn"}}, "head.kind=knn: votes of training rows are no weights to save"),
        ({"imbalance": {"ratio": None, "largest": 5}}, "imbalance.largest=5: needs imbalance.ratio"),
        ({"temperature": 0.0}, "temperature"),
    ],
)
def test_settings_that_make_no_sense(settings: Make, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings(**changes)


class Rows(Dataset[Tensor]):
    """A dataset of torch whose items nobody knows how to change."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> Tensor:
        return torch.full((4,), float(index))


def test_rows_without_views(settings: Make, build: Make, context: Make) -> None:
    """Said at the first step, with what to do."""
    method = build(settings(), inputs=DatasetInputs(Rows()))
    batch = RowBatches(method.inputs, method.given, 8, 0).batch(0)
    with pytest.raises(ConfigError, match="two_views: DatasetInputs has no views to contrast"):
        method.step(batch, context())
