"""Users as sequences of items, and recommenders that represent them.

Batches are left-aligned, 0 for padding, with their lengths apart, because a view may hold masked items, which are 0 as
well: what nearfar's and RecBole's sequential models take.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nearfar.adapters.arrays import as_tensor
from nearfar.adapters.inputs import Inputs
from nearfar.augment.sequences import CROP_RATIO, MASK_RATIO, REORDER_RATIO, two_views
from nearfar.errors import ConfigError, DataError

PADDING = 0


class Sequences(NamedTuple):
    """A batch of histories.

    Attributes:
        items: Left-aligned item indices, 0 for padding and for masked items, int64, shape ``(B, L)``.
        lengths: Positions of each, masked ones counted, int64, shape ``(B,)``.
    """

    items: Tensor
    lengths: Tensor


class SequenceInputs(Inputs):
    """Histories of users, oldest item first.

    Args:
        histories: Item indices of every user, numbered from 1, none of them empty.
        max_length: Newest items that count.
        crop_ratio: Share of a history that a crop removes, in [0, 1).
        mask_ratio: Share of a history that masking hides, in [0, 1].
        reorder_ratio: Share of a history that is shuffled, in [0, 1].

    Raises:
        DataError: If a history is empty or holds something else than item indices.
        ConfigError: If a setting makes no sense.

    Example:
        >>> inputs = SequenceInputs([[3, 1], [4, 5, 6]], max_length=2)
        >>> inputs.rows(torch.tensor([1, 0])).items.tolist()
        [[5, 6], [3, 1]]
    """

    def __init__(
        self,
        histories: Sequence[Any],
        max_length: int = 50,
        *,
        crop_ratio: float = CROP_RATIO,
        mask_ratio: float = MASK_RATIO,
        reorder_ratio: float = REORDER_RATIO,
    ) -> None:
        if max_length < 1:
            raise ConfigError(f"max_length: at least 1 expected, got {max_length}")
        for name, ratio in (
            ("crop_ratio", crop_ratio),
            ("mask_ratio", mask_ratio),
            ("reorder_ratio", reorder_ratio),
        ):
            if not 0 <= ratio <= 1 or (ratio == 1 and name == "crop_ratio"):
                raise ConfigError(f"{name}: a share in [0, 1] expected (a crop keeps something), got {ratio}")
        if not len(histories):
            raise DataError(
                "histories: those of one user or more expected, got none; give lists of item indices"
            )
        kept = [_history(history, user)[-max_length:] for user, history in enumerate(histories)]
        self.max_length = max_length
        self._ratios = {"crop_ratio": crop_ratio, "mask_ratio": mask_ratio, "reorder_ratio": reorder_ratio}
        self._lengths = torch.tensor([len(history) for history in kept])
        self._items = torch.nn.utils.rnn.pad_sequence(kept, batch_first=True, padding_value=PADDING)

    def __len__(self) -> int:
        return len(self._lengths)

    def rows(self, index: Tensor) -> Sequences:
        """Some histories, padded to the longest of them.

        Args:
            index: Numbers of users, int64, shape ``(B,)``.
        """
        lengths = self._lengths.index_select(0, index)
        longest = int(lengths.max()) if len(lengths) else 1
        return Sequences(self._items[:, :longest].index_select(0, index), lengths)

    def two_views(self, batch: Sequences, generator: torch.Generator) -> tuple[Sequences, Sequences]:
        """Every history after two different ones of crop, mask and reorder.

        Args:
            batch: From :meth:`rows`.
            generator: Source of every draw.
        """
        first, second = two_views(batch.items, batch.lengths, generator, **self._ratios)
        return Sequences(*first), Sequences(*second)


class SequenceRepresentation(nn.Module):
    """The state of a sequential model behind the last item of every history.

    A model with a method ``last(items, lengths)``, as nearfar's encoder has it, is asked for that. Any other is called
    with items and lengths (RecBole's models) or, if it takes one argument, with items; where it gives a state for every
    position, the last one is taken.

    Args:
        model: The model, kept and not copied. Of a trained method or recommender of nearfar (MCLRec, SASRec) give its
            ``scorer``, the encoder that is evaluated; if that is an average of weights, its parameters are frozen
            until ``requires_grad_(True)``.

    Attributes:
        dim: Length of a representation, ``None`` where the model does not say.

    Example:
        >>> module = SequenceRepresentation(nn.Embedding(9, 4))
        >>> module(Sequences(torch.tensor([[3, 1, 0]]), torch.tensor([2]))).equal(module.model.weight[1:2])
        True
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._has_last = callable(getattr(model, "last", None))
        self._takes_lengths = self._has_last or _num_arguments(model) > 1
        arguments = getattr(model, "arguments", None)
        known = (
            arguments.get("dim") if isinstance(arguments, dict) else None,
            getattr(model, "dim", None),
            getattr(model, "hidden_size", None),
        )
        self.dim: int | None = next((value for value in known if isinstance(value, int)), None)

    def forward(self, batch: Sequences) -> Tensor:
        """Representations of histories.

        Args:
            batch: Items and lengths; a pair of tensors will do.

        Returns:
            Shape ``(B, m)``.

        Raises:
            ValueError: If the model gives something else.
        """
        items, lengths = batch
        model: Any = self.model
        if self._has_last:
            states = model.last(items, lengths)
        else:
            states = model(items, lengths) if self._takes_lengths else model(items)
        if isinstance(states, tuple):  # torch's recurrent layers: states, and their last ones
            states = states[0]
        if states.dim() == 3 and states.shape[:2] == items.shape:
            states = states.gather(1, (lengths - 1)[:, None, None].expand(-1, 1, states.shape[2]))[:, 0]
        if states.dim() != 2 or len(states) != len(items):
            raise ValueError(
                f"model: {type(self.model).__name__} has to give (B, m) or (B, L, m), got {tuple(states.shape)} of "
                f"items of shape {tuple(items.shape)}"
            )
        return states  # type: ignore[no-any-return]


def _history(history: Any, user: int) -> Tensor:
    found = as_tensor(f"histories[{user}]", history)
    if found.dim() != 1 or not len(found) or found.is_floating_point() or int(found.min()) < 1:
        raise DataError(
            f"histories[{user}]: one item index or more expected, numbered from 1 (0 is padding), got {history!r}; "
            "leave users without items out, and add 1 to indices from 0"
        )
    return found.long()


def _num_arguments(model: nn.Module) -> int:
    """Positional arguments a call needs."""
    parameters = inspect.signature(model.forward).parameters.values()
    return sum(
        p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters
    )
