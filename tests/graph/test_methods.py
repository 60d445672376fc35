"""The encoder, its mini-batches, and every base model's way through training."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nearfar.graph.compactness import contrast_vectors
from nearfar.graph.contrast.method import EncodedViews
from nearfar.graph.features import Features
from nearfar.graph.registry import METHODS
from nearfar.graph.views import GraphBatch
from nearfar.runtime import Runtime
from nearfar.testing.conformance import Subject
from nearfar.training import StepContext, Trainer

pytest.importorskip("torch_geometric")

BASES = {
    "grace": ["base=grace"],
    "gca": ["base=gca"],
    "gca-pr": ["base=gca", "augment.centrality=pr"],
    "gca-evc": ["base=gca", "augment.centrality=evc"],
    "progcl": ["base=progcl", "mixture_epoch=12"],
    "costa": ["base=costa"],
    "bgrl": ["base=bgrl"],
}


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Subject]:
    found: dict[str, Subject] = {}

    def of(name: str) -> Subject:
        if name not in found:
            entry = METHODS[name]
            words = entry.load("example")(tmp_path_factory.mktemp(name))
            found[name] = Subject(entry, tuple(words))
        return found[name]

    return of


def near(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10)


def in_double(subject: Subject, *more: str) -> tuple[Any, Any, StepContext]:
    """A method in float64, its batches, and the context of the first step."""
    method, source, config = subject.build(*more)
    return method.double().train(), source, StepContext(config.seed, 0, subject.runtime, 1)


def loss_and_gradients(method: Any, batch: GraphBatch, ctx: StepContext) -> tuple[Tensor, dict[str, Tensor]]:
    method.zero_grad(set_to_none=True)
    loss = method.step(batch, ctx).loss
    loss.backward()
    return loss.detach(), {n: p.grad for n, p in method.named_parameters() if p.grad is not None}


# The encoder


@pytest.mark.parametrize("activation", ["relu", "prelu", "leaky_relu", "identity"])
def test_pyg_computes_the_same(subject: Callable[[str], Subject], activation: str) -> None:
    method, source, _ = in_double(subject("graph.contrast"), f"activation={activation}")
    for parameter in method.encoder.parameters():
        if parameter.dim() == 1 and len(parameter) > 1:
            nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(0))
    data = subject("graph.contrast").task.dataset  # type: ignore[attr-defined]
    x = data.x.double()
    near(method.encoder(x, data.edge_index), method.embed())
    batch = source.batch(3)
    encoded = method.encode_views(batch)
    for view in (0, 1):
        kept = batch.values[view][method.graph.entry] != 0
        assert 0 < kept.sum() < len(kept)
        # Views are normalised in float32; PyG is given the same edges and normalises in float64.
        expected = method.encoder(x, data.edge_index[:, kept])
        torch.testing.assert_close(encoded.z[view], expected, atol=1e-6, rtol=1e-6)
        exact = GraphBatch(None, batch.total, exact_values(method, kept), (None, None))
        near(method.encode_views(exact).z[view], expected)


def exact_values(method: Any, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Normalised adjacency of a view in float64, twice."""
    pattern, loops = method.graph.plain.pattern, method.graph.plain.is_self
    present = loops.index_copy(0, method.graph.entry, kept).double()
    degree = torch.zeros(pattern.num_rows, dtype=torch.float64).index_add(0, pattern.row, present)
    values = present * degree.rsqrt()[pattern.row] * degree.rsqrt()[pattern.col]
    return values, values


def test_hidden_features_are_zero_columns(subject: Callable[[str], Subject]) -> None:
    method, source, _ = in_double(subject("graph.contrast"), "augment.mask_1=0.4", "augment.mask_2=0.2")
    data, batch = subject("graph.contrast").task.dataset, source.batch(0)  # type: ignore[attr-defined]
    encoded = method.encode_views(batch)
    for view in (0, 1):
        hidden = batch.kept_features[view]
        assert not hidden.all()
        near(encoded.y[view], (data.x.double() * hidden) @ method.encoder.layers().weights[0])


def test_sparse_features_are_dense_ones() -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(30, 20, generator=rng, dtype=torch.float64)
    x = x * (torch.rand(30, 20, generator=rng) < 0.06)
    sparse, dense = Features.of(x), Features(x)
    assert sparse.pattern is not None
    assert Features.of(x + 1).pattern is None
    nodes, gradients = torch.tensor([7, 0, 29, 3]), []
    for features in (sparse, dense):
        weight = torch.randn(
            20, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True
        )
        whole, some = features.times(weight), features.rows(nodes).times(weight)
        near(whole, x @ weight)
        near(some, (x @ weight)[nodes])
        (whole.sin().sum() + some.cos().sum()).backward()
        assert weight.grad is not None
        gradients.append(weight.grad)
    near(gradients[0], gradients[1])


# Mini-batches of what the contrasted nodes can see

NODES = 60
MODES = {
    "certified": [],
    "ibp": ["compactness.mode=ibp"],
    "sampled": ["compactness.mode=sampled"],
    "relaxed_at": ["compactness.mode=relaxed_at"],
    "surrogate": ["compactness.mode=surrogate", "compactness.node_list=official"],
}


@pytest.mark.parametrize("mode", [None, *MODES])
def test_a_closure_of_all_nodes_is_the_whole_graph(
    subject: Callable[[str], Subject], mode: str | None
) -> None:
    name, words = ("graph.contrast", []) if mode is None else ("graph.pot", MODES[mode])
    found = []
    for more in (["sampling=full"], ["sampling=closure", f"batch_nodes={NODES}"]):
        method, source, ctx = in_double(subject(name), "augment.mask_1=0.2", *words, *more)
        found.append(loss_and_gradients(method, source.batch(0), ctx))
    (whole, expected), (cut, gradients) = found
    near(cut, whole)
    assert gradients.keys() == expected.keys()
    for key, value in expected.items():
        near(gradients[key], value)


@pytest.mark.parametrize("mode", [None, *MODES])
def test_a_closure_is_exact_at_its_nodes(subject: Callable[[str], Subject], mode: str | None) -> None:
    name, words = ("graph.contrast", []) if mode is None else ("graph.pot", MODES[mode])
    whole, full_source, _ = in_double(subject(name), *words)
    part, source, _ = in_double(subject(name), *words, "sampling=closure", "batch_nodes=9")
    part.load_state_dict(whole.state_dict())
    seen = []
    for step in (0, 1, source.steps_per_epoch - 1, source.steps_per_epoch):
        batch, full = source.batch(step), full_source.batch(step)
        seen.append(batch.nodes)
        encoded, expected = part.encode_views(batch), whole.encode_views(full)
        for view in (0, 1):
            near(encoded.z[view], expected.z[view][batch.nodes])
        if mode in (None, "surrogate"):  # which is that of the graph among the nodes
            continue
        # The same contrast vectors: those of the batch, at the nodes of the batch.
        same = tuple(z.new_zeros(NODES, z.shape[1]).index_copy(0, batch.nodes, z) for z in encoded.z)
        scores = part.compactness(batch, encoded)
        for view in (0, 1):
            w = same[0].new_zeros(NODES, same[0].shape[1])
            w[batch.nodes] = contrast_vectors(encoded.z[1 - view])
            around = whole.whole[view].to_dtype(torch.float64)
            values = full.extra.values[view].double()
            known = around.bound(expected.layers, expected.y[view], w, values)
            near(scores[view], known[batch.nodes])
    assert not torch.equal(seen[0], seen[-1])


def test_a_last_batch_that_is_smaller_counts_its_own_nodes(subject: Callable[[str], Subject]) -> None:
    _, source, _ = in_double(subject("graph.pot"), "sampling=closure", "batch_nodes=25")
    batches = [source.batch(step) for step in range(source.steps_per_epoch)]
    assert [len(batch.nodes) for batch in batches] == [25, 25, 10]
    assert [batch.total for batch in batches] == [25, 25, 10]
    assert [batch.extra.total for batch in batches] == [25, 25, 10]


def test_an_epoch_of_closures_contrasts_every_node(subject: Callable[[str], Subject]) -> None:
    _, source, _ = in_double(subject("graph.contrast"), "sampling=closure", "batch_nodes=9")
    assert source.steps_per_epoch == math.ceil(NODES / 9)
    nodes = torch.cat([source.batch(step).nodes for step in range(source.steps_per_epoch)])
    assert torch.equal(nodes.sort().values, torch.arange(NODES))


# Training


def run(
    subject: Subject, words: list[str], steps: range, state: dict[str, Any] | None = None
) -> tuple[list[float], dict[str, Any]]:
    """Losses of some steps from a state, and the state after them."""
    method, source, config = subject.build("activation=prelu", *words)
    trainer = Trainer.of(method, source, config, subject.runtime)
    if state is not None:
        method.load_state_dict(state["method"])
        trainer.optimizers["main"].load_state_dict(state["optimizer"])
        trainer.done.step = steps.start
    losses: dict[int, float] = {}
    trainer.buffer._log = lambda metrics, step: losses.update({step: metrics["train/loss"]})
    for step in steps:
        trainer.step(source.batch(step))
        assert 0 <= float(method.encoder.activation.weight.detach()) <= 1  # type: ignore[union-attr, operator]
    trainer.buffer.flush()
    after = {"method": method.state_dict(), "optimizer": trainer.optimizers["main"].state_dict()}
    return [losses[step] for step in sorted(losses)], copy.deepcopy(after)


@pytest.mark.parametrize(
    ("name", "base"),
    [*(("graph.contrast", base) for base in BASES), ("graph.pot", "progcl"), ("graph.pot", "bgrl")],
)
def test_every_base_model_trains_goes_on_and_repeats(
    subject: Callable[[str], Subject], name: str, base: str
) -> None:
    one, words = subject(name), BASES[base]
    losses, state = run(one, words, range(30))
    assert len(losses) == 30
    assert all(map(math.isfinite, losses))
    if base == "progcl":  # another loss from step 12 on
        assert sum(losses[9:12]) < sum(losses[:3])
        assert sum(losses[-3:]) < sum(losses[12:15])
        assert not torch.equal(state["method"]["mixture"], torch.ones(3, 2))
    else:
        assert sum(losses[-5:]) < sum(losses[:5])
    # Twice: before the mixture is fitted, and after.
    for middle in (7, 17) if base == "progcl" else (13,):
        before, half = run(one, words, range(middle))
        after, end = run(one, words, range(middle, 30), half)
        assert before + after == losses
        same = [torch.equal(end["method"][key], value) for key, value in state["method"].items()]
        assert all(same)
    if base == "bgrl":
        assert any(key.startswith("target") for key in state["method"])


def test_a_prelu_is_brought_back_to_where_bounds_hold(
    subject: Callable[[str], Subject], cpu: Runtime
) -> None:
    method, _, _ = subject("graph.contrast").build("activation=prelu")
    slope = method.encoder.activation.weight  # type: ignore[union-attr]
    for value, expected in ((-0.3, 0.0), (1.7, 1.0), (0.6, 0.6)):
        nn.init.constant_(slope, value)  # type: ignore[arg-type]
        method.after_step(StepContext(0, 0, cpu, 1))
        assert float(slope.detach()) == pytest.approx(expected)  # type: ignore[operator]


# POT


@pytest.mark.parametrize("mode", ["certified", "sampled"])
def test_pots_part_begins_at_log_2(subject: Callable[[str], Subject], mode: str) -> None:
    method, source, ctx = in_double(subject("graph.pot"), f"compactness.mode={mode}")
    terms = method.step(source.batch(0), ctx).terms
    assert abs(float(terms["pot"].detach()) - math.log(2)) < 0.1


def test_the_loss_is_the_mix_of_both_parts(subject: Callable[[str], Subject]) -> None:
    for kappa in (0.0, 0.25, 1.0):
        method, source, ctx = in_double(subject("graph.pot"), f"kappa={kappa}", "logit_scale=3.0")
        batch = source.batch(0)
        found = method.step(batch, ctx)
        encoded = method.encode_views(batch)
        assert isinstance(encoded, EncodedViews)
        scores = torch.cat(method.compactness(batch, encoded))
        pot = (1 + (-3 * scores).exp()).log().mean()
        contrast = method.contrast_loss(batch, *encoded.z, ctx)
        near(found.loss, (1 - kappa) * contrast + kappa * pot)
        near(found.terms["positive_share"], (scores > 0).double().mean())


def test_without_pot_it_is_the_base_model(subject: Callable[[str], Subject]) -> None:
    found = []
    for name, more in (("graph.contrast", []), ("graph.pot", ["kappa=0"])):
        method, source, ctx = in_double(subject(name), *more)
        found.append(loss_and_gradients(method, source.batch(0), ctx))
    near(found[0][0], found[1][0])
    for key, value in found[0][1].items():
        near(found[1][1][key], value)
