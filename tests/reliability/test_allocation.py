"""The probe that tests of memory trust: that it sees forward and backward passes, views, and lists of results."""

from __future__ import annotations

import torch

from nearfar.testing import LargestTensor


def test_results_of_forward_and_backward_count() -> None:
    x = torch.ones(20, 1, requires_grad=True)
    with LargestTensor() as largest:
        assert largest.numbers == 0
        total = (x @ x.mT).square().sum()
    assert largest.numbers == 400
    with LargestTensor() as largest:
        total.backward()
    assert largest.numbers == 400


def test_views_count_as_what_they_look_into_and_expansions_as_what_they_hold() -> None:
    x, one = torch.ones(100), torch.ones(1)
    with LargestTensor() as largest:
        x[:2].view(2, 1)
    assert largest.numbers == 100
    with LargestTensor() as largest:
        one.expand(1000)
    assert largest.numbers == 1


def test_lists_count_and_sparse_tensors_do_not() -> None:
    x = torch.eye(30)
    with LargestTensor() as largest:
        torch._foreach_add([torch.ones(7), torch.ones(9)], 1)
    assert largest.numbers == 9
    sparse = x.to_sparse()
    with LargestTensor() as largest:
        sparse.coalesce()
    assert largest.numbers < 900
