"""From events to a trained method, without a run around it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeAlias

import torch

from nearfar.errors import ConfigError, DataError
from nearfar.messages import warn
from nearfar.recsys.frames import is_frame
from nearfar.recsys.interactions import Interactions
from nearfar.recsys.mclrec.config import MCLRecConfig
from nearfar.recsys.mclrec.method import MCLRec
from nearfar.recsys.ranking import evaluate
from nearfar.recsys.split import LeaveOneOut, leave_one_out, nothing_held_out, temporal_split
from nearfar.runtime import Runtime
from nearfar.training import CheckpointStore, FitResult, fit

Validation = Literal["loo", "temporal"]
Callback: TypeAlias = Callable[[Mapping[str, float], int], None]
Events: TypeAlias = Any  # a frame, Interactions, a mapping user -> items, or an iterable of item sequences


def interactions_of(
    data: Events, user: str, item: str, time: str | None, config: MCLRecConfig
) -> Interactions:
    """Events of any make as interactions; says what the checks found.

    Args:
        data: See :data:`Events`.
        user: Column of user ids, of frames.
        item: Column of item ids, of frames.
        time: Column of times, of frames; ``None`` says that the rows are in order.
        config: Policies for ties and duplicates.

    Raises:
        DataError: If it is nothing of that kind, or holds bad values.
    """
    if isinstance(data, Interactions):
        return data
    if is_frame(data):
        made = Interactions.from_frame(data, user, item, time, ties=config.ties, duplicates=config.duplicates)
    elif isinstance(data, Iterable) and not isinstance(data, (str, bytes)):
        made = Interactions.from_sequences(data, duplicates=config.duplicates)
    else:
        raise DataError(
            f"data: a frame, Interactions or item sequences expected, got {type(data).__name__}; "
            "load_dataset reads files"
        )
    for message in made.warnings:
        warn(message)
    return made


def split_of(data: Interactions, val: Validation | None) -> LeaveOneOut:
    """What is held out.

    Args:
        data: All events.
        val: As of ``MCLRecommender.fit``.

    Raises:
        ConfigError: If ``val`` is none of those there are.
        DataError: If the data is too little.
    """
    if val is None:
        return nothing_held_out(data)
    if val == "loo":
        return leave_one_out(data)
    if val == "temporal":
        return temporal_split(data)
    raise ConfigError(f"val: 'loo', 'temporal' or None expected, got {val!r}")


def train_method(
    config: MCLRecConfig,
    split: LeaveOneOut,
    callbacks: Sequence[Callback],
    verbose: bool,
    state: Mapping[str, torch.Tensor] | None = None,
) -> tuple[MCLRec, FitResult]:
    """A method trained on a split, with the weights of its best validation.

    Args:
        config: Settings.
        split: What to train on; users to validate on, if any.
        callbacks: Told of every validation.
        verbose: Show progress on standard error.
        state: Weights to begin with, of the same shape as those of the method; ``None`` draws them.
    """
    runtime = Runtime.start(config.device, deterministic=config.deterministic)
    method = MCLRec(config, split)
    if state is not None:
        method.load_state_dict(state)
    method = method.to(runtime.device)

    def validate() -> dict[str, float]:
        return {f"val/{n}": v for n, v in evaluate(method.scorer.score, split, "val").items()}

    def on_validation(metrics: Mapping[str, float], epoch: int) -> None:
        for callback in callbacks:
            callback(metrics, epoch)

    try:
        with _threads(config.num_threads), TemporaryDirectory() as folder:
            result = fit(
                method,
                MCLRec.batches(config, split, runtime),
                config=config,
                runtime=runtime,
                validate=validate if len(split.users) else None,
                on_validation=on_validation,
                store=CheckpointStore(Path(folder), config.checkpoint.keep),
                label="MCLRecommender",
                quiet=not verbose or not runtime.is_main,
            )
    finally:
        runtime.close()
    return method, result


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count is not None:
            torch.set_num_threads(before)
