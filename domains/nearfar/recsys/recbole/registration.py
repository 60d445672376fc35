"""How RecBole learns about MCLRec: a module where it looks models up, a trainer, and defaults in its Config."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from nearfar.interop.recbole import compat
from nearfar.interop.recbole.checkpoint_pickle import add_model

_PLACE = "recbole.model.sequential_recommender.mclrec"


def register_recbole() -> type[Any]:
    """Make ``"MCLRec"`` a model of RecBole in this process; doing it again changes nothing.

    Afterwards ``Config(model=...)`` takes the class or the name and fills in every default of
    :class:`~nearfar.recsys.recbole.RecBoleSettings`, and ``run_recbole``, ``load_data_and_model`` and
    ``get_trainer`` find model and trainer by name. RecBole itself still has to be used inside
    :func:`nearfar.interop.recbole.compat`; :func:`recbole_session` is both in one.

    Returns:
        The model class, a ``SequentialRecommender``.

    Raises:
        MissingDependencyError: If RecBole is not installed.
        ConfigError: If another version than 1.2.x is installed.
    """
    with compat():
        model: type[Any] = importlib.import_module("nearfar.recsys.recbole.model").MCLRec
        add_model(model)
        trainer = importlib.import_module("nearfar.recsys.recbole.trainer").MCLRecTrainer
        setattr(importlib.import_module("recbole.trainer"), trainer.__name__, trainer)
        _give_defaults(importlib.import_module("recbole.config").Config, model)
    if _PLACE not in sys.modules:
        # RecBole asks importlib for this name; without a spec that is an error, not a miss.
        module = ModuleType(_PLACE, model.__doc__)
        module.__spec__ = ModuleSpec(_PLACE, None)
        module.MCLRec = model  # type: ignore[attr-defined]
        sys.modules[_PLACE] = module
    return model


@contextmanager
def recbole_session(*, rank_time: bool = True, trust_checkpoints: bool = False) -> Iterator[type[Any]]:
    """Scope in which RecBole works on the installed versions, knows MCLRec, and keeps the order of events.

    Autograd's anomaly detection, which importing RecBole's models switches on, is off inside::

        with recbole_session() as model:
            from recbole.config import Config

            config = Config(model=model, dataset="ml-100k")

    RecBole stores times as float32, in which Unix times are 128 seconds apart: on ml-100k that gives 16 % of the
    users another test item (0.4 % where its ``normalize_all`` squeezes times into [0, 1] first). Here each event's
    time is its place in its user's history instead, so that the held-out items are those of
    :func:`nearfar.recsys.leave_one_out`.

    Args:
        rank_time: Whether to do so; RecBole's own order is for comparisons with published runs.
        trust_checkpoints: As of :func:`nearfar.interop.recbole.compat`.

    Yields:
        The model class.

    Raises:
        MissingDependencyError: If RecBole is not installed.
        ConfigError: If another version than 1.2.x is installed, or, with ``rank_time``, a split compares times of
            different users.
    """
    with compat(rank_time=rank_time, trust_checkpoints=trust_checkpoints):
        model = register_recbole()
        importlib.import_module("recbole.model.sequential_recommender")
        # Which importing it has just switched on, at a third more time per step. compat() gives it back.
        importlib.import_module("torch").autograd.set_detect_anomaly(False)
        yield model


def _give_defaults(config: Any, model: type[Any]) -> None:
    """Config reads a model's defaults from a file in RecBole's own folder; for this model they come from here."""
    load: Callable[..., None] = config._load_internal_config_dict
    if hasattr(load, "__wrapped__"):
        return

    @functools.wraps(load)
    def load_with_defaults(self: Any, name: str, model_class: Any, dataset: str) -> None:
        load(self, name, model_class, dataset)
        if issubclass(model_class, model):
            self.internal_config_dict.update(model_class.defaults())

    config._load_internal_config_dict = load_with_defaults
