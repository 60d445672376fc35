"""A trained recommender as people use it: raw ids in, raw ids out, one folder on disk, no pickle."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nearfar import version
from nearfar.atomic import write_atomically
from nearfar.errors import DataError
from nearfar.optional import require
from nearfar.recsys.datasets import Dataset
from nearfar.recsys.interactions import Interactions
from nearfar.recsys.popularity.method import ItemCounts
from nearfar.recsys.ranking import hide_seen
from nearfar.recsys.sasrec.encoder import SASRecEncoder
from nearfar.runtime import resolve_device

FORMAT = 1
BATCH_SIZE = 1024
SCORERS: dict[str, type[nn.Module]] = {"sasrec": SASRecEncoder, "popularity": ItemCounts}


class Scorer(Protocol):
    """What a recommender needs from a trained model (``SASRecEncoder``, ``ItemCounts``)."""

    arguments: dict[str, Any]

    def score(self, histories: list[NDArray[np.int64]]) -> Tensor:
        """Score of every item after each history, ``(N, num_items)``."""

    def state_dict(self) -> dict[str, Tensor]:
        """Weights."""


class Recommender:
    """Recommends items after histories.

    Args:
        scorer: Trained model, in evaluation mode.
        data: Known users with their histories, and the item vocabulary.
        titles: Raw item id to a title for people.
    """

    def __init__(self, scorer: Any, data: Interactions, titles: Mapping[str, str] | None = None) -> None:
        self.scorer: Scorer = scorer
        self.data = data
        self.titles = dict(titles or {})
        self._user_index = {user: index for index, user in enumerate(data.user_ids)}
        self._item_index = {item: index + 1 for index, item in enumerate(data.item_ids)}

    @classmethod
    def from_method(cls, method: Any, dataset: Dataset) -> Recommender:
        """The recommender of a trained method (anything with a ``scorer``), with all histories of ``dataset``."""
        method.eval()
        return cls(method.scorer, dataset.interactions, dataset.titles)

    def history(self, user: str) -> list[str]:
        """Raw ids of what a known user has, oldest first.

        Raises:
            DataError: If the user is unknown.
        """
        if user not in self._user_index:
            raise DataError(f"user '{user}' is unknown")
        return [self.data.item_ids[item - 1] for item in self.data.sequence(self._user_index[user])]

    def recommend(self, users: Sequence[str], k: int = 20, *, exclude_seen: bool = True) -> Any:
        """The ``k`` best next items of known users.

        Args:
            users: Raw user ids.
            k: Items per user.
            exclude_seen: Leave out what the user already has.

        Returns:
            pandas DataFrame ``user, item, score, rank`` in input order, ``rank`` from 1.

        Raises:
            DataError: If a user is unknown, or fewer than ``k`` items are left for one.
        """
        users = [str(user) for user in users]
        unknown = [user for user in users if user not in self._user_index]
        if unknown:
            raise DataError(
                f"users: {len(unknown)} unknown ({', '.join(unknown[:10])}); "
                "use recommend_from_histories for people without a stored history"
            )
        histories = [self.data.sequence(self._user_index[user]) for user in users]
        return self._frame(users, histories, k, exclude_seen)

    def recommend_from_histories(
        self,
        histories: Sequence[Sequence[str]],
        k: int = 20,
        *,
        exclude_seen: bool = True,
        unknown: Literal["error", "skip"] = "error",
    ) -> Any:
        """The ``k`` best next items after given histories; nothing is retrained.

        Args:
            histories: Raw item ids, oldest first.
            k: Items per history.
            exclude_seen: Leave out the items of the history.
            unknown: Refuse item ids never seen in training, or leave them out of the history.

        Returns:
            pandas DataFrame ``user, item, score, rank``; ``user`` is the position in ``histories``.

        Raises:
            DataError: If a history is empty or has no known item, holds unknown ids, or ``k`` is too large.
        """
        indexed = [self._index(row, history, unknown) for row, history in enumerate(histories)]
        return self._frame(list(range(len(indexed))), indexed, k, exclude_seen)

    def _index(self, row: int, history: Sequence[str], unknown: str) -> NDArray[np.int64]:
        items = [str(item) for item in history]
        strange = [item for item in items if item not in self._item_index]
        if strange and unknown == "error":
            raise DataError(
                f"history {row}: {len(strange)} unknown items ({', '.join(strange[:10])}); "
                "pass unknown='skip' to leave them out"
            )
        known = [self._item_index[item] for item in items if item in self._item_index]
        if not known:
            raise DataError(f"history {row} has no known item; at least one is needed")
        return np.array(known, dtype=np.int64)

    def _frame(
        self, users: Sequence[Any], histories: list[NDArray[np.int64]], k: int, exclude_seen: bool
    ) -> Any:
        pandas = require("pandas", "recommending")
        if not 1 <= k <= self.data.num_items:
            raise DataError(f"k: 1 to {self.data.num_items} (the catalogue) expected, got {k}")
        items: list[NDArray[np.int64]] = []
        scores: list[NDArray[np.float32]] = []
        for best, value in self._top(histories, k, exclude_seen):
            items.append(best)
            scores.append(value)
        flat = np.concatenate(items).ravel() if items else np.empty(0, np.int64)
        names = np.array(self.data.item_ids, dtype=object)
        return pandas.DataFrame(
            {
                "user": np.repeat(np.array(users, dtype=object), k),
                "item": names[flat],
                "score": np.concatenate(scores).ravel() if scores else np.empty(0, np.float32),
                "rank": np.tile(np.arange(1, k + 1), len(histories)),
            }
        )

    @torch.no_grad()
    def _top(
        self, histories: list[NDArray[np.int64]], k: int, exclude_seen: bool
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        for begin in range(0, len(histories), BATCH_SIZE):
            chunk = histories[begin : begin + BATCH_SIZE]
            scores = self.scorer.score(chunk)
            if exclude_seen:
                scores = hide_seen(scores, chunk)
            best = scores.topk(k, dim=1)
            if torch.isinf(best.values[:, -1]).any():
                short = begin + int(torch.isinf(best.values[:, -1]).nonzero()[0])
                raise DataError(f"k: fewer than {k} unseen items are left for row {short}; lower k")
            yield best.indices.cpu().numpy(), best.values.float().cpu().numpy()

    def save(self, folder: Path | str) -> None:
        """Write weights and histories (safetensors) and vocabulary (JSON) into a new or empty folder.

        Raises:
            DataError: If the folder holds something else.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        strangers = {path.name for path in folder.iterdir()} - {"model.safetensors", "recommender.json"}
        if strangers:
            raise DataError(
                f"{folder} is not empty ({', '.join(sorted(strangers)[:3])}); choose a new folder"
            )
        kind = next(name for name, scorer in SCORERS.items() if isinstance(self.scorer, scorer))
        tensors = {
            f"scorer.{name}": tensor.cpu().contiguous() for name, tensor in self.scorer.state_dict().items()
        }
        tensors["histories.items"] = torch.from_numpy(self.data.items)
        tensors["histories.offsets"] = torch.from_numpy(self.data.offsets)
        save_file(tensors, folder / "model.safetensors")
        description = {
            "format": FORMAT,
            "nearfar": version.get(),
            "scorer": kind,
            "arguments": self.scorer.arguments,
            "item_ids": self.data.item_ids,
            "user_ids": self.data.user_ids,
            "titles": self.titles,
        }
        # Last, and in one step: a folder without it is not a recommender.
        write_atomically(folder / "recommender.json", json.dumps(description, ensure_ascii=False))

    @classmethod
    def load(cls, folder: Path | str, device: str = "auto") -> Recommender:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: If the folder is not a saved recommender, or one of another format.
        """
        folder = Path(folder)
        try:
            description = json.loads((folder / "recommender.json").read_text(encoding="utf-8"))
            tensors = load_file(folder / "model.safetensors")
        except (OSError, ValueError, SafetensorError) as error:
            raise DataError(f"{folder} is not a saved recommender: {error}") from None
        if description.get("format") != FORMAT or description.get("scorer") not in SCORERS:
            raise DataError(f"{folder} has format {description.get('format')}, this version reads {FORMAT}")
        scorer = SCORERS[description["scorer"]](**description["arguments"])
        prefix = "scorer."
        scorer.load_state_dict(
            {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        )
        data = Interactions(
            items=tensors["histories.items"].numpy(),
            offsets=tensors["histories.offsets"].numpy(),
            user_ids=tuple(description["user_ids"]),
            item_ids=tuple(description["item_ids"]),
        )
        return cls(scorer.to(resolve_device(device)).eval(), data, description["titles"])
