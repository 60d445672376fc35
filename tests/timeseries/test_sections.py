"""Crops of training series: nothing twice in a pass, nothing outside, the same at every asking."""

from __future__ import annotations

import pytest
import torch

from nearfar.timeseries.sections import Sections, split_into_sections


def test_parts_are_the_series_cut_up() -> None:
    x = torch.arange(261.0 * 2).reshape(2, 261, 1)
    parts = split_into_sections(x, 50)
    assert parts.shape == (10, 53, 1)
    known = parts[~parts.isnan()]
    assert torch.equal(known, x.flatten())
    assert parts.isnan().sum() == 10 * 53 - 522


def test_a_single_short_series_still_has_two_parts() -> None:
    assert split_into_sections(torch.zeros(1, 30, 1), 50).shape == (2, 15, 1)
    assert split_into_sections(torch.zeros(4, 30, 1), 50).shape == (4, 30, 1)


def test_the_published_numbers_of_parts() -> None:
    source = Sections(torch.zeros(1, 8640, 8), crop=257)
    assert (len(source.series), source.batch_size, source.steps_per_epoch) == (33, 32, 1)
    source = Sections(torch.zeros(1, 8640, 8), crop=512, batch_size=32)
    assert (len(source.series), source.batch_size) == (16, 16)


@pytest.mark.parametrize("sampling", ["sections", "anywhere"])
def test_crops_are_pieces_of_the_series(sampling: str) -> None:
    x = torch.arange(1000.0).reshape(1, 1000, 1)
    source = Sections(x, crop=64, batch_size=4, sampling=sampling)  # type: ignore[arg-type]
    starts = set()
    for step in range(2 * source.steps_per_epoch):
        batch = source.batch(step)
        assert torch.equal(batch.nan_to_num(-1), source.batch(step).nan_to_num(-1))
        assert batch.shape == (4, 64, 1)
        for row in batch[..., 0]:
            known = row[~row.isnan()]
            assert torch.equal(known.diff(), torch.ones(len(known) - 1))
            assert len(known) >= 63
            starts.add(int(row[0]))
    assert len(starts) > 4


def test_padding_is_never_all_there_is() -> None:
    x = torch.zeros(6, 100, 1)
    for row in range(6):
        x[row, 20 + 10 * row :] = torch.nan
    source = Sections(x, crop=16, batch_size=6, sampling="anywhere")
    for step in range(20):
        assert not source.batch(step).isnan().any()
