"""Batches of a few subclasses with several rows of each, so that every row meets others of its subclass."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Sampler

from nearfar.errors import ConfigError
from nearfar.labels import class_codes
from nearfar.labels.codes import Values
from nearfar.runtime import generator


def rows_of_subclasses(subclasses: Tensor, groups: int, each: int, rng: torch.Generator) -> Tensor:
    """Draw subclasses by their size, then rows of each, none twice.

    Every row is as likely as any other to be drawn, but for rounding and subclasses of fewer than ``each`` rows, which
    come whole: the balance of classes stays that of the data.

    Args:
        subclasses: Of every row, int64 from 0, shape ``(n,)``.
        groups: Subclasses, or all there are.
        each: Rows of each, or all it has.
        rng: Source of both draws.

    Returns:
        Row numbers, int64, shape ``(B,)``, at most ``groups * each``.

    Example:
        >>> rows = rows_of_subclasses(torch.tensor([0, 0, 0, 1, 1, 2]), 2, 2, torch.Generator().manual_seed(0))
        >>> len(rows.unique()) == len(rows)
        True
    """
    sizes = torch.bincount(subclasses)
    wanted = min(groups, int((sizes > 0).sum()))
    chosen = torch.multinomial(sizes.double(), wanted, generator=rng)
    # Rows in random order; the first ones of every chosen subclass.
    order = torch.randperm(len(subclasses), generator=rng)
    by_group = order[torch.argsort(subclasses[order], stable=True)]
    starts = sizes.cumsum(0) - sizes
    place = starts[chosen][:, None] + torch.arange(each)
    inside = torch.arange(each) < sizes[chosen][:, None]
    return by_group[place[inside]]


class SubclassBatchSampler(Sampler[list[int]]):
    """Lists of rows for ``DataLoader(batch_sampler=...)``.

    Args:
        subclasses: Of every row, integers from 0, shape ``(n,)``; set anew after each clustering with :meth:`update`.
        groups: Subclasses in a batch.
        each: Rows of each.
        seed: Of all draws.
        batches: Batches of a pass; as many rows as the data have by default.

    Raises:
        ConfigError: If ``groups``, ``each`` or ``batches`` is below 1.
        DataError: If subclasses are no integers from 0.

    Example:
        >>> sampler = SubclassBatchSampler([0, 0, 0, 1, 1, 1], groups=1, each=3)
        >>> [sorted(rows) in ([0, 1, 2], [3, 4, 5]) for rows in sampler]
        [True, True]
    """

    def __init__(
        self,
        subclasses: Values,
        groups: int = 32,
        each: int = 4,
        *,
        seed: int = 0,
        batches: int | None = None,
    ) -> None:
        for name, value in (("groups", groups), ("each", each), ("batches", batches)):
            if value is not None and value < 1:
                raise ConfigError(f"{name}: at least 1 expected, got {value}")
        self.groups, self.each, self.seed, self.batches = groups, each, seed, batches
        self.passes = 0
        self.update(subclasses)

    def update(self, subclasses: Values) -> None:
        """Take other subclasses from the next batch on.

        Args:
            subclasses: As at the start.

        Raises:
            DataError: If they are no integers from 0.
        """
        self.subclasses = torch.from_numpy(class_codes("subclasses", subclasses))

    def __len__(self) -> int:
        return self.batches or max(1, round(len(self.subclasses) / (self.groups * self.each)))

    def __iter__(self) -> Iterator[list[int]]:
        number, self.passes = self.passes, self.passes + 1
        for place in range(len(self)):
            rng = generator(self.seed, "subclass_batches", number, place)
            yield rows_of_subclasses(self.subclasses, self.groups, self.each, rng).tolist()
