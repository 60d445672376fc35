"""Nothing waits for the device: on one that has no values at all, whatever reads one raises an error."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nearfar.adapters import FeatureInputs, ImageInputs, Inputs, NodeInputs, SequenceInputs, SeriesInputs
from nearfar.runtime import generator, to_device

EDGES = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
KINDS = [
    FeatureInputs(torch.rand(4, 3, generator=generator(0, "x"))),
    ImageInputs(torch.rand(4, 3, 8, 8, generator=generator(0, "x")), noise=0.1),
    ImageInputs(torch.rand(4, 1, 8, 8, generator=generator(0, "x"))),
    SeriesInputs(torch.rand(4, 9, 2, generator=generator(0, "x"))),
    NodeInputs(4, EDGES, num_features=3),
    SequenceInputs([[1, 2, 3], [4], [5, 6], [7, 8, 9, 1]]),
]


def tensors(batch: Any) -> list[torch.Tensor]:
    parts = (
        vars(batch).values() if hasattr(batch, "__dict__") and not isinstance(batch, torch.Tensor) else batch
    )
    return [batch] if isinstance(batch, torch.Tensor) else [part for part in parts if part is not None]


@pytest.mark.parametrize("inputs", KINDS, ids=lambda inputs: type(inputs).__name__)
def test_views_and_mixing_read_no_value_of_the_device(inputs: Inputs) -> None:
    device = torch.device("meta")
    batch = to_device(inputs.rows(torch.arange(4)), device)
    found = [inputs.weak(batch, generator(0, "weak")), *inputs.two_views(batch, generator(0, "views"))]
    mixed = inputs.mix(batch, torch.tensor([1, 0, 3, 2]), torch.tensor(0.5))
    for result in [*found, *([] if mixed is None else [mixed])]:
        assert tensors(result)
        assert all(part.device == device for part in tensors(result))
