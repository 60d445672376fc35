"""Keys of earlier batches as negatives (MoCo, He et al., CVPR 2020, section 3.2).

A ring of K slots: the newest keys replace the oldest. What goes wrong elsewhere and cannot here: slots that hold
random vectors until they are overwritten, the end of a batch lost where the ring closes, a content that a
checkpoint forgets.

Differs from the official code: a batch may have any size, and a queue that is not full yet shows only the
keys it was given, where MoCo starts with random vectors and demands that batches divide K.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nearfar.checks import check_counts, check_features


class KeyQueue(nn.Module):
    """The last ``capacity`` keys, first in, first out, kept in checkpoints.

    Nothing in it waits for a GPU: how many slots are filled and which is next are plain numbers.
    ``len(queue)`` is the number of keys, so an empty queue counts as false.

    Args:
        capacity: Keys held at most, K.
        dim: Width of a key, d.
        with_ids: Keep an integer for every key too, for rules such as "not of the same label".

    Attributes:
        capacity: Keys held at most.
        dim: Width of a key.

    Raises:
        ValueError: If ``capacity`` or ``dim`` is below 1.

    Example:
        >>> queue = KeyQueue(3, 1)
        >>> queue.enqueue(torch.tensor([[1.0], [2.0]]))
        >>> queue.keys.flatten().tolist()
        [1.0, 2.0]
        >>> queue.enqueue(torch.tensor([[3.0], [4.0]]))  # 4 takes the place of 1
        >>> queue.keys.flatten().tolist()
        [4.0, 2.0, 3.0]
    """

    slots: Tensor
    slot_ids: Tensor | None

    def __init__(self, capacity: int, dim: int, *, with_ids: bool = False) -> None:
        super().__init__()
        check_counts(capacity=capacity, dim=dim)
        self.capacity, self.dim = capacity, dim
        self.register_buffer("slots", torch.zeros(capacity, dim))
        self.register_buffer("slot_ids", torch.zeros(capacity, dtype=torch.int64) if with_ids else None)
        self._next = self._filled = 0

    def __len__(self) -> int:
        return self._filled

    @property
    def keys(self) -> Tensor:
        """The keys held, shape ``(len(queue), d)``, in the order of their slots, not of their age.

        A view without gradient that the next :meth:`enqueue` writes into: enqueue after ``backward()``;
        autograd raises an error otherwise.
        """
        return self.slots[: self._filled]

    @property
    def ids(self) -> Tensor | None:
        """The ids of :attr:`keys`, shape ``(len(queue),)``, or ``None`` for a queue without ids."""
        return None if self.slot_ids is None else self.slot_ids[: self._filled]

    @torch.no_grad()
    def enqueue(self, keys: Tensor, ids: Tensor | None = None) -> None:
        """Put keys in, in order, in place of the oldest; of more than K, the last K stay.

        Args:
            keys: Finite, floating point, shape ``(n, d)`` with any n; kept detached, in the queue's precision (float32
                unless the module was converted).
            ids: Integers, shape ``(n,)``; with a queue made ``with_ids`` and only then.

        Raises:
            ValueError: If a shape or dtype does not fit, or ``ids`` are missing or not wanted.

        Example:
            >>> queue = KeyQueue(2, 1, with_ids=True)
            >>> queue.enqueue(torch.ones(3, 1), torch.tensor([5, 6, 7]))
            >>> sorted(queue.ids.tolist())
            [6, 7]
        """
        check_features("keys", keys, shape=f"(n, {self.dim})")
        if keys.dim() != 2 or keys.shape[1] != self.dim:
            raise ValueError(f"keys: (n, {self.dim}) expected, got shape {tuple(keys.shape)}")
        self._check_ids(ids, len(keys))
        kept = min(len(keys), self.capacity)
        start = (self._next + len(keys) - kept) % self.capacity
        self._write(self.slots, keys[len(keys) - kept :], start)
        if self.slot_ids is not None and ids is not None:
            self._write(self.slot_ids, ids[len(keys) - kept :], start)
        self._next = (start + kept) % self.capacity
        self._filled = min(self._filled + kept, self.capacity)

    def _check_ids(self, ids: Tensor | None, num_keys: int) -> None:
        if (ids is None) != (self.slot_ids is None):
            expected = "one id a key" if ids is None else "None (the queue was made without ids)"
            raise ValueError(f"ids: {expected} expected, got {'None' if ids is None else 'a tensor'}")
        if ids is not None and (
            ids.shape != (num_keys,) or ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool
        ):
            raise ValueError(
                f"ids: integers of shape ({num_keys},) expected, got {ids.dtype} of shape {tuple(ids.shape)}"
            )

    def _write(self, slots: Tensor, values: Tensor, start: int) -> None:
        before_end = min(len(values), self.capacity - start)
        slots[start : start + before_end].copy_(values[:before_end])
        slots[: len(values) - before_end].copy_(values[before_end:])

    def reset(self) -> None:
        """Forget all keys."""
        self._next = self._filled = 0
        self.slots.zero_()
        if self.slot_ids is not None:
            self.slot_ids.zero_()

    def get_extra_state(self) -> Tensor:
        """Next slot and number of keys, shape ``(2,)``, int64: a tensor, because checkpoints hold tensors."""
        return torch.tensor([self._next, self._filled], device=self.slots.device)

    def set_extra_state(self, state: Tensor) -> None:
        """Go on from what :meth:`get_extra_state` returned.

        Args:
            state: Shape ``(2,)``.

        Raises:
            ValueError: If the numbers cannot belong to this queue.
        """
        following, filled = state.tolist()
        partly = 0 <= filled < self.capacity and following == filled
        if not partly and not (filled == self.capacity and 0 <= following < self.capacity):
            raise ValueError(
                f"state: next slot and number of keys of a queue of {self.capacity} expected, "
                f"got {following} and {filled}"
            )
        self._next, self._filled = following, filled

    def extra_repr(self) -> str:
        """What ``repr`` shows between the brackets."""
        return f"capacity={self.capacity}, dim={self.dim}, with_ids={self.slot_ids is not None}"

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        # torch would skip the tensors that do not fit and still take over the numbers that count them.
        given = state_dict.get(f"{prefix}slots")
        has_ids = f"{prefix}slot_ids" in state_dict
        if given is not None and (given.shape != self.slots.shape or has_ids != (self.slot_ids is not None)):
            error_msgs: list[str] = rest[-1]
            error_msgs.append(
                f"{prefix.rstrip('.') or 'KeyQueue'}: the checkpoint holds slots of shape {tuple(given.shape)}, "
                f"with_ids={has_ids}; this queue has capacity={self.capacity}, dim={self.dim}, "
                f"with_ids={self.slot_ids is not None}"
            )
            return
        super()._load_from_state_dict(state_dict, prefix, *rest)
