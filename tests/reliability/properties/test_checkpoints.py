"""P09: a checkpoint gives back what it was given, bit by bit, and never anything else."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nearfar.errors import CheckpointError
from nearfar.training import Checkpoint, CheckpointStore

pytest.importorskip("hypothesis", reason="hypothesis is not installed")

from hypothesis import assume, event, given
from hypothesis import strategies as st

DTYPES = (
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
)  # fmt: skip


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Any dtype and shape, numbers of no dimension and nothing at all among them, often not laid out in order."""
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    dtype = draw(st.sampled_from(DTYPES))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 2**32)))) * 50
    x[x > 100] = (
        draw(st.sampled_from([0.0, torch.inf, -torch.inf, torch.nan])) if dtype.is_floating_point else 0
    )
    x = x.to(torch.complex64) * (1 + 2j) if dtype.is_complex else x.abs().to(dtype)
    layout = draw(st.sampled_from(["plain", "transposed", "part"]))
    if layout == "transposed" and x.dim() == 2:
        return x.T
    return x[: max(0, len(x) - 1)] if layout == "part" and x.dim() else x


numbers = st.integers(-(2**63), 2**63 - 1) | st.floats() | st.booleans()
plain = numbers | st.none() | st.text(max_size=8)
# Optimizers number the states of their parameters, everything else is named.
keys = st.text(max_size=5) | st.integers(0, 9)
states = st.recursive(
    plain | tensors(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
    ),
    max_leaves=12,
)
named = st.dictionaries(st.text(max_size=8), states, max_size=4)
checkpoints = st.builds(
    Checkpoint,
    step=st.integers(0, 10**8),
    fingerprint=st.dictionaries(st.text(max_size=8), st.text(max_size=8) | st.integers(), max_size=4),
    method=named,
    optimizers=named,
    history=st.lists(st.dictionaries(st.text(max_size=8), st.floats(), max_size=3), max_size=3),
    memory_level=st.integers(0, 9),
    seconds=st.floats(0, 1e9),
    environment=st.dictionaries(st.text(max_size=8), st.text(max_size=8) | st.integers(), max_size=3),
)


def same(a: Any, b: Any) -> bool:
    """Whether types, structure and bits are equal; NaN is NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        if (a.dtype, a.shape) != (b.dtype, b.shape):
            return False
        return not a.numel() or torch.equal(*(x.reshape(-1).contiguous().view(torch.uint8) for x in (a, b)))
    if isinstance(a, Mapping):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b or (a != a and b != b))


def equal(a: Checkpoint, b: Checkpoint) -> bool:
    return same(vars(a), vars(b))


@pytest.mark.row("P09")
@given(checkpoint=checkpoints)
def test_what_goes_in_comes_out(checkpoint: Checkpoint) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = CheckpointStore(Path(folder))
        path = store.save(checkpoint)
        assert equal(store.load(checkpoint.step), checkpoint)
        again = store.load_latest(checkpoint.fingerprint)
        assert again is not None
        assert equal(again, checkpoint)
        assert list(path.parent.iterdir()) == [path]


@pytest.mark.row("P09")
@given(checkpoint=checkpoints, data=st.data())
def test_any_change_of_bytes_is_noticed(checkpoint: Checkpoint, data: st.DataObject) -> None:
    """Refused, or without effect: some bytes of a zip archive, such as the time of its entries, say nothing."""
    with tempfile.TemporaryDirectory() as folder:
        store = CheckpointStore(Path(folder))
        path = store.save(checkpoint)
        content = path.read_bytes()
        damaged = bytearray(content)
        kind = data.draw(st.sampled_from(["byte", "byte", "zeros", "cut", "moved"]))
        place = data.draw(st.integers(0, len(content) - 1))
        if kind == "byte":
            damaged[place] ^= data.draw(st.integers(1, 255))
        elif kind == "zeros":
            damaged[place : place + 64] = bytes(len(damaged[place : place + 64]))
        elif kind == "cut":
            del damaged[place:]
        else:
            damaged[place:place] = damaged[: data.draw(st.integers(1, 64))]
        assume(bytes(damaged) != content)
        path.write_bytes(bytes(damaged))
        try:
            found = store.load(checkpoint.step)
        except CheckpointError as error:
            event("refused")
            assert str(path) in str(error)  # noqa: PT017 - most changes are refused, not all
            return
        event("without effect")
        assert equal(found, checkpoint)


@pytest.mark.row("P09")
@given(
    first=checkpoints, second=checkpoints, place=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255)
)
def test_the_one_before_stands_in_for_a_damaged_one(
    first: Checkpoint, second: Checkpoint, place: float, change: int
) -> None:
    """The first tensor of every file is 4 KiB: wherever it is hit, the file is refused."""
    content = dict(second.method, w=torch.arange(1024))
    newer = Checkpoint(
        **{**vars(second), "method": content, "step": first.step + 1, "fingerprint": first.fingerprint}
    )
    with tempfile.TemporaryDirectory() as folder:
        store = CheckpointStore(Path(folder))
        store.save(first)
        path = store.save(newer)
        damaged = bytearray(path.read_bytes())
        begin = damaged.index(torch.arange(1024).numpy().tobytes())
        damaged[begin + int(place * 8192)] ^= change
        path.write_bytes(bytes(damaged))
        found = store.load_latest(first.fingerprint)
        assert found is not None
        assert equal(found, first)
        assert path.with_suffix(".ckpt.corrupt").exists()
