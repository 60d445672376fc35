"""Which rows a seed takes, and the two sources: from small files of the same form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from nearfar.adapters import representations
from nearfar.errors import DataError
from nearfar.optional import PACKAGES, installed
from nearfar.pipelines.hidden_classes.merging import Merging
from nearfar.pipelines.hidden_classes.sources import SPEAKERS, TOPICS, Labelled, Pool, speakers, topics

Make = Callable[..., Pool]


def numbers(part: Labelled) -> list[int]:
    """Of the rows, which are in their last column."""
    rows = part.inputs.rows(torch.arange(len(part.inputs)))[:, -1]
    return [round(value) for value in (1000 * rows).tolist()]


def test_rows_of_a_seed_are_as_the_merging_says(make_pool: Make) -> None:
    pool = make_pool()
    train, test = pool.draw(3)
    assert pool.tested is not None
    assert np.bincount(train.fine).tolist() == list(pool.merging.sizes)
    assert numbers(test) == pool.tested.tolist()
    for part in (train, test):
        rows = numbers(part)
        assert len(set(rows)) == len(rows)
        assert part.fine.tolist() == pool.fine[rows].tolist()
        assert part.coarse.tolist() == pool.merging.coarse(part.fine).tolist()
    assert not set(numbers(train)) & set(numbers(test))
    assert numbers(pool.draw(3)[0]) == numbers(train) != numbers(pool.draw(4)[0])


def test_without_a_split_half_of_every_class_is_tested(make_pool: Make) -> None:
    pool = make_pool(tested=None, merging=Merging(((0, 1, 2), (3, 4), (5,)), (99,) * 6))
    train, test = pool.draw(0)
    assert np.bincount(train.fine).tolist() == np.bincount(test.fine).tolist() == [20] * 6
    assert sorted(numbers(train) + numbers(test)) == list(range(240))
    assert numbers(pool.draw(1)[1]) != numbers(test)


def test_a_coarse_class_without_rows(make_pool: Make) -> None:
    """Its fine classes are all in the test part."""
    x = make_pool()
    assert x.tested is not None
    everything = np.union1d(x.tested, np.flatnonzero(np.isin(x.fine, (3, 4))))
    with pytest.raises(DataError, match="clouds: coarse class B, made of dog, elk, has no row to train on"):
        make_pool(tested=everything).draw(0)
    with pytest.raises(DataError, match="clouds: no row to test on"):
        make_pool(tested=np.array([], dtype=np.int64)).draw(0)


def test_encoders_are_a_function_of_the_seed(make_pool: Make) -> None:
    pool = make_pool()
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first, again, other = (pool.new_encoder(seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    states = [torch.cat([p.flatten() for p in encoder.parameters()]) for encoder in (first, again, other)]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def write_speakers(folder: Path, per_class: int = 4) -> None:
    """Nine classes of series of different length in the form of the archive."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part in ("TRAIN", "TEST"):
        lines = [
            "@problemName JapaneseVowels",
            "@univariate false",
            "@dimensions 12",
            "@equalLength false",
            "@classLabel true " + " ".join(map(str, range(1, 10))),
            "@data",
        ]
        for row in range(9 * per_class):
            steps = int(rng.integers(7, 12))
            channels = [",".join(f"{v:.3f}" for v in rng.normal(row % 9, 1, steps)) for _ in range(12)]
            lines.append(":".join([*channels, str(row % 9 + 1)]))
        (folder / f"JapaneseVowels_{part}.ts").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_speakers_keep_their_split(tmp_path: Path) -> None:
    write_speakers(tmp_path / "classification" / "JapaneseVowels")
    pool = speakers(tmp_path)
    assert (pool.domain, pool.data, pool.merging) == ("timeseries", "JapaneseVowels", SPEAKERS)
    assert pool.names == tuple(map(str, range(1, 10)))
    (train, test), (_, later) = pool.draw(0), pool.draw(1)
    assert np.bincount(train.fine).tolist() == [4] * 9
    assert np.bincount(test.coarse).tolist() == [20, 8, 4, 4]
    assert test.fine.tolist() == later.fine.tolist()
    encoder = pool.new_encoder(0)
    assert representations(encoder, test.inputs).shape == (36, 64)
    # Class k of the files has level k: the test series are those of the labels.
    levels = test.inputs.rows(torch.arange(36)).nanmean((1, 2))
    assert float(np.corrcoef(levels.numpy(), test.fine)[0, 1]) > 0.98


@pytest.mark.skipif(
    not installed("torch_geometric"), reason=f"needs PyG: {PACKAGES['torch_geometric'].command}"
)
def test_topics_are_numbered_by_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nearfar.graph
    from nearfar.graph import GraphDataset
    from nearfar.graph.checks import clean_edges

    sizes = (6, 20, 8, 30, 14, 10, 12)
    y = torch.repeat_interleave(torch.arange(7), torch.tensor(sizes))
    here = torch.arange(len(y))
    edges, _ = clean_edges(torch.stack([here, (here + 1) % len(y)]), len(y))
    mask = torch.zeros(3, len(y), dtype=torch.bool)
    mask[here % 3, here] = True
    x = torch.nn.functional.one_hot(y, 9).float()
    data = GraphDataset("cora", "here", x, edges, y, mask[0], mask[1], mask[2])
    monkeypatch.setattr(nearfar.graph, "load_dataset", lambda name, folder: data)
    pool = topics(tmp_path)
    assert pool.merging is TOPICS
    assert pool.names == ("3", "1", "4", "6", "5", "2", "0")
    assert [int(pool.names[k]) for k in pool.fine] == y.tolist()
    train, test = pool.draw(0)
    assert np.bincount(train.fine).tolist() == np.bincount(test.fine).tolist() == [15, 10, 7, 6, 5, 4, 3]
    assert representations(pool.new_encoder(0), train.inputs).shape == (50, 64)
    first, second = train.inputs.two_views(train.inputs.rows(torch.arange(3)), torch.Generator())
    assert first.edges is not None
    assert len(first.edges) != len(second.edges)


def test_absent_data_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="JapaneseVowels"):
        speakers(tmp_path)
    if installed("torch_geometric"):
        with pytest.raises(DataError, match=r"ind\.cora\.x"):
            topics(tmp_path)
