"""A trained recommender as people use it: raw ids in, raw ids out, one folder on disk, no pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nearfar.allocation_limit import AllocationLimit
from nearfar.errors import DataError
from nearfar.recsys.datasets import Dataset
from nearfar.recsys.inference import Inference
from nearfar.recsys.interactions import Interactions
from nearfar.recsys.popularity.method import ItemCounts
from nearfar.recsys.sasrec.encoder import SASRecEncoder
from nearfar.recsys.saved import RECOMMENDER
from nearfar.recsys.trained import Trained
from nearfar.recsys.vocabulary import RawId, ids_from_json, ids_to_json
from nearfar.runtime import resolve_device
from nearfar.saved import UNFIT

SCORERS: dict[str, type[nn.Module]] = {"sasrec": SASRecEncoder, "popularity": ItemCounts}
PREFIX = "scorer."
INT64 = np.dtype(np.int64)


class Recommender(Inference):
    """Recommends items after histories.

    Args:
        scorer: Trained model, in evaluation mode.
        data: Known users with their histories, and the item vocabulary.
        titles: Raw item id to a title for people.
    """

    def __init__(self, scorer: Any, data: Interactions, titles: Mapping[RawId, str] | None = None) -> None:
        self._trained = Trained(scorer, data, dict(titles or {}))

    @property
    def trained(self) -> Trained:
        """What there is after training."""
        return self._trained

    @classmethod
    def from_method(cls, method: Any, dataset: Dataset) -> Recommender:
        """The recommender of a trained method (anything with a ``scorer``), with all histories of ``dataset``."""
        method.eval()
        return cls(method.scorer, dataset.interactions, dataset.titles)

    def save(self, folder: Path | str) -> None:
        """Write weights and histories (safetensors) and vocabulary (JSON) into a new or empty folder.

        Raises:
            DataError: If the folder holds something else, or ids are of a type that would not come back as what
                they were: text, numbers, UUIDs and tuples of these do.
        """
        RECOMMENDER.write(Path(folder), *contents(self.trained))

    @classmethod
    def load(cls, folder: Path | str, device: str = "auto") -> Recommender:
        """Read what :meth:`save` wrote; also what ``MCLRecommender.save`` did.

        Raises:
            DataError: If the folder is not a saved recommender, is damaged, or of another format.
        """
        tensors, description = RECOMMENDER.read(Path(folder))
        trained = from_contents(tensors, description, device, str(folder))
        return cls(trained.scorer, trained.data, trained.titles)


def contents(trained: Trained) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What a recommender has, as tensors by name and as what JSON can hold.

    Raises:
        DataError: If ids are of a type that JSON cannot hold.
    """
    data = trained.data
    kind = next(name for name, scorer in SCORERS.items() if isinstance(trained.scorer, scorer))
    tensors = {f"{PREFIX}{name}": tensor for name, tensor in trained.scorer.state_dict().items()}
    tensors["histories.items"] = torch.from_numpy(data.items)
    tensors["histories.offsets"] = torch.from_numpy(data.offsets)
    description = {
        "scorer": kind,
        "arguments": trained.scorer.arguments,
        "item_ids": ids_to_json(data.item_ids, "item"),
        "user_ids": ids_to_json(data.user_ids, "user"),
        # JSON has text for keys; no two ids have the same.
        "titles": {str(item): title for item, title in trained.titles.items()},
    }
    return tensors, description


def from_contents(
    tensors: Mapping[str, Tensor], description: Mapping[str, Any], device: str, source: str
) -> Trained:
    """What :func:`contents` was given.

    Args:
        tensors: By name, in the same shape.
        description: The rest.
        device: Where to put the model.
        source: Where all this comes from, for messages.

    Raises:
        DataError: If it does not fit together.
    """
    wanted = resolve_device(device)
    try:
        _check_arguments(description["arguments"])
        with AllocationLimit(tensors, RECOMMENDER.description):
            scorer = SCORERS[description["scorer"]](**description["arguments"])
        scorer.load_state_dict(
            {name.removeprefix(PREFIX): t for name, t in tensors.items() if name.startswith(PREFIX)}
        )
        data = Interactions(
            items=tensors["histories.items"].numpy(),
            offsets=tensors["histories.offsets"].numpy(),
            user_ids=ids_from_json(description["user_ids"]),
            item_ids=ids_from_json(description["item_ids"]),
        )
        _check(data, description["arguments"]["num_items"])
        own = {str(item): item for item in data.item_ids}
        titles = {own.get(item, item): title for item, title in description["titles"].items()}
    except UNFIT as error:
        raise DataError(f"{source} is not a saved recommender: {error}; save it again") from None
    scorer = scorer.to(wanted).eval()
    return Trained(scorer, data, titles)  # type: ignore[arg-type]  # every one of SCORERS is a Scorer


def _check_arguments(arguments: Mapping[str, Any]) -> None:
    """Refuse sizes that no scorer is made with, some of which are not met before something is recommended."""
    for name, value in arguments.items():
        if name.endswith("dropout"):
            fits = isinstance(value, int | float) and 0 <= value < 1
        else:
            fits = type(value) is int and value >= 1
        if not fits:
            raise DataError(f"arguments: {name} is {value!r}")
    if arguments.get("dim", 0) % arguments.get("num_heads", 1):
        raise DataError(f"arguments: a dim of {arguments['dim']} for {arguments['num_heads']} heads")


def _check(data: Interactions, num_items: int) -> None:
    """Refuse histories that point outside the file's own vocabulary."""
    items, offsets = data.items, data.offsets
    if (items.ndim, offsets.shape) != (1, (data.num_users + 1,)) or {items.dtype, offsets.dtype} != {INT64}:
        raise DataError("histories: whole numbers of 64 bits expected, with an end for each of user_ids")
    if offsets[0] != 0 or offsets[-1] != len(items) or (np.diff(offsets) < 0).any():
        raise DataError("histories.offsets: ends that ascend from 0 to the number of events expected")
    if data.num_items != num_items:
        raise DataError(f"item_ids: {num_items} expected, one an item, got {data.num_items}")
    "".join(map(str, (*data.user_ids, *data.item_ids))).encode()  # half a character is no text
    if len(items) and not 1 <= items.min() <= items.max() <= num_items:
        raise DataError(
            f"histories.items: from 1 to {num_items} expected, got {items.min()} to {items.max()}"
        )
