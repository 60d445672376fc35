"""Data sets of torch with the user's functions."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from nearfar.adapters import DatasetInputs, convex, representations
from nearfar.errors import ConfigError, DataError
from nearfar.optional import PACKAGES, installed
from nearfar.runtime import generator


class Squares(Dataset[Any]):
    """Numbers with their squares, in the form asked for."""

    def __init__(self, form: Any) -> None:
        self.form = form

    def __len__(self) -> int:
        return 5

    def __getitem__(self, number: int) -> Any:
        return self.form(number)


class Pair(NamedTuple):
    """An input of two tensors."""

    first: Tensor
    second: Tensor


def test_labels_are_left_aside() -> None:
    x = torch.arange(10.0).reshape(5, 2)
    for dataset in (TensorDataset(x, torch.arange(5)), [[row, 1] for row in x], x):
        inputs = DatasetInputs(dataset)
        assert len(inputs) == 5
        assert torch.equal(inputs.rows(torch.tensor([4, 0, 0])), x[[4, 0, 0]])


def test_inputs_of_two_parts_are_told_from_labels_by_the_user() -> None:
    inputs = DatasetInputs(Squares(lambda n: (torch.tensor(n), torch.tensor(n**2))), labelled=False)
    first, second = inputs.rows(torch.tensor([2, 3]))
    assert first.tolist() == [2, 3]
    assert second.tolist() == [4, 9]
    named = DatasetInputs(Squares(lambda n: Pair(torch.tensor(n), torch.tensor(n**2))))
    assert named.rows(torch.tensor([3])).second.tolist() == [9]


def test_the_users_functions_are_called() -> None:
    inputs = DatasetInputs(
        torch.arange(5.0),
        two_views=lambda batch, generator: (batch + torch.rand(1, generator=generator), -batch),
        weak=lambda batch, generator: 2 * batch,
        mix=convex,
        collate=lambda items: torch.stack(items)[:, None],
    )
    batch = inputs.rows(torch.tensor([1, 3]))
    assert batch.tolist() == [[1], [3]]
    first, second = inputs.two_views(batch, generator(0, "views"))
    assert torch.equal(second, -batch)
    assert torch.equal(first, inputs.two_views(batch, generator(0, "views"))[0])
    assert inputs.weak(batch, generator(0, "weak")).tolist() == [[2], [6]]
    mixed = inputs.mix(batch, torch.tensor([1, 0]), torch.tensor(0.75))
    assert mixed is not None
    assert mixed.tolist() == [[1.5], [2.5]]


def test_without_functions() -> None:
    inputs = DatasetInputs(torch.arange(5.0))
    batch = inputs.rows(torch.tensor([1, 3]))
    assert inputs.weak(batch, generator(0, "weak")) is batch
    assert inputs.mix(batch, torch.tensor([1, 0]), torch.tensor(0.75)) is None
    with pytest.raises(ConfigError, match="DatasetInputs has no views to contrast"):
        inputs.two_views(batch, generator(0, "views"))


def test_data_sets_that_are_refused() -> None:
    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Any:
            yield from range(3)

    with pytest.raises(
        ConfigError, match="dataset: a length and items by number expected, Stream has not both"
    ):
        DatasetInputs(Stream())
    with pytest.raises(DataError, match="dataset: at least one item"):
        DatasetInputs([])
    with pytest.raises(ConfigError, match="collate: items of type object need a function"):
        DatasetInputs(Squares(lambda n: object())).rows(torch.tensor([0]))
    with pytest.raises(ConfigError, match="collate: items of type Tensor need a function"):
        DatasetInputs(Squares(lambda n: torch.zeros(n))).rows(torch.tensor([0, 1]))


def test_end_to_end() -> None:
    x = torch.randn(5, 3, generator=generator(0, "x"))
    layer = nn.Linear(3, 2)
    z = representations(layer, DatasetInputs(TensorDataset(x, torch.arange(5))), batch_size=2)
    torch.testing.assert_close(z, layer(x).detach())


@pytest.mark.skipif(
    not installed("torch_geometric"), reason=f"needs PyG: {PACKAGES['torch_geometric'].command}"
)
def test_graphs_of_pyg() -> None:
    from torch_geometric.data import Batch, Data

    graphs = [Data(x=torch.full((n, 2), float(n)), edge_index=torch.zeros(2, 0).long()) for n in (1, 2, 3)]

    class Sums(nn.Module):
        def forward(self, batch: Any) -> Tensor:
            return torch.zeros(batch.num_graphs, 2).index_add(0, batch.batch, batch.x)

    with pytest.raises(ConfigError, match="collate: items of type Data need a function"):
        DatasetInputs(graphs).rows(torch.tensor([0]))
    z = representations(Sums(), DatasetInputs(graphs, collate=Batch.from_data_list))
    assert z.tolist() == [[1, 1], [4, 4], [9, 9]]
