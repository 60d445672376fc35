"""What can be asked of a trained recommender, whoever trained it: raw ids in, raw ids out."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.errors import DataError
from nearfar.messages import warn
from nearfar.optional import require
from nearfar.recsys.diversity import check_diversity, default_pool, diversify
from nearfar.recsys.interactions import PADDING, Interactions
from nearfar.recsys.neighbors import Neighbors, approximate_rank
from nearfar.recsys.recommendations import Recommendations
from nearfar.recsys.retrieval import Ranked, Scorer, item_vectors, rank_items, user_vectors
from nearfar.recsys.topk import top_k
from nearfar.recsys.trained import Trained, Unknown, listed, named
from nearfar.recsys.vocabulary import RawId, Vocabulary

OnEmpty = Literal["popularity", "error", "empty"]


class Inference(ABC):
    """Recommends items after histories.

    Ids are given as they are or as text (the user 7 is also found as ``"7"``) and come back as they were in the
    training data. Scores are what the model sorts by: they compare items of one row, nothing else.
    """

    _neighbors: Neighbors | None = None

    @property
    @abstractmethod
    def trained(self) -> Trained:
        """What there is after training."""

    @property
    def scorer(self) -> Scorer:
        """The trained model."""
        return self.trained.scorer

    @property
    def data(self) -> Interactions:
        """Known users with their histories, and the item vocabulary."""
        return self.trained.data

    @property
    def titles(self) -> dict[RawId, str]:
        """Raw item id to a title for people."""
        return dict(self.trained.titles)

    def history(self, user: RawId) -> list[RawId]:
        """Raw ids of what a known user has, oldest first.

        Raises:
            DataError: If the user is unknown.
        """
        place = self.trained.users.find(user)
        if place is None:
            raise DataError(f"user {user!r} is unknown; ids are those of the training data")
        return [self.data.item_ids[item - 1] for item in self.data.sequence(place)]

    def recommend(
        self,
        users: Iterable[RawId],
        k: int = 20,
        *,
        exclude_seen: bool = True,
        allowed_items: Iterable[RawId] | None = None,
        blocked_items: Iterable[RawId] | None = None,
        diversity: float = 0.0,
        pool: int | None = None,
        allow_short: bool = False,
        as_frame: bool = True,
    ) -> Any:
        """The ``k`` best next items of known users.

        Args:
            users: Raw user ids.
            k: Items per user.
            exclude_seen: Leave out what the user already has.
            allowed_items: Recommend nothing else; ids that the model does not know are left out with a warning.
            blocked_items: Never recommend these; ids that the model does not know have no effect.
            diversity: Weight in [0, 1] of being unlike the items before, by cosine of item vectors, against the scores
                (see :mod:`nearfar.recsys.diversity`); 0.3 is a little, 0.5 much, the first item always the best.
                Items come in the order of choice, not of scores.
            pool: How many of the best the items are chosen from where ``diversity`` is not 0; ``None`` is ten times
                ``k``, 100 at least. Where fewer are left, those.
            allow_short: Give those that are left where there are fewer than ``k``, rather than an error.
            as_frame: Give a pandas DataFrame rather than :class:`Recommendations`.

        Returns:
            ``user, item, score, rank`` in input order, ``rank`` from 1.

        Raises:
            DataError: If a user is unknown, fewer than ``k`` items are left for one, ``diversity`` or ``pool`` is out
                of range, or items should differ and the model has no vectors.
        """
        wanted = listed(users, "users")
        places = [self.trained.users.find(user) for user in wanted]
        unknown = [user for user, place in zip(wanted, places, strict=True) if place is None]
        if unknown:
            raise DataError(
                f"users: {len(unknown)} unknown ({named(unknown)}); "
                "use recommend_from_histories for people without a stored history"
            )
        known = np.array(places, dtype=np.int64)
        histories = [self.data.sequence(int(place)) for place in known]
        chosen = self.trained.candidates(allowed_items, blocked_items)
        ask = _Request(k, exclude_seen, chosen, allow_short, diversity, pool)
        ranked = self._rank(histories, ask)
        return self._answer(self.trained.users.column(known), ranked, ask, as_frame)

    def recommend_from_histories(
        self,
        histories: Mapping[RawId, Iterable[RawId]] | Iterable[Iterable[RawId]],
        k: int = 20,
        *,
        exclude_seen: bool = True,
        allowed_items: Iterable[RawId] | None = None,
        blocked_items: Iterable[RawId] | None = None,
        unknown: Unknown = "error",
        on_empty: OnEmpty = "popularity",
        diversity: float = 0.0,
        pool: int | None = None,
        allow_short: bool = False,
        as_frame: bool = True,
    ) -> Any:
        """The ``k`` best next items after given histories; nothing is retrained.

        Args:
            histories: Raw item ids, oldest first; or by anything that names them.
            k: Items per history.
            exclude_seen: Leave out the items of the history.
            allowed_items: Recommend nothing else; ids that the model does not know are left out with a warning.
            blocked_items: Never recommend these; ids that the model does not know have no effect.
            unknown: What becomes of item ids never seen in training: refuse them, leave them out with one warning
                (``"skip"``), or keep their places empty (``"pad"``), so that the others are as old as they were.
            on_empty: What is recommended after a history without any known item: the items with the most events
                (their numbers are the scores then), an error, or nothing.
            diversity: Weight in [0, 1] of being unlike the items before, by cosine of item vectors, against the scores
                (see :mod:`nearfar.recsys.diversity`); 0.3 is a little, 0.5 much, the first item always the best.
                Items come in the order of choice, not of scores.
            pool: How many of the best the items are chosen from where ``diversity`` is not 0; ``None`` is ten times
                ``k``, 100 at least. Where fewer are left, those.
            allow_short: Give those that are left where there are fewer than ``k``, rather than an error.
            as_frame: Give a pandas DataFrame rather than :class:`Recommendations`.

        Returns:
            ``user, item, score, rank`` in input order, ``rank`` from 1; ``user`` is the position in ``histories``,
            or its name there.

        Raises:
            DataError: If a history is no sequence or holds unknown ids, if it is empty and that is an error, if fewer
                than ``k`` items are left for one, ``diversity`` or ``pool`` is out of range, or items should differ
                and the model has no vectors.
        """
        if isinstance(histories, Mapping):
            names = Vocabulary(tuple(histories)).column(np.arange(len(histories)))
            histories = list(histories.values())
        else:
            histories = listed(histories, "histories")
            names = np.arange(len(histories))
        indexed = self.trained.index(histories, unknown)
        empty = [row for row, history in enumerate(indexed) if self.trained.is_empty(history)]
        if empty and on_empty == "error":
            raise DataError(
                f"history {empty[0]} has no known item ({len(empty)} such histories); at least one is needed, or "
                "on_empty='popularity' or 'empty'"
            )
        chosen = self.trained.candidates(allowed_items, blocked_items)
        ask = _Request(k, exclude_seen, chosen, allow_short, diversity, pool)
        ranked = self._rank_some(indexed, empty, ask, on_empty)
        if empty and on_empty == "popularity":
            warn(
                f"without a known item: {len(empty)} of {len(indexed)} histories; "
                "the most popular items are recommended after them"
            )
        skip = frozenset(empty) if on_empty == "empty" else frozenset()
        return self._answer(names, ranked, ask, as_frame, skip)

    def score(
        self, history: Iterable[RawId], candidates: Iterable[RawId] | None = None
    ) -> NDArray[np.float32]:
        """Scores of some items as the next one after a history.

        Args:
            history: Raw item ids, oldest first.
            candidates: Raw item ids; ``None`` is all, in the order of ``data.item_ids``.

        Returns:
            One score per candidate, in their order, shape ``(C,)``.

        Raises:
            DataError: If an id is unknown, or the history is empty.
        """
        [indexed] = self.trained.index([history], "error")
        if len(indexed) == 0:
            raise DataError(
                "history: at least one item is needed, got none; recommend_from_histories takes empty ones"
            )
        columns = np.arange(self.data.num_items)
        if candidates is not None:
            columns = self.trained.known(listed(candidates, "candidates"), "candidates") - 1
        with torch.no_grad():
            vectors = item_vectors(self.scorer)
            if vectors is None:
                scores = self.scorer.score([indexed])[0, torch.from_numpy(columns)]
            else:
                user = self.scorer.embed([indexed])[0]  # type: ignore[attr-defined]
                scores = vectors[torch.from_numpy(columns).to(vectors.device)] @ user
        found: NDArray[np.float32] = scores.float().cpu().numpy()
        return found

    def encode(
        self, histories: Iterable[Iterable[RawId]], *, unknown: Unknown = "error"
    ) -> NDArray[np.float32]:
        """User vectors: their inner products with ``item_vectors`` are the scores.

        Args:
            histories: Raw item ids, oldest first.
            unknown: As of :meth:`recommend_from_histories`.

        Returns:
            float32, shape ``(N, d)``.

        Raises:
            DataError: If a history has no known item or holds unknown ids, or the model has no vectors.
        """
        self._vectors()
        indexed = self.trained.index(listed(histories, "histories"), unknown)
        for row, history in enumerate(indexed):
            if self.trained.is_empty(history):
                raise DataError(f"history {row} has no known item; at least one is needed")
        return user_vectors(self.scorer, indexed)

    @property
    def item_vectors(self) -> NDArray[np.float32]:
        """A copy of the item vectors, float32, shape ``(num_items, d)``; row ``i`` belongs to ``data.item_ids[i]``.

        Raises:
            DataError: If the model has no vectors.
        """
        vectors: NDArray[np.float32] = self._vectors().float().cpu().numpy().copy()
        return vectors

    def similar_items(self, item: RawId, k: int = 10) -> Any:
        """The ``k`` items whose vectors are nearest by cosine, the item itself left out.

        Args:
            item: Raw item id.
            k: Items.

        Returns:
            pandas DataFrame ``item, score, rank``; the score is the cosine.

        Raises:
            DataError: If the item is unknown, ``k`` is too large, or the model has no vectors.
        """
        [place] = self.trained.known([item], "item") - 1
        k = _count(k, self.data.num_items - 1, "other items")
        vectors = torch.nn.functional.normalize(self._vectors(), dim=1)
        query = vectors[place : place + 1]
        best, places = top_k(
            lambda part: query @ vectors[part].T, 1, len(vectors), k, hidden=[np.array([place])]
        )
        pandas = require("pandas", "similar items")
        items = self.trained.items.column(places[0].cpu().numpy())
        return pandas.DataFrame(
            {"item": items, "score": best[0].clamp(-1, 1).cpu().numpy(), "rank": np.arange(1, k + 1)}
        )

    def use_neighbors(self, neighbors: Neighbors | None) -> None:
        """Recommend from an approximate index over ``item_vectors`` from here on; ``None`` is exact again.

        With ``allowed_items`` or ``blocked_items`` recommendations stay exact. With ``diversity`` the index is asked
        for the whole pool.

        Args:
            neighbors: See :func:`nearfar.recsys.neighbors.build_neighbors`, which measures what it misses.
        """
        self._vectors()
        self._neighbors = neighbors

    def _vectors(self) -> Tensor:
        vectors = item_vectors(self.scorer)
        if vectors is None:
            raise DataError(f"{type(self.scorer).__name__} has no user and item vectors")
        return vectors

    def _rank(self, histories: list[NDArray[np.int64]], ask: _Request, scorer: Any = None) -> Ranked:
        number = self.data.num_items if ask.candidates is None else len(ask.candidates)
        k = _count(ask.k, number, "the catalogue", short=ask.allow_short)
        wanted, vectors = self._pool(ask, k, number)
        seen = [history[history != PADDING] for history in histories] if ask.exclude_seen else None
        if scorer is None and self._neighbors is not None and ask.candidates is None:
            ranked = approximate_rank(
                self._neighbors, self.scorer, histories, wanted, seen=seen, num_items=self.data.num_items
            )
        else:
            ranked = rank_items(
                self.scorer if scorer is None else scorer,
                histories,
                wanted,
                seen=seen,
                candidates=ask.candidates,
                num_items=self.data.num_items,
            )
        return ranked if vectors is None else diversify(ranked, vectors, k, ask.diversity)

    def _pool(self, ask: _Request, k: int, number: int) -> tuple[int, Tensor | None]:
        """How many of the best to rank first, and what they are told apart by; ``k`` and nothing without diversity."""
        check_diversity(ask.diversity)
        pool = default_pool(k) if ask.pool is None else ask.pool
        pool = _count(pool, number, "the catalogue", name="pool", least=k, short=True)
        if ask.diversity == 0:
            return k, None
        vectors = item_vectors(self.scorer)
        if vectors is None:
            raise DataError(
                f"diversity: {type(self.scorer).__name__} has no item vectors to tell items apart by; pass diversity=0"
            )
        return pool, vectors

    def _rank_some(
        self, histories: list[NDArray[np.int64]], empty: list[int], ask: _Request, on_empty: OnEmpty
    ) -> Ranked:
        """With something else than the model for those rows that it would see nothing of."""
        if on_empty not in ("popularity", "error", "empty"):
            raise DataError(f"on_empty: popularity, error or empty expected, got {on_empty!r}")
        if not empty:
            return self._rank(histories, ask)
        is_empty = np.zeros(len(histories), dtype=bool)
        is_empty[empty] = True
        usual = self._rank(
            [history for history, bare in zip(histories, is_empty, strict=True) if not bare], ask
        )
        bare = self._rank([histories[row] for row in empty], ask, self.trained.popular)
        merged = Ranked(
            *(
                np.empty((len(histories), *part.shape[1:]), part.dtype)
                for part in (bare.items, bare.scores, bare.counts)
            )
        )
        for rows, part in ((~is_empty, usual), (is_empty, bare)):
            merged.items[rows], merged.scores[rows], merged.counts[rows] = (
                part.items,
                part.scores,
                part.counts,
            )
        if on_empty == "empty":
            merged.counts[is_empty] = 0
            merged.scores[is_empty] = -np.inf
        return merged

    def _answer(
        self,
        names: NDArray[Any],
        ranked: Ranked,
        ask: _Request,
        as_frame: bool,
        skip: frozenset[int] = frozenset(),
    ) -> Any:
        short = [int(row) for row in np.flatnonzero(ranked.counts < ranked.items.shape[1]) if row not in skip]
        if short and not ask.allow_short:
            raise DataError(
                f"k: {ranked.counts[short[0]]} items are left for {names[short].tolist()[0]!r}, fewer than {ask.k} "
                f"({len(short)} such rows); lower k, or pass allow_short=True"
            )
        items = self.trained.items.column(np.maximum(ranked.items - 1, 0))
        answer = Recommendations(names, items, ranked.scores, ranked.counts)
        return answer.frame() if as_frame else answer


@dataclass(frozen=True)
class _Request:
    """What is asked for, whoever it is for."""

    k: int
    exclude_seen: bool
    candidates: NDArray[np.int64] | None
    allow_short: bool
    diversity: float
    pool: int | None


def _count(value: Any, most: int, what: str, *, name: str = "k", least: int = 1, short: bool = False) -> int:
    """A number of items there can be; ``short`` takes what there is where it is more."""
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if isinstance(value, bool) or number < least or (number > most and not short):
        raise DataError(f"{name}: {least} to {most} ({what}) expected, got {value!r}")
    return min(number, most)
