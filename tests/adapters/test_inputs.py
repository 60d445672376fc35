"""What all inputs share: defaults, mixing row by row, representations without gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nearfar.adapters import FeatureInputs, Inputs, convex, device_of, representations
from nearfar.adapters.arrays import as_tensor
from nearfar.errors import ConfigError, DataError
from nearfar.runtime import evaluating, generator


class Plain(Inputs):
    """Numbers 0 to 4."""

    def __len__(self) -> int:
        return 5

    def rows(self, index: Tensor) -> Tensor:
        return index[:, None].float()


def test_defaults_change_nothing_and_name_the_fix() -> None:
    inputs = Plain()
    batch = inputs.rows(torch.arange(3))
    assert inputs.weak(batch, generator(0, "w")) is batch
    assert inputs.mix(batch, torch.arange(3), torch.tensor(0.5)) is None
    with pytest.raises(ConfigError, match="Plain has no views to contrast; give some"):
        inputs.two_views(batch, generator(0, "v"))


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 2, 3, 5)])
def test_mixing_equals_a_loop(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, dtype=torch.float64, generator=generator(0, "x"))
    order = torch.tensor([2, 2, 0, 3])
    for share in (torch.tensor(0.3), torch.tensor([0.0, 1.0, 0.25, 0.9])):
        mixed = convex(x, order, share)
        for i in range(4):
            s = share.double() if share.dim() == 0 else share[i].double()
            assert torch.equal(mixed[i], s * x[i] + (1 - s) * x[order[i]])


def test_shares_of_one_and_zero_are_exact() -> None:
    x, order = torch.randn(5, 3, generator=generator(0, "x")), torch.tensor([1, 2, 3, 4, 0])
    assert torch.equal(convex(x, order, torch.tensor(1.0)), x)
    assert torch.equal(convex(x, order, torch.tensor(0.0)), x[order])


def test_mixing_refuses_what_does_not_fit() -> None:
    x, order = torch.zeros(3, 2), torch.arange(3)
    with pytest.raises(ValueError, match=r"order: int64 of shape \(3,\) expected, got torch.int64 of \(2,\)"):
        convex(x, order[:2], torch.tensor(0.5))
    with pytest.raises(ValueError, match=r"share: a scalar or shape \(3,\) expected, got \(3, 1\)"):
        convex(x, order, torch.zeros(3, 1))
    with pytest.raises(ValueError, match="x: floating point"):
        convex(x.long(), order, torch.tensor(0.5))


class Parts(nn.Module):
    """A batch norm that stays frozen beside dropout that does not."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.dropout = nn.BatchNorm1d(2), nn.Dropout(0.5)
        self.norm.eval()

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.dropout(self.norm(x))
        return found


def test_modes_are_given_back_part_by_part() -> None:
    module = Parts().train()
    module.norm.eval()
    with evaluating(module):
        assert not any(part.training for part in module.modules())
    assert module.training
    assert module.dropout.training
    assert not module.norm.training
    with pytest.raises(RuntimeError), evaluating(module):
        raise RuntimeError
    assert module.training


@pytest.mark.parametrize("size", [None, 1, 3, 100])
def test_representations_do_not_depend_on_batches(size: int | None) -> None:
    x = torch.randn(10, 2, generator=generator(0, "x"))
    module = Parts().train()
    z = representations(module, FeatureInputs(x), batch_size=size)
    torch.testing.assert_close(z, x / (1 + 1e-5) ** 0.5)
    assert not z.requires_grad
    some = torch.tensor([7, 7, 0])
    assert torch.equal(representations(module, FeatureInputs(x), some, batch_size=size), z[some])


def test_representations_that_are_refused() -> None:
    inputs = FeatureInputs(np.eye(4))
    with pytest.raises(ValueError, match=r"Flat has to make shape \(4, m\) of 4 rows, got shape \(16,\)"):
        representations(type("Flat", (nn.Module,), {"forward": lambda self, x: x.flatten()})(), inputs)
    with pytest.raises(ValueError, match="batch_size: at least 1 expected, got 0"):
        representations(nn.Identity(), inputs, batch_size=0)
    with pytest.raises(DataError, match="no row to represent"):
        representations(nn.Identity(), inputs, torch.tensor([], dtype=torch.int64))

    class Wrong(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.where(x.argmax(1, keepdim=True) == 2, torch.nan, x)

    with pytest.raises(DataError, match="row 2 is not finite"):
        representations(Wrong(), inputs, torch.tensor([0, 3, 2]), batch_size=2)


def test_where_a_module_computes() -> None:
    assert device_of(nn.Identity()) == torch.device("cpu")
    assert device_of(nn.Linear(1, 1, device="meta")) == torch.device("meta")


@pytest.mark.parametrize(
    "values",
    [
        np.arange(6.0).reshape(2, 3)[:, ::-1],
        np.arange(6.0).reshape(2, 3).astype(">f8"),
        [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]],
        torch.arange(6.0, requires_grad=True).reshape(2, 3),
    ],
)
def test_arrays_of_all_kinds(values: Any) -> None:
    found = as_tensor("x", values)
    assert not found.requires_grad
    expected = torch.arange(6.0).reshape(2, 3)
    assert torch.equal(found.float().sort(1).values, expected)


def test_arrays_that_cannot_be_written_are_copied() -> None:
    array = np.arange(3.0)
    array.setflags(write=False)
    as_tensor("x", array).zero_()
    assert array.tolist() == [0, 1, 2]


@pytest.mark.parametrize("values", [["a", "b"], [[1.0], [1.0, 2.0]], None, np.zeros(2, dtype=complex)])
def test_what_is_no_array_of_numbers(values: Any) -> None:
    with pytest.raises(DataError, match="numbers expected"):
        as_tensor("x", values)
