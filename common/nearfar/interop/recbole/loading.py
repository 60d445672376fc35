"""RecBole's checkpoints, data sets and loaders: pickles, of which nothing is run (row 2)."""

from __future__ import annotations

import pickle
import types
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from nearfar.errors import CheckpointError, ConfigError, first_line
from nearfar.interop.recbole.patching import called_by_recbole, patched, recbole_module

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def checkpoints() -> Iterator[None]:
    """Row 2: ``UnpicklingError`` when RecBole loads a checkpoint, which contains its Config object.

    Only calls that come from RecBole's modules read that object, and none runs what is in the file. The caller is
    looked up, because ``load_data_and_model`` imports torch locally and models import theirs late, out of reach
    of a replaced module attribute. Saved data sets and loaders, which are looked for unasked beside checkpoints, are
    pickles of any object and refused.
    """
    from nearfar.interop.recbole import checkpoint_pickle

    with _loading(pickle_module=checkpoint_pickle, weights_only=False):
        data = recbole_module("data.utils")
        pickles = types.SimpleNamespace(load=_refuse_pickle, dump=data.pickle.dump)
        with patched(data, "pickle", pickles):
            yield


@contextmanager
def trusted_checkpoints() -> Iterator[None]:
    """Instead of row 2, for who knows where the files come from."""
    with _loading(weights_only=False), patched(recbole_module("data.utils"), "pickle", pickle):
        yield


@contextmanager
def _loading(**how: Any) -> Iterator[None]:
    import torch

    original = torch.load

    def load(*args: Any, **kwargs: Any) -> Any:
        if not called_by_recbole() or kwargs.keys() & how.keys():
            return original(*args, **kwargs)
        try:
            return original(*args, **(kwargs | how))
        except (FileNotFoundError, PermissionError):
            raise
        except pickle.UnpicklingError as error:
            raise CheckpointError(f"{args[0]} is refused: {error}") from None
        except Exception as error:  # a damaged file can raise anything
            why = f"{type(error).__name__}: {first_line(error)}"
            raise CheckpointError(f"{args[0]} cannot be read ({why}); take another, or train again") from None

    with patched(torch, "load", load):
        yield


def _refuse_pickle(file: Any) -> NoReturn:
    raise ConfigError(
        f"{file.name} is a pickle, and may run any program; remove it, or, if you wrote it, "
        "recbole_session(trust_checkpoints=True)"
    )
