"""P05: what every augmentation promises, whatever its strength; a new one that is not listed here fails a test.

Shape, dtype and device stay and the input is not touched. With probability 0 nothing changes; at the end of its range
a strength does what its docstring says. Nothing comes from nowhere: no new items, nodes or edges, no step from
outside of the series, and time never runs backwards where nobody asked for that.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import nearfar.augment
from nearfar.augment import graphs, images, sequences, series
from nearfar.augment.series import SeriesOp
from nearfar.augment.series.time_order import reversed_series, swapped_segments
from nearfar.optional import installed

pytest.importorskip("hypothesis", reason="hypothesis is not installed")

from hypothesis import assume, given, settings
from hypothesis import strategies as st

# Some thirty operations are tried, each on a fifth of the examples.
EACH = settings(max_examples=settings().max_examples // 5)
seeds = st.integers(0, 2**32)
dtypes = st.sampled_from([torch.float32, torch.float64])
shares = st.floats(0, 1)
shapes = st.tuples(st.integers(1, 5), st.integers(1, 12), st.integers(1, 3))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


SIMPLE = st.sampled_from(
    [series.Scaling(), series.LowPass(), series.TimeWarp(), series.Jitter(), series.Cutout()]
)
several = st.lists(SIMPLE, min_size=1, max_size=3).map(tuple)
# Parameters of every operation on series, all they may have.
OPS: dict[str, Callable[..., st.SearchStrategy[SeriesOp]]] = {
    "BandStop": lambda p: st.builds(series.BandStop, shares, p=p),
    "ChannelDropout": lambda p: st.builds(series.ChannelDropout, shares, p=p),
    "Compose": lambda p: st.builds(series.Compose, several, p=p),
    "Cutout": lambda p: st.builds(series.Cutout, shares, p=p),
    "Flip": lambda p: st.builds(series.Flip, p=p),
    "FrequencyJitter": lambda p: st.builds(series.FrequencyJitter, st.floats(0, 10), p=p),
    "FrequencyMask": lambda p: st.builds(series.FrequencyMask, shares, p=p),
    "HiddenBinomial": lambda p: st.builds(series.HiddenBinomial, shares, p=p),
    "HiddenContinuous": lambda p: st.builds(series.HiddenContinuous, st.integers(1, 6), shares, p=p),
    "HiddenLast": lambda p: st.builds(series.HiddenLast, p=p),
    "HighPass": lambda p: st.builds(series.HighPass, shares, p=p),
    "Identity": lambda p: st.builds(series.Identity, p=p),
    "Jitter": lambda p: st.builds(series.Jitter, st.floats(0, 10), p=p),
    "LowPass": lambda p: st.builds(series.LowPass, shares, p=p),
    "MagnitudeWarp": lambda p: st.builds(
        series.MagnitudeWarp, st.floats(0, 10), st.integers(2, 7), st.sampled_from(["cubic", "linear"]), p=p
    ),
    "Mixup": lambda p: st.builds(series.Mixup, st.floats(0.05, 1000), p=p),
    "OneOf": lambda p: st.builds(series.OneOf, several, p=p),
    "Permutation": lambda p: st.builds(series.Permutation, st.integers(2, 9), p=p),
    "PhaseShift": lambda p: st.builds(series.PhaseShift, st.floats(0, 3.14), p=p),
    "Reverse": lambda p: st.builds(series.Reverse, p=p),
    "Scaling": lambda p: st.builds(series.Scaling, st.floats(0, 10), p=p),
    "Subsequence": lambda p: st.builds(series.Subsequence, st.integers(1, 15), p=p),
    "TimeMask": lambda p: st.builds(series.TimeMask, shares, p=p),
    "TimeShift": lambda p: st.builds(series.TimeShift, shares, p=p),
    "TimeWarp": lambda p: st.builds(series.TimeWarp, st.integers(0, 20), st.floats(1, 20), p=p),
    "WindowSlice": lambda p: st.builds(series.WindowSlice, shares, p=p),
    "WindowWarp": lambda p: st.builds(series.WindowWarp, shares, st.just((0.5, 2.0)), p=p),
}
# These say in their names that steps change places.
OUT_OF_ORDER = {"Permutation", "Reverse", "TimeShift"}
BY_HAND = {
    "sequences.crop", "sequences.mask", "sequences.reorder", "sequences.two_views",
    "graphs.drop_edges", "graphs.mask_features", "graphs.edge_drop_probability", "graphs.feature_mask_probability",
    "images.color_jitter", "images.flip", "images.grayscale", "images.padded_crop", "images.resized_crop",
    "images.two_views",
    "series.crops.OverlappingCrops", "series.mixture.MixtureAugment",
    "series.time_order.reversed_series", "series.time_order.swapped_segments",
}  # fmt: skip
NO_AUGMENTATION = {
    "draws": "random numbers",
    "interpolation": "how a place between two steps is read",
    "strength": "checks of arguments",
    "series.batch": "what operations are given",
    "series.operation": "what operations have in common",
    "series.view": "what operations return",
    "series.crops.CropPair": "what OverlappingCrops returns",
}


def public() -> Iterator[tuple[str, Any]]:
    """Everything the package defines, by module and name."""
    for info in pkgutil.walk_packages(nearfar.augment.__path__, "nearfar.augment."):
        module = importlib.import_module(info.name)
        for name, found in vars(module).items():
            mine = (inspect.isfunction(found) or inspect.isclass(found)) and found.__module__ == info.name
            if mine and not name.startswith("_"):
                yield f"{info.name.removeprefix('nearfar.augment.')}.{name}", found


@pytest.mark.row("P05")
def test_no_augmentation_is_forgotten() -> None:
    found = {
        place: thing
        for place, thing in public()
        if place not in NO_AUGMENTATION and place.rpartition(".")[0] not in NO_AUGMENTATION
    }
    ops = {
        place.rpartition(".")[2]
        for place, thing in found.items()
        if isinstance(thing, type) and issubclass(thing, SeriesOp)
    }
    assert ops == set(OPS)
    rest = {place for place in found if place.rpartition(".")[2] not in ops}
    assert rest == BY_HAND
    assert len({place for place, _ in public()}) > 40


@st.composite
def padded(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Series ``(B, T, F)`` and their valid steps ``(B, T)``: a run a row, maybe none."""
    shape, seed, dtype = draw(shapes), draw(seeds), draw(dtypes)
    x = torch.randn(shape, generator=seeded(seed), dtype=torch.float64).to(dtype)
    valid = torch.zeros(shape[:2], dtype=torch.bool)
    for row in valid:
        begin, end = sorted(draw(st.tuples(st.integers(0, shape[1]), st.integers(0, shape[1]))))
        row[begin:end] = True
    if draw(st.booleans()):
        valid[:] = True
    return x, valid


@pytest.mark.row("P05")
@pytest.mark.parametrize("name", OPS)
@EACH
@given(data=st.data(), batch=padded(), seed=seeds)
def test_operations_on_series(
    name: str, data: st.DataObject, batch: tuple[Tensor, Tensor], seed: int
) -> None:
    x, valid = batch
    op = data.draw(OPS[name](shares))
    before = x.clone()
    view = op(x, seeded(seed), valid=valid)
    out = view.apply(x)
    assert (out.shape, out.dtype, out.device) == (x.shape, x.dtype, x.device)
    assert out.isfinite().all()
    assert torch.equal(x, before)
    assert torch.equal(out[~valid], x[~valid])
    assert torch.equal(out, op(x, seeded(seed), valid=valid).apply(x)), "the generator decides"
    if view.index is not None and name not in OUT_OF_ORDER:
        inside = valid[:, 1:] & valid[:, :-1]
        assert (view.index.diff(dim=1)[inside] >= 0).all(), "time runs backwards"
    if name in OUT_OF_ORDER:
        for row, new, run in zip(x, out, valid, strict=True):
            assert Counter(map(tuple, row[run].tolist())) == Counter(map(tuple, new[run].tolist()))
    if view.hidden_mask is not None:
        assert view.hidden_mask[~valid].all()


@pytest.mark.row("P05")
@pytest.mark.parametrize("name", OPS)
@EACH
@given(data=st.data(), batch=padded(), seed=seeds)
def test_never_is_the_identity(
    name: str, data: st.DataObject, batch: tuple[Tensor, Tensor], seed: int
) -> None:
    x, valid = batch
    view = data.draw(OPS[name](st.just(0.0)))(x, seeded(seed), valid=valid)
    assert torch.equal(view.apply(x), x)
    assert view.hidden_mask is None or bool(view.hidden_mask.all())


def mean_of_steps(x: Tensor) -> Tensor:
    return x.mean(1, keepdim=True).expand_as(x)


# At the end of its range a strength does this to every series without padding.
EXTREMES: list[tuple[SeriesOp, Callable[[Tensor], Tensor]]] = [
    (series.BandStop(1.0), torch.zeros_like),
    (series.BandStop(0.0), torch.clone),
    (series.ChannelDropout(0.0), torch.clone),
    (series.Compose((series.Flip(), series.Flip())), torch.clone),
    (series.Cutout(1.0), torch.zeros_like),
    (series.Cutout(0.0), torch.clone),
    (series.Flip(), torch.neg),
    (series.FrequencyJitter(0.0), torch.clone),
    (series.FrequencyMask(1.0), torch.zeros_like),
    (series.FrequencyMask(0.0), torch.clone),
    (series.HighPass(0.0), torch.clone),
    (series.Identity(), torch.clone),
    (series.Jitter(0.0), torch.clone),
    (series.LowPass(0.0), mean_of_steps),
    (series.LowPass(1.0), torch.clone),
    (series.MagnitudeWarp(0.0), torch.clone),
    (series.OneOf((series.Flip(),)), torch.neg),
    (series.PhaseShift(0.0), torch.clone),
    (series.Reverse(), lambda x: x.flip(1)),
    (series.Scaling(0.0), torch.clone),
    (series.Subsequence(99), torch.clone),
    (series.TimeMask(1.0), torch.zeros_like),
    (series.TimeMask(0.0), torch.clone),
    (series.TimeShift(0.0), torch.clone),
    (series.TimeWarp(0), torch.clone),
    (series.TimeWarp(5, 1.0), torch.clone),
    (series.WindowSlice(1.0), torch.clone),
    (series.WindowWarp(1.0), torch.clone),
]


@pytest.mark.row("P05")
@pytest.mark.parametrize(
    ("op", "change"), EXTREMES, ids=lambda part: str(part) if isinstance(part, SeriesOp) else ""
)
@EACH
@given(shape=shapes, seed=seeds)
def test_extremes_of_series(
    op: SeriesOp, change: Callable[[Tensor], Tensor], shape: tuple[int, int, int], seed: int
) -> None:
    x = torch.randn(shape, generator=seeded(seed), dtype=torch.float64)
    torch.testing.assert_close(op(x, seeded(seed)).apply(x), change(x), atol=1e-9, rtol=0)


@pytest.mark.row("P05")
@given(shape=shapes, seed=seeds)
def test_one_feature_survives_every_dropout(shape: tuple[int, int, int], seed: int) -> None:
    x = torch.randn(shape, generator=seeded(seed), dtype=torch.float64)
    out = series.ChannelDropout(1.0)(x, seeded(seed)).apply(x)
    for row, left in zip(x, out, strict=True):
        assert sum(torch.equal(a, b) for a, b in zip(row.T, left.T, strict=True)) == 1
        assert int((left.T != 0).any(1).sum()) == 1


@pytest.mark.row("P05")
@given(batch=padded(), seed=seeds, spans=st.integers(1, 4))
def test_extremes_of_hidden_masks(batch: tuple[Tensor, Tensor], seed: int, spans: int) -> None:
    x, valid = batch
    for op, kept in (
        (series.HiddenBinomial(0.0), ~valid),
        (series.HiddenBinomial(1.0), torch.ones_like(valid)),
        (series.HiddenContinuous(spans, 1.0), ~valid),
    ):
        mask = op(x, seeded(seed), valid=valid).hidden_mask
        assert mask is not None
        assert torch.equal(mask[..., 0], kept)
    mask = series.HiddenLast()(x, seeded(seed), valid=valid).hidden_mask
    assert mask is not None
    for run, row in zip(valid, mask[..., 0], strict=True):
        assert (~row).nonzero().flatten().tolist() == run.nonzero().flatten().tolist()[-1:]


@pytest.mark.row("P05")
@given(batch=padded(), seed=seeds, shortest=st.integers(1, 14))
def test_overlapping_crops(batch: tuple[Tensor, Tensor], seed: int, shortest: int) -> None:
    x, valid = batch
    pair = series.OverlappingCrops(shortest)(x, seeded(seed), valid=valid)
    first, second = pair.first.apply(x), pair.second.apply(x)
    one, two, shared = pair.overlap(first, second)
    assert torch.equal(one, two)
    assert first.shape == second.shape == x.shape
    for row, run in enumerate(valid):
        length, steps = int(run.sum()), x[row][run]
        assert min(shortest, length) <= shared[row].sum() <= length
        common = one[row][: int(shared[row].sum())]
        windows = [steps[begin : begin + len(common)] for begin in range(length - len(common) + 1)]
        assert any(torch.equal(common, window) for window in windows), "not a run of the series"


@pytest.mark.row("P05")
@given(batch=padded(), seed=seeds, hard=st.booleans(), ops=several)
def test_mixture(batch: tuple[Tensor, Tensor], seed: int, hard: bool, ops: tuple[SeriesOp, ...]) -> None:
    x, valid = batch
    before = x.clone()
    for view in series.MixtureAugment(ops, hard=hard)(x, seeded(seed), valid=valid):
        assert (view.shape, view.dtype) == (x.shape, x.dtype)
        assert view.isfinite().all()
        assert torch.equal(view[~valid], x[~valid])
    assert torch.equal(x, before)
    for view in series.MixtureAugment((series.Identity(),), hard=hard)(x, seeded(seed), valid=valid):
        torch.testing.assert_close(view, x)


@pytest.mark.row("P05")
@given(batch=padded(), seed=seeds, segments=st.integers(2, 12))
def test_orders_that_did_not_happen(batch: tuple[Tensor, Tensor], seed: int, segments: int) -> None:
    x, valid = batch
    assume(segments <= x.shape[1])
    before = x.clone()
    backwards = reversed_series(x, valid)
    swapped = swapped_segments(x, seeded(seed), segments=segments, valid=valid)
    assert torch.equal(x, before)
    for row, run in enumerate(valid):
        assert torch.equal(backwards[row][run], x[row][run].flip(0))
        steps = [tuple(step) for step in x[row][run].tolist()]
        moved = [tuple(step) for step in swapped[row][run].tolist()]
        assert Counter(moved) == Counter(steps)
        assert (moved != steps) == (len(steps) > 1)
    for out in (backwards, swapped):
        assert torch.equal(out[~valid], x[~valid])


@st.composite
def item_rows(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Items ``(N, L)`` from 1 to 9, left-aligned, and how many there are in every row."""
    width = draw(st.integers(1, 12))
    lengths = draw(st.lists(st.integers(1, width), min_size=1, max_size=6))
    rows = [
        draw(st.lists(st.integers(1, 9), min_size=size, max_size=size)) + [0] * (width - size)
        for size in lengths
    ]
    return torch.tensor(rows), torch.tensor(lengths)


def floors(value: float) -> set[int]:
    """The whole number below, either one where rounding decides."""
    return {int(value - 1e-4), int(value + 1e-4)}


def is_crop(new: list[int], old: list[int], ratio: float) -> bool:
    fits = len(new) in {max(1, size) for size in floors(len(old) * (1 - ratio))}
    return fits and any(old[begin : begin + len(new)] == new for begin in range(len(old)))


def is_mask(new: list[int], old: list[int], ratio: float) -> bool:
    return all(b in (0, a) for a, b in zip(old, new, strict=True)) and new.count(0) in floors(
        len(old) * ratio
    )


def is_reordered(new: list[int], old: list[int], ratio: float) -> bool:
    moved = [place for place, (a, b) in enumerate(zip(old, new, strict=True)) if a != b]
    within = not moved or moved[-1] - moved[0] < max(floors(len(old) * ratio))
    return within and sorted(new) == sorted(old)


ITEMS: dict[str, tuple[Any, Callable[[list[int], list[int], float], bool]]] = {
    "crop": (sequences.crop, is_crop),
    "mask": (sequences.mask, is_mask),
    "reorder": (sequences.reorder, is_reordered),
}


@pytest.mark.row("P05")
@pytest.mark.parametrize("name", ITEMS)
@given(rows=item_rows(), ratio=st.floats(0, 1, exclude_max=True) | st.just(0.5), seed=seeds)
def test_items(name: str, rows: tuple[Tensor, Tensor], ratio: float, seed: int) -> None:
    items, lengths = rows
    before = items.clone(), lengths.clone()
    augment, right = ITEMS[name]
    new, sizes = augment(items, lengths, seeded(seed), ratio=ratio)
    assert torch.equal(items, before[0])
    assert torch.equal(lengths, before[1])
    assert (new.shape, new.dtype, sizes.dtype) == (items.shape, items.dtype, lengths.dtype)
    for old_row, row, length, size in zip(
        items.tolist(), new.tolist(), lengths.tolist(), sizes.tolist(), strict=True
    ):
        assert right(row[:size], old_row[:length], ratio)
        assert not any(row[size:])
    unchanged, same_lengths = augment(items, lengths, seeded(seed), ratio=0.0)
    assert torch.equal(unchanged, items)
    assert torch.equal(same_lengths, lengths)


@pytest.mark.row("P05")
@given(rows=item_rows(), seed=seeds, ratios=st.tuples(shares, shares, shares))
def test_two_views_of_items(
    rows: tuple[Tensor, Tensor], seed: int, ratios: tuple[float, float, float]
) -> None:
    items, lengths = rows
    names = ("crop_ratio", "mask_ratio", "reorder_ratio")
    ratios = (min(ratios[0], 0.99), *ratios[1:])
    views = sequences.two_views(items, lengths, seeded(seed), **dict(zip(names, ratios, strict=True)))
    for row, length in enumerate(lengths.tolist()):
        old = items[row, :length].tolist()
        kinds = []
        for new, sizes in views:
            seen = new[row, : int(sizes[row])].tolist()
            if length == 1:
                assert seen == old
            else:
                kinds.append({name for (name, (_, right)), r in zip(ITEMS.items(), ratios, strict=True)
                              if (len(seen) == length or name == "crop") and right(seen, old, r)})  # fmt: skip
        if kinds:
            assert any(a != b for a in kinds[0] for b in kinds[1]), "no two different operators made these"


@st.composite
def edge_lists(draw: st.DrawFn) -> tuple[Tensor, int]:
    """Up to 20 edges of up to 6 nodes, self loops and repeated ones among them; and the number of nodes."""
    nodes = draw(st.integers(1, 6))
    node = st.integers(0, nodes - 1)
    edges = draw(st.lists(st.tuples(node, node), max_size=20))
    return torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).T.contiguous(), nodes


@pytest.mark.row("P05")
@given(
    graph=edge_lists(), p=shares, seed=seeds, undirected=st.booleans(), loops=st.booleans(), data=st.data()
)
def test_dropped_edges(
    graph: tuple[Tensor, int], p: float, seed: int, undirected: bool, loops: bool, data: st.DataObject
) -> None:
    edges, nodes = graph
    node_budget = data.draw(st.none() | st.integers(0, 4))
    edge_budget = data.draw(st.none() | st.integers(0, 8))
    before = edges.clone()
    options: dict[str, Any] = {"undirected": undirected, "drop_self_loops": loops}
    budgets: dict[str, Any] = {"node_budget": node_budget, "edge_budget": edge_budget}
    kept, mask = graphs.drop_edges(edges, seeded(seed), p=p, **options, **budgets)
    assert torch.equal(edges, before)
    assert torch.equal(kept, edges[:, mask])
    assert loops or bool(mask[edges[0] == edges[1]].all())
    gone = [tuple(edge) for edge in edges[:, ~mask].T.tolist()]
    pairs = {tuple(sorted(edge)) for edge in gone} if undirected else None
    if undirected:
        same = [mask[(edges[0] == b) & (edges[1] == a)] for a, b in gone]
        assert not any(bool(other.any()) for other in same), "one direction of an edge stayed"
    if node_budget is not None:
        lost = Counter(target for _, target in gone)
        assert all(count <= node_budget for count in lost.values())
    if edge_budget is not None:
        assert len(gone if pairs is None else pairs) <= edge_budget
    assert bool(graphs.drop_edges(edges, seeded(seed), p=0.0, **options)[1].all())
    everything = graphs.drop_edges(edges, seeded(seed), p=1.0, **options)[1]
    assert torch.equal(everything, torch.zeros_like(mask) if loops else edges[0] == edges[1])
    centrality = torch.rand(nodes, generator=seeded(seed)) + 0.1
    if edges.shape[1]:
        chance = graphs.edge_drop_probability(edges, centrality, p=p, cap=0.7)
        assert chance.shape == (edges.shape[1],)
        assert bool(((chance >= 0) & (chance <= 0.7)).all())


@pytest.mark.row("P05")
@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    p=shares,
    seed=seeds,
    dtype=dtypes,
    each=st.booleans(),
)
def test_masked_features(shape: tuple[int, int], p: float, seed: int, dtype: torch.dtype, each: bool) -> None:
    x = torch.randn(shape, generator=seeded(seed), dtype=torch.float64).to(dtype)
    before = x.clone()
    out, kept = graphs.mask_features(x, seeded(seed), p=p, per_node=each)
    assert torch.equal(x, before)
    assert (out.shape, out.dtype) == (x.shape, x.dtype)
    assert kept.shape == (shape[0] if each else 1, shape[1])
    assert torch.equal(out, torch.where(kept, x, 0))
    assert torch.equal(graphs.mask_features(x, seeded(seed), p=0.0, per_node=each)[0], x)
    assert not graphs.mask_features(x, seeded(seed), p=1.0, per_node=each)[0].any()
    chance = graphs.feature_mask_probability(x, torch.ones(shape[0]), p=p, cap=0.7)
    assert chance.shape == (shape[1],)
    assert bool(((chance >= 0) & (chance <= 0.7)).all())


@st.composite
def pictures(draw: st.DrawFn) -> Tensor:
    """Up to three colour images of any shape, values in [0, 1]."""
    shape = draw(st.tuples(st.integers(1, 3), st.just(3), st.integers(1, 6), st.integers(1, 6)))
    return torch.rand(shape, generator=seeded(draw(seeds)), dtype=torch.float64).to(draw(dtypes))


HUE = 0.2 if installed("kornia") else 0.0
IMAGES: dict[str, Callable[[Tensor, torch.Generator, float], Tensor]] = {
    "color_jitter": lambda x, rng, p: images.color_jitter(x, rng, hue=HUE, p=p),
    "flip": lambda x, rng, p: images.flip(x, rng, p=p),
    "grayscale": lambda x, rng, p: images.grayscale(x, rng, p=p),
    "padded_crop": lambda x, rng, p: images.padded_crop(x, rng, padding=round(4 * p)),
    "resized_crop": lambda x, rng, p: images.resized_crop(x, rng, p=p),
    "two_views": lambda x, rng, p: torch.cat(images.two_views(x, rng, strength=p if HUE else 0)).view(
        2, *x.shape
    )[0],
}


@pytest.mark.row("P05")
@pytest.mark.parametrize("name", IMAGES)
@given(x=pictures(), p=shares, seed=seeds)
def test_images(name: str, x: Tensor, p: float, seed: int) -> None:
    before = x.clone()
    out = IMAGES[name](x, seeded(seed), p)
    assert torch.equal(x, before)
    assert (out.shape, out.dtype, out.device) == (x.shape, x.dtype, x.device)
    rounding = 1e-6
    assert bool(((out >= -rounding) & (out <= 1 + rounding)).all())
    if name not in (
        "color_jitter",
        "two_views",
        "padded_crop",
    ):  # a mean, or a permutation, of what there was
        assert out.max() <= x.max() + rounding
        assert out.min() >= x.min() - rounding
    if name != "two_views":
        assert torch.equal(IMAGES[name](x, seeded(seed), 0.0), x)


@pytest.mark.row("P05")
@given(
    x=pictures(), seed=seeds, padding=st.integers(0, 4), size=st.tuples(st.integers(1, 7), st.integers(1, 7))
)
def test_extremes_of_images(x: Tensor, seed: int, padding: int, size: tuple[int, int]) -> None:
    assert torch.equal(images.flip(x, seeded(seed), p=1.0), x.flip(3))
    grey = images.grayscale(x, seeded(seed), p=1.0)
    red, green, blue = x.unbind(1)
    for channel in grey.unbind(1):
        torch.testing.assert_close(channel, 0.299 * red + 0.587 * green + 0.114 * blue)
    for picture, moved in zip(x, images.padded_crop(x, seeded(seed), padding=padding), strict=True):
        around = torch.nn.functional.pad(picture, (padding,) * 4)
        height, width = picture.shape[1:]
        cuts = [
            around[:, top : top + height, left : left + width]
            for top in range(2 * padding + 1)
            for left in range(2 * padding + 1)
        ]
        assert any(torch.equal(moved, cut) for cut in cuts)
    assert images.resized_crop(x, seeded(seed), size=size).shape == (*x.shape[:2], *size)
    still = images.color_jitter(x, seeded(seed), brightness=0, contrast=0, saturation=0, hue=0, p=1.0)
    assert torch.equal(still, x)
