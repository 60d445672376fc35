"""Checkpoints: atomic, verified, never unpickled, never silently damaged."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from nearfar.errors import CheckpointError, StorageError
from nearfar.training import Checkpoint, CheckpointStore


def make(step: int) -> Checkpoint:
    weights = torch.arange(500, dtype=torch.float32) + step
    return Checkpoint(
        step, {"seed": 0}, {"w": weights}, {"main": {"state": {0: {"step": torch.tensor(3.0)}}}}
    )


def test_round_trip_and_what_is_kept(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "new" / "folder", keep=2)
    for step in range(1, 7):
        store.save(make(step), best=2 if step >= 2 else None)
    assert store.steps() == [2, 5, 6]
    loaded = store.load_latest({"seed": 0})
    assert loaded is not None
    assert loaded.step == 6
    assert torch.equal(loaded.method["w"], make(6).method["w"])
    for step in range(7, 11):
        store.save(make(step), best=7)
    assert store.steps() == [7, 9, 10]
    store.clear()
    assert list(store.folder.iterdir()) == []
    assert store.load_latest({"seed": 0}) is None


@pytest.mark.parametrize(
    ("state", "what"),
    [
        (torch.ones(1).expand(10**9), r"\(1000000000,\) is an expanded view; keep contiguous\(\)"),
        (torch.eye(3).to_sparse(), r"\(3, 3\) is sparse; keep to_dense\(\)"),
    ],
)
def test_what_could_not_be_loaded_is_not_written(tmp_path: Path, state: torch.Tensor, what: str) -> None:
    store = CheckpointStore(tmp_path)
    store.save(make(1))
    with pytest.raises(StorageError, match=f"cannot save the checkpoint .*state of shape {what}"):
        store.save(Checkpoint(2, {"seed": 0}, {"w": torch.ones(3), "mask": state}, {}))
    assert store.steps() == [1]
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.row("R07")
def test_every_flipped_bit_is_noticed(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """Refused, or without effect: some bytes of a zip archive say nothing."""
    store = CheckpointStore(tmp_path)
    path = store.save(make(1))
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    payload = content.index(torch.arange(500, dtype=torch.float32).add(1).numpy().tobytes()[:64])
    places = [*rng.integers(payload, payload + 2000, 100), *rng.integers(0, len(content), 100)]
    record_property("damages", len(places))
    missed, refused = [], 0
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(damaged))
        try:
            loaded = store.load(1)
        except CheckpointError:
            refused += 1
            continue
        same = torch.equal(loaded.method["w"], make(1).method["w"]) and loaded.step == 1
        if not same:
            missed.append(place)
    assert missed == []
    assert refused >= len(places) // 2  # all of those in a tensor


@pytest.mark.row("R07", damages=1)
@pytest.mark.parametrize("keep", [0, 10, 0.5, -1])
def test_truncated_files_give_way_to_the_one_before(tmp_path: Path, keep: float) -> None:
    store = CheckpointStore(tmp_path)
    store.save(make(1))
    newest = store.save(make(2))
    content = newest.read_bytes()
    newest.write_bytes(content[: int(len(content) * keep) if keep == 0.5 else int(keep)])
    loaded = store.load_latest({"seed": 0})
    assert loaded is not None
    assert loaded.step == 1
    assert newest.with_suffix(".ckpt.corrupt").exists()
    (tmp_path / "step-00000001.ckpt").write_bytes(b"")
    with pytest.raises(CheckpointError, match="no checkpoint is usable"):
        store.load_latest({"seed": 0})


@pytest.mark.row("R08")
def test_a_file_that_claims_more_than_its_size_is_not_unpacked(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    with zipfile.ZipFile(store.path(1), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("step/data.pkl", bytes(64 << 20))
    assert store.path(1).stat().st_size < 1 << 20
    with pytest.raises(CheckpointError, match="claims to hold more than its size"):
        store.load(1)


@pytest.mark.row("R08")
def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (open, (str(tmp_path / "trapped"), "w"))  # type: ignore[return-value]

    store = CheckpointStore(tmp_path)
    torch.save({"schema": 1, "trap": Trap()}, store.path(1), pickle_module=pickle)
    with pytest.raises(CheckpointError, match="not a nearfar checkpoint"):
        store.load(1)
    assert not (tmp_path / "trapped").exists()


def test_other_schema_and_other_files(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    torch.save({"schema": 99}, store.path(1))
    with pytest.raises(CheckpointError, match="schema 99"):
        store.load(1)
    with zipfile.ZipFile(store.path(2), "w") as archive:
        archive.writestr("a", "b")
    with pytest.raises(CheckpointError, match="not a nearfar checkpoint"):
        store.load(2)
    with pytest.raises(CheckpointError, match="missing or damaged"):
        store.load(3)


def test_a_failed_save_leaves_the_old_one_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CheckpointStore(tmp_path)
    store.save(make(1))

    def full_disk(content: object, file: object) -> None:
        file.write(b"half of it")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(StorageError, match="No space left"):
        store.save(make(2))
    monkeypatch.undo()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000001.ckpt"]
    loaded = store.load_latest({"seed": 0})
    assert loaded is not None
    assert loaded.step == 1


def test_a_file_that_cannot_be_read_back_is_not_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent_damage(content: object, file: object) -> None:
        file.write(b"x" * 100)  # type: ignore[attr-defined]

    monkeypatch.setattr(torch, "save", silent_damage)
    with pytest.raises(StorageError):
        CheckpointStore(tmp_path).save(make(1))
    assert list(tmp_path.iterdir()) == []
