"""RecBole 1.2.1 on numpy 2, pandas 3 and torch 2.6 or newer.

RecBole was written for numpy 1, pandas 1 and torch 1. :func:`compat` is the scope in which it works
on the present versions, and after which the process is as it was before::

    from nearfar.interop.recbole import compat

    with compat():
        from recbole.config import Config
        from recbole.data import create_dataset, data_preparation

        config = Config(model="SASRec", dataset="ml-100k", config_dict={...})
        train, valid, test = data_preparation(config, create_dataset(config))

Every repair is one small function in a file beside this one, numbered as in :data:`ROWS`, so that a repair RecBole or
pandas makes unnecessary can be found and dropped. Training, evaluation and unpickling of RecBole's
objects belong inside the scope too: its metrics read ``numpy.float`` when they are called.

Row 10 is the only repair that changes data and is therefore asked for: ``compat(rank_time=True)``, or
:func:`rank_timestamps` on your own arrays.

What stays: the modules imported inside the scope. What RecBole does on request stays as well, namely
``init_logger`` (handlers on the root logger, colorama) and ``init_seed`` (seeds, cuDNN flags), which
``recbole.quick_start.run_recbole`` calls.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nearfar.errors import ConfigError
from nearfar.interop.recbole import frames, loading, process
from nearfar.interop.recbole.packaged import packaged_dataset
from nearfar.interop.recbole.ranked_time import rank_timestamps, ranked_time
from nearfar.optional import PACKAGES, require, version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["ROWS", "compat", "packaged_dataset", "rank_timestamps"]

_SUPPORTED = "1.2."


@contextmanager
def compat(*, rank_time: bool = False, trust_checkpoints: bool = False) -> Iterator[None]:
    """Scope in which RecBole 1.2.1 works on the installed numpy, pandas and torch.

    Scopes may be nested and are undone in reverse order, also when the body raises; warning filters
    set inside are undone too. Scopes are not thread-safe: numpy, pandas and the filters belong to the
    process, so other threads see the repaired versions while one is open.

    Checkpoints are pickles, and a pickle may run any program: here nothing in them is run (row 2), and those of
    RecBole's own models and of MCLRec are read back whole.

    Args:
        rank_time: Replace the time column by each user's event rank before RecBole rounds it to
            float32 (row 10). Refused for splits that compare times of different users.
        trust_checkpoints: Run whatever checkpoints, saved data sets and saved loaders ask for. Needed for those of
            model classes of yours, and for ``save_dataset`` and ``save_dataloaders``; load only files you wrote.

    Yields:
        Nothing; import and use RecBole inside the scope.

    Raises:
        MissingDependencyError: If RecBole is not installed.
        ConfigError: If another version than 1.2.x is installed, or ``rank_time`` meets a split for
            which ranks mean nothing.

    Example:
        >>> sorted(row.number for row in ROWS)[:3]  # what it repairs, and nothing afterwards
        [1, 2, 3]
    """
    require("recbole", "nearfar.interop.recbole.compat")
    found = version("recbole")
    if found is not None and not found.startswith(_SUPPORTED):
        raise ConfigError(
            f"the repairs are written for RecBole {_SUPPORTED}x, but {found} is installed: "
            f"{PACKAGES['recbole'].command}"
        )
    with ExitStack() as scope:
        for row in ROWS:
            scope.enter_context(row.repair())
        if trust_checkpoints:
            scope.enter_context(loading.trusted_checkpoints())
        if rank_time:
            scope.enter_context(ranked_time())
        yield


@dataclass(frozen=True)
class Row:
    """One repair: its number, the repair itself, a context manager, and its symptom as docstring."""

    number: int
    repair: Callable[[], AbstractContextManager[None]]


# Warnings first, so that importing RecBole's modules in the later rows is quiet too; row 13 before row
# 14, which patches a module that row 13 makes importable.
ROWS: tuple[Row, ...] = (
    Row(6, frames.quiet_pandas),
    Row(7, process.quiet_scaler),
    Row(1, process.numpy_aliases),
    Row(2, loading.checkpoints),
    Row(3, frames.empty_sequences),
    Row(4, frames.missing_values),
    Row(5, frames.sequence_lengths),
    Row(8, frames.writable_columns),
    Row(9, frames.descending_sort),
    Row(11, process.own_arguments),
    Row(12, process.dok_update),
    Row(13, process.ray_placeholder),
    Row(14, process.no_flops),
    Row(15, process.own_devices),
    Row(16, process.own_yaml),
    Row(17, process.own_anomaly_mode),
)
"""Every repair of :func:`compat`, in the order they are applied."""
