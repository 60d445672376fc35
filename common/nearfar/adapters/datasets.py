"""Any map-style data set of torch, with the user's own functions for views and mixing."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import default_collate

from nearfar.adapters.inputs import Batch, Inputs
from nearfar.errors import ConfigError, DataError

TwoViews: TypeAlias = Callable[[Batch, torch.Generator], tuple[Batch, Batch]]
Weak: TypeAlias = Callable[[Batch, torch.Generator], Batch]
Mix: TypeAlias = Callable[[Batch, Tensor, Tensor], Batch]


class DatasetInputs(Inputs):
    """Items of a data set by number; labels are left aside.

    Args:
        dataset: Has a length and items by number.
        two_views: From a batch and a generator to two strong views; draw from the generator only.
        weak: From a batch and a generator to a lightly changed batch; ``None`` changes nothing.
        mix: From a batch, an order and a share to the mixed batch, such as :func:`nearfar.adapters.convex`; ``None``
            leaves mixing to the representations.
        collate: From a list of items to a batch that :func:`nearfar.runtime.to_device` can move; ``None`` is torch's
            ``default_collate``. For PyG's graphs: ``torch_geometric.data.Batch.from_data_list``.
        labelled: Whether items are ``(input, label)``; ``None`` looks at the first one: a tuple or list of two is.

    Raises:
        ConfigError: If the data set has no length.
        DataError: If it is empty.

    Example:
        >>> data = torch.utils.data.TensorDataset(torch.arange(6.0).reshape(3, 2), torch.tensor([0, 1, 0]))
        >>> DatasetInputs(data).rows(torch.tensor([2, 0])).tolist()
        [[4.0, 5.0], [0.0, 1.0]]
    """

    def __init__(
        self,
        dataset: Any,
        *,
        two_views: TwoViews | None = None,
        weak: Weak | None = None,
        mix: Mix | None = None,
        collate: Callable[[list[Any]], Batch] | None = None,
        labelled: bool | None = None,
    ) -> None:
        if not isinstance(dataset, Sized) or not hasattr(dataset, "__getitem__"):
            raise ConfigError(
                f"dataset: a length and items by number expected, {type(dataset).__name__} has not both; an iterable "
                "data set has to be read into a list first"
            )
        if not len(dataset):
            raise DataError("dataset: at least one item expected, got none")
        self.dataset = dataset
        self._two_views, self._weak, self._mix, self._collate = two_views, weak, mix, collate
        if labelled is None:
            first: Any = dataset[0]
            # A named tuple is an input of its own.
            labelled = isinstance(first, (tuple, list)) and len(first) == 2 and not hasattr(first, "_fields")
        self.labelled = labelled

    def __len__(self) -> int:
        return len(self.dataset)

    def rows(self, index: Tensor) -> Batch:
        """Some items, collated.

        Args:
            index: Numbers of items, int64, shape ``(B,)``.

        Raises:
            ConfigError: If the items cannot be put together.
        """
        numbers: Sequence[int] = index.tolist()
        items = [self.dataset[number] for number in numbers]
        if self.labelled:
            items = [item[0] for item in items]
        if self._collate is not None:
            return self._collate(items)
        try:
            return default_collate(items)
        except (TypeError, RuntimeError) as error:
            raise ConfigError(
                f"collate: items of type {type(items[0]).__name__} need a function that makes a batch of them: {error}"
            ) from error

    def weak(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch after the user's light changes.

        Args:
            batch: From :meth:`rows`.
            generator: Source of every draw.
        """
        return batch if self._weak is None else self._weak(batch, generator)

    def two_views(self, batch: Batch, generator: torch.Generator) -> tuple[Batch, Batch]:
        """The user's two views.

        Args:
            batch: From :meth:`rows`.
            generator: Source of every draw.

        Raises:
            ConfigError: If none were given.
        """
        if self._two_views is None:
            return super().two_views(batch, generator)
        return self._two_views(batch, generator)

    def mix(self, batch: Batch, order: Tensor, share: Tensor) -> Batch | None:
        """The batch mixed by the user's function, ``None`` without one.

        Args:
            batch: From :meth:`rows` or :meth:`weak`.
            order: Partners, int64, shape ``(B,)``.
            share: Of the row itself, a scalar or shape ``(B,)``.
        """
        return None if self._mix is None else self._mix(batch, order, share)
