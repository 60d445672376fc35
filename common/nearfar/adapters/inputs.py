"""Rows of anybody's data, and what training may do to a batch of them: weak changes, two strong views, mixing.

Data and weights are apart: an encoder is any ``nn.Module`` that turns a batch into ``(B, m)``, and what is here has
none. Draws come from a generator, usually the CPU's, while the batch may be on any device; nothing here waits for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, TypeAlias

import torch
from torch import Tensor

from nearfar.errors import ConfigError

Batch: TypeAlias = Any
"""A tensor, or whatever of tensors :func:`nearfar.runtime.to_device` can move: a tuple, a mapping, a dataclass."""


class Inputs(ABC):
    """Rows of data by number, in host memory.

    Subclasses say what a row is; ``weak``, ``two_views`` and ``mix`` are given batches that :meth:`rows` made, maybe
    moved to a device since, and leave them as they are.

    Attributes:
        batch_size: How many rows are well embedded at a time, by default.

    Example:
        >>> class Numbers(Inputs):
        ...     def __len__(self):
        ...         return 5
        ...     def rows(self, index):
        ...         return index[:, None].float()
        >>> Numbers().rows(torch.tensor([3, 1])).flatten().tolist()
        [3.0, 1.0]
    """

    batch_size: int = 256

    @abstractmethod
    def __len__(self) -> int:
        """How many rows there are."""

    @abstractmethod
    def rows(self, index: Tensor) -> Batch:
        """A batch of some rows, unchanged: what is embedded and predicted from.

        Args:
            index: Numbers of rows, int64, shape ``(B,)``.

        Returns:
            Their batch, in host memory; entry i is row ``index[i]``.
        """

    def weak(self, batch: Batch, generator: torch.Generator) -> Batch:  # noqa: ARG002
        """The batch after the light changes that supervised training makes; here, none.

        Args:
            batch: From :meth:`rows`.
            generator: Source of every draw.
        """
        return batch

    def two_views(self, batch: Batch, generator: torch.Generator) -> tuple[Batch, Batch]:  # noqa: ARG002
        """Two strongly changed versions of every row, for contrast.

        Args:
            batch: From :meth:`rows`.
            generator: Source of every draw.

        Raises:
            ConfigError: If there are no views of this kind of data.
        """
        raise ConfigError(
            f"two_views: {type(self).__name__} has no views to contrast; give some (DatasetInputs takes a function "
            "two_views=), or start from an encoder that is trained already and skip the pre-training"
        )

    def mix(self, batch: Batch, order: Tensor, share: Tensor) -> Batch | None:  # noqa: ARG002
        """``share * batch + (1 - share) * batch[order]``, or ``None`` where rows cannot be mixed.

        The caller of ``None`` mixes representations instead (manifold mixup, Verma et al., ICML 2019).

        Args:
            batch: From :meth:`rows` or :meth:`weak`.
            order: The partner of every row, int64, shape ``(B,)``.
            share: Of the row itself, in [0, 1], a scalar or shape ``(B,)``.
        """
        return None
