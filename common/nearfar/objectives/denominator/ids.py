"""Rules about ids of rows and keys: labels, items, users, clusters."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nearfar.objectives.denominator.rule import All, Block, Gather, Rule, negated


@dataclass(frozen=True, eq=False)
class IdRule(Rule):
    """What rules about ids have in common.

    Attributes:
        ids: Integers, shape ``(N,)``, or ``(..., N)`` with the leading dimensions of ``q``.
        key_ids: The same for the keys, shape ``(M,)``; ``None`` when they are those of the rows.
    """

    ids: Tensor
    key_ids: Tensor | None = None

    def __post_init__(self) -> None:
        for name, ids in (("ids", self.ids), ("key_ids", self.key_ids)):
            if ids is None:
                continue
            if not isinstance(ids, Tensor) or ids.dim() < 1 or ids.is_floating_point():
                got = f"{ids.dtype} of shape {tuple(ids.shape)}" if isinstance(ids, Tensor) else repr(ids)
                raise ValueError(f"{type(self).__name__}.{name}: integer tensor (N,) expected, got {got}")

    @property
    def symmetric(self) -> bool:
        """When rows and keys carry the same ids."""
        return self.key_ids is None

    def check(self, lead: torch.Size, num_rows: int, num_keys: int) -> None:
        """Raise ValueError unless there is one id per row and key; Args as :meth:`Rule.check`.

        Raises:
            ValueError: If a shape is wrong.
        """
        for name, ids, size in (("ids", self.ids, num_rows), ("key_ids", self._key_ids, num_keys)):
            shapes = dict.fromkeys([(size,), (*lead, size)])
            if tuple(ids.shape) not in shapes:
                raise ValueError(
                    f"denominator: {type(self).__name__}.{name} of shape {' or '.join(map(str, shapes))} expected, "
                    f"got {tuple(ids.shape)}"
                )

    def gathered(self, of_rows: Gather, of_keys: Gather) -> Rule:
        """The rule with the ids of all processes; Args as :meth:`Rule.gathered`."""
        return type(self)(of_rows(self.ids), None if self.key_ids is None else of_keys(self.key_ids))

    def for_other_keys(self, key_ids: Tensor | None) -> Rule:
        """The same rule with the new ids, if there are any; Args as :meth:`Rule.for_other_keys`."""
        return All() if key_ids is None else type(self)(self.ids, key_ids)

    @property
    def _key_ids(self) -> Tensor:
        return self.ids if self.key_ids is None else self.key_ids

    @property
    def _ids_of_all(self) -> tuple[Tensor, Tensor] | None:
        """Ids of rows and keys, ``(N,)`` and ``(M,)``, unless they differ between problems."""
        ids = self.ids.flatten(0, -2) if self.ids.dim() > 1 else self.ids[None]
        key_ids = self._key_ids.flatten(0, -2) if self._key_ids.dim() > 1 else self._key_ids[None]
        return (ids[0], key_ids[0]) if len(ids) == len(key_ids) == 1 else None

    def _same(self, block: Block) -> Tensor | bool:
        rows, keys = block.of_rows(self.ids), block.of_keys(self._key_ids)
        # On a GPU the question would cost a wait for the device in every block.
        if not rows.is_cuda and (rows.amax() < keys.amin() or keys.amax() < rows.amin()):
            return False
        return rows[..., :, None] == keys[..., None, :]


@dataclass(frozen=True, eq=False)
class OnlySame(IdRule):
    """Keys whose id equals the row's (Multistage Contrastive Learning, 2024).

    Attributes as :class:`IdRule`. Rows and keys are visited by id, so that whole blocks fall away.
    """

    def keep(self, block: Block) -> Tensor | bool:
        """Equal ids; Args as :meth:`Rule.keep`."""
        return self._same(block)

    @property
    def group_ids(self) -> tuple[Tensor, Tensor] | None:
        """The ids, unless they differ between problems."""
        return self._ids_of_all


@dataclass(frozen=True, eq=False)
class NotSame(IdRule):
    """Keys whose id differs from the row's: no false negatives of the same label, item or user.

    Attributes as :class:`IdRule`.
    """

    def keep(self, block: Block) -> Tensor | bool:
        """Different ids; Args as :meth:`Rule.keep`."""
        return negated(self._same(block))

    @property
    def sorting_ids(self) -> tuple[Tensor, Tensor] | None:
        """The ids, unless they differ between problems."""
        return self._ids_of_all
