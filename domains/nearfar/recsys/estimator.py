"""MCLRec as an estimator: ``fit`` on a frame, then ask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from nearfar.allocation_limit import AllocationLimit
from nearfar.config import flatten, suggest
from nearfar.config.hyper import Adjustable
from nearfar.errors import ConfigError, DataError
from nearfar.recsys.fitting import Callback, Events, Validation, interactions_of, split_of, train_method
from nearfar.recsys.growth import append_events, grown_state
from nearfar.recsys.hyper import HYPER
from nearfar.recsys.inference import Inference
from nearfar.recsys.mclrec.config import MCLRecConfig
from nearfar.recsys.mclrec.method import MCLRec
from nearfar.recsys.next_events import next_event_ranks
from nearfar.recsys.ranking import CUTOFFS, FILTERED, NAMES, protocol_metrics, target_ranks
from nearfar.recsys.recommender import PREFIX, contents, from_contents
from nearfar.recsys.saved import RECOMMENDER
from nearfar.recsys.split import LeaveOneOut, nothing_held_out
from nearfar.recsys.trained import Trained
from nearfar.recsys.vocabulary import RawId
from nearfar.runtime import resolve_device
from nearfar.saved import UNFIT
from nearfar.scalars import is_whole
from nearfar.training import FitResult


class MCLRecommender(Adjustable[MCLRecConfig], Inference):
    """MCLRec (Qin et al., SIGIR 2023), trained on events and asked for recommendations.

    ``contrast.weight`` and ``augmenters.weight`` of 0 make it SASRec. Equal settings, data, seed, library versions
    and thread count give equal weights on the CPU, bit for bit.

    Args:
        **hyper: Fields of ``MCLRecConfig``: flat (``epochs=5``), nested (``optim={"lr": 1e-3}``), dotted
            (``**{"optim.lr": 1e-3}``) or, as scikit-learn writes it, ``optim__lr=1e-3``. Columns and folders belong to
            the methods.

    Raises:
        ConfigError: If a setting is unknown (names the nearest one) or out of bounds.

    Attributes:
        split_: What was trained on and what was held out.
        fit_result_: Steps, epochs and validations of the last training.

    Example:
        >>> rec = MCLRecommender(dim=8, epochs=2, optim__lr=1e-2)
        >>> rec.get_params()["optim.lr"]
        0.01
    """

    hyper = HYPER

    def __init__(self, **hyper: Any) -> None:
        super().__init__(**hyper)
        self._method: MCLRec | None = None
        self._trained: Trained | None = None
        self.split_: LeaveOneOut | None = None
        self.fit_result_: FitResult | None = None

    @property
    def trained(self) -> Trained:
        """What there is after training.

        Raises:
            DataError: If nothing was fitted yet.
        """
        if self._trained is None:
            raise DataError(f"this {type(self).__name__} is not fitted yet; call fit first")
        return self._trained

    def fit(
        self,
        data: Events,
        *,
        user: str = "user_id",
        item: str = "item_id",
        time: str | None = "timestamp",
        val: Validation | None = "loo",
        callbacks: Iterable[Callback] | None = None,
        verbose: bool = False,
    ) -> MCLRecommender:
        """Train from scratch.

        Validates every ``selection.every`` epochs, stops after ``selection.patience`` validations without a new
        best, and keeps the weights of the best. Histories known afterwards are whole, held-out events included.

        Args:
            data: Events: a pandas or polars frame (or an Arrow table), :class:`Interactions`, item sequences by
                user, or item sequences alone, oldest first.
            user: Column of user ids, of frames.
            item: Column of item ids, of frames.
            time: Column of times, of frames; ``None`` says that the rows are in order.
            val: What is held out. ``"loo"``: the last two events of every user, for validation and test.
                ``"temporal"``: what happened after 80 % of all events. ``None``: nothing; all epochs are trained
                and the last weights stay.
            callbacks: Called with the ``val/*`` metrics and the epoch after each validation; what one raises ends
                training, and the estimator stays as it was.
            verbose: Show progress on standard error.

        Returns:
            The estimator.

        Raises:
            DataError: If the data cannot be used.
            ConfigError: If ``val`` or ``selection.metric`` is none of those there are.
            DivergedError: If training stops being finite.
            OutOfMemoryError: If a step does not fit in memory.
        """
        config = self.config
        told = list(callbacks or ())
        if val is None and told:
            raise ConfigError("callbacks: they are told of validations, and val=None has none")
        split = split_of(interactions_of(data, user, item, time, config), val)
        method, result = train_method(config, split, told, verbose)
        self._become(method, split, result)
        return self

    def partial_fit(
        self,
        data: Events,
        *,
        user: str = "user_id",
        item: str = "item_id",
        time: str | None = "timestamp",
        epochs: int = 0,
        verbose: bool = False,
    ) -> MCLRecommender:
        """Take in new events: they are put behind the histories there are, so give only what is new.

        New users need no training, and neither do new events of known users: a history is all the model reads. A
        new item begins as the mean of the known items in the histories that hold it (see
        :func:`nearfar.recsys.growth.vectors_of_new_items`); weights there are stay as they are, bit for bit. With
        ``epochs``, all histories are then trained on from there, held-out events included. Either way nothing is
        held out afterwards.

        Args:
            data: New events; as of :meth:`fit`.
            user: As of :meth:`fit`.
            item: As of :meth:`fit`.
            time: As of :meth:`fit`; orders the new events among themselves.
            epochs: Passes over all histories.
            verbose: Show progress on standard error.

        Returns:
            The estimator.

        Raises:
            DataError: If nothing was fitted yet, or the data cannot be used.
            ConfigError: If ``epochs`` is negative.
        """
        trained, config, before = self.trained, self.config, self._method
        assert before is not None
        if not is_whole(epochs) or epochs < 0:
            raise ConfigError(f"epochs: 0 or more expected, a whole number, got {epochs!r}")
        new = interactions_of(data, user, item, time, config)
        split = nothing_held_out(append_events(trained.data, new))
        state = grown_state(before.state_dict(), split.data)
        config = before.config.model_copy(update={"epochs": epochs})
        method, result = train_method(config, split, [], verbose, state)
        self._become(method, split, result, trained.titles)
        return self

    def evaluate(
        self,
        data: Literal["val", "test"] | Events = "test",
        *,
        metrics: Sequence[str] = NAMES,
        k: int | Sequence[int] = CUTOFFS,
        exclude_seen: bool | None = None,
        user: str = "user_id",
        item: str = "item_id",
        time: str | None = "timestamp",
    ) -> dict[str, float]:
        """HR, NDCG and MRR of one target per user among all items, ties against the target, averaged over users.

        Args:
            data: ``"val"`` or ``"test"`` for what ``fit`` held out; or events that happened after those that were
                fitted, as of :meth:`fit`: each known user's first one is the target. Users without a stored history
                are left out, an item that the model does not know is a miss; both with a warning.
            metrics: ``"hr"``, ``"ndcg"``, ``"mrr"``.
            k: List lengths.
            exclude_seen: Whether items of the history are left out of the candidates. ``None`` gives both:
                ``ndcg_at_10`` keeps them, ``ndcg_at_10_filtered`` leaves them out; the names are the same if only one
                is asked for.
            user: As of :meth:`fit`.
            item: As of :meth:`fit`.
            time: As of :meth:`fit`.

        Raises:
            DataError: If nothing was held out, or no user of the frame is known.
            ConfigError: If a metric is none there is, or ``k`` no length of a list of the items there are.
        """
        trained = self.trained
        cutoffs: list[Any] = list(k) if isinstance(k, Sequence) else [k]
        for name in metrics:
            if name not in NAMES:
                hint = suggest(name, NAMES, f"choose from {', '.join(NAMES)}")
                raise ConfigError(f"metrics: '{name}' is not measured; {hint}")
        num_items = trained.data.num_items
        # The three by default are asked for of small catalogues, too.
        most = max(num_items, *CUTOFFS)
        if not cutoffs or not all(is_whole(one) and 1 <= one <= most for one in cutoffs):
            raise ConfigError(
                f"k: one or more list lengths from 1 to {num_items}, the items there are, expected, got {k!r}"
            )
        if isinstance(data, str):
            ranks = target_ranks(trained.scorer.score, self._held_out(data), data)  # type: ignore[arg-type]
        else:
            ranks = next_event_ranks(trained, interactions_of(data, user, item, time, self.config))
        found = protocol_metrics(ranks, cutoffs)
        return {
            name: value
            for name, value in found.items()
            if name.partition("_at_")[0] in metrics and exclude_seen in (None, name.endswith(FILTERED))
        }

    def _held_out(self, part: str) -> LeaveOneOut:
        split = self.split_
        if part not in ("val", "test"):
            raise ConfigError(f"data: 'val', 'test' or events expected, got '{part}'")
        if split is None or len(split.users) == 0:
            raise DataError(
                "nothing was held out (val=None, or partial_fit since); give events to evaluate on"
            )
        return split

    def save(self, folder: Path | str) -> None:
        """Write everything into a new or empty folder (safetensors and JSON), readable by ``Recommender.load``, too.

        Raises:
            DataError: If nothing was fitted yet, the folder holds something else, or ids cannot be saved.
        """
        tensors, description = contents(self.trained)
        method, split = self._method, self.split_
        assert method is not None
        assert split is not None
        scorer = _scorer_name(method)
        for name, tensor in method.state_dict().items():
            if not name.startswith(f"{scorer}."):
                tensors[f"method.{name}"] = tensor
        tensors["split.train_ends"] = torch.from_numpy(split.train_ends)
        tensors["split.users"] = torch.from_numpy(split.users)
        config = {name: value for name, value in flatten(method.config).items() if name in HYPER.defaults}
        RECOMMENDER.write(
            Path(folder), tensors, {**description, "estimator": {"config": config, "hyper": self._hyper}}
        )

    @classmethod
    def load(cls, folder: Path | str, device: str = "auto") -> MCLRecommender:
        """Read what :meth:`save` wrote; it scores bit for bit as it did.

        Args:
            folder: Written by :meth:`save`.
            device: Where to compute.

        Raises:
            DataError: If the folder holds no saved estimator, is damaged, or of another format.
        """
        tensors, description = RECOMMENDER.read(Path(folder))
        trained = from_contents(tensors, description, device, str(folder))
        if "estimator" not in description:
            raise DataError(f"{folder} holds a recommender, but no {cls.__name__}; use Recommender.load")
        try:
            made = cls(**description["estimator"]["hyper"])
            users = tensors["split.users"].numpy()
            split = LeaveOneOut(trained.data, tensors["split.train_ends"].numpy(), users)
            with AllocationLimit(tensors, RECOMMENDER.description):
                method = MCLRec(HYPER.config(description["estimator"]["config"]), split)
            state = {n.removeprefix("method."): t for n, t in tensors.items() if n.startswith("method.")}
            scorer = _scorer_name(method)
            state |= {
                f"{scorer}.{n.removeprefix(PREFIX)}": t for n, t in tensors.items() if n.startswith(PREFIX)
            }
            method.load_state_dict(state)
        except UNFIT as error:
            raise DataError(f"{folder} is no saved {cls.__name__}: {error}; save it again") from None
        made._become(method.to(resolve_device(device)), split, None, trained.titles)
        return made

    def _become(
        self,
        method: MCLRec,
        split: LeaveOneOut,
        result: FitResult | None,
        titles: Mapping[RawId, str] | None = None,
    ) -> None:
        method.eval()
        self._method, self.split_, self.fit_result_ = method, split, result
        self._trained = Trained(method.scorer, split.data, dict(titles or {}))
        self._neighbors = None  # of vectors that are gone


def _scorer_name(method: MCLRec) -> str:
    """Where in the method its scorer is: the encoder, or the average of its weights."""
    return str(next(name for name, module in method.named_modules() if module is method.scorer))
