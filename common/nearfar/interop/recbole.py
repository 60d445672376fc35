"""RecBole 1.2.1 on numpy 2, pandas 3 and torch 2.6 or newer.

RecBole was written for numpy 1, pandas 1 and torch 1. :func:`compat` is the scope in which it works
on the present versions, and after which the process is as it was before::

    from nearfar.interop.recbole import compat

    with compat():
        from recbole.config import Config
        from recbole.data import create_dataset, data_preparation

        config = Config(model="SASRec", dataset="ml-100k", config_dict={...})
        train, valid, test = data_preparation(config, create_dataset(config))

Every repair is one small function below, numbered as in :data:`ROWS`, so that a repair RecBole or
pandas makes unnecessary can be found and dropped. Training, evaluation and unpickling of RecBole's
objects belong inside the scope too: its metrics read ``numpy.float`` when they are called.

Row 10 is the only repair that changes data and is therefore asked for: ``compat(rank_time=True)``, or
:func:`rank_timestamps` on your own arrays.

What stays: the modules imported inside the scope. What RecBole does on request stays as well, namely
``init_logger`` (handlers on the root logger, colorama) and ``init_seed`` (seeds, cuDNN flags), which
``recbole.quick_start.run_recbole`` calls.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import pickle
import sys
import types
import warnings
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from nearfar.errors import CheckpointError, ConfigError, DataError, MissingDependencyError
from nearfar.optional import PACKAGES, installed, missing, require, version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

__all__ = ["ROWS", "compat", "packaged_dataset", "rank_timestamps"]

_SUPPORTED = "1.2."


def packaged_dataset(name: str = "ml-100k") -> Path:
    """Folder of a data set that RecBole's wheel ships, found without importing RecBole.

    Args:
        name: Name of the data set, which is also the stem of the files in its folder.

    Returns:
        The folder, holding ``<name>.inter`` and whatever else the wheel ships for it.

    Raises:
        MissingDependencyError: If RecBole is not installed.
        DataError: If the installed wheel ships no data set of that name.

    Example:
        >>> (packaged_dataset("ml-100k") / "ml-100k.inter").is_file()  # doctest: +SKIP
        True
    """
    spec = importlib.util.find_spec("recbole") if installed("recbole") else None
    if spec is None or not spec.submodule_search_locations:
        raise missing("recbole", f"the packaged data set {name!r}")
    folder = Path(next(iter(spec.submodule_search_locations))) / "dataset_example"
    available = sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []
    if name not in available:
        known = ", ".join(available) or "none"
        raise DataError(f"RecBole ships no data set named {name!r}; available: {known}")
    return folder / name


def rank_timestamps(users: NDArray[Any], timestamps: NDArray[Any]) -> NDArray[np.int64]:
    """Position of every event in its user's history, earliest first, ties in row order.

    RecBole stores times as float32, which resolves today's Unix time to 128 seconds only: on ml-100k
    that moves 47 % of the events and changes the held-out item of 16 % of the users. Ranks are small
    integers and survive float32 exactly up to 2**24 events per user.

    Args:
        users: User of each event, any type that can be compared, shape ``(N,)``.
        timestamps: Time of each event, integers or float64, shape ``(N,)``.

    Returns:
        Ranks from 0, shape ``(N,)``.

    Raises:
        DataError: If the shapes differ, or the times are not finite numbers of enough precision.

    Example:
        >>> rank_timestamps(np.array([7, 9, 7, 7]), np.array([50, 10, 40, 50])).tolist()
        [1, 0, 0, 2]
    """
    if users.ndim != 1 or users.shape != timestamps.shape:
        raise DataError(
            f"users and timestamps must be two 1-D arrays of one length, got shapes {users.shape} and "
            f"{timestamps.shape}: pass one user and one time per event"
        )
    if timestamps.dtype.kind not in "iu" and timestamps.dtype != np.float64:
        raise DataError(
            f"timestamps have dtype {timestamps.dtype}, whose order cannot be trusted: read the column as "
            "int64 or float64"
        )
    if not np.isfinite(timestamps).all():
        row = int(np.flatnonzero(~np.isfinite(timestamps))[0])
        raise DataError(f"timestamps[{row}] is {timestamps[row]}: drop events without a time before ranking")
    _, user = np.unique(users, return_inverse=True)
    order = np.lexsort((timestamps, user))
    sizes = np.bincount(user)
    starts = np.cumsum(sizes) - sizes
    ranks = np.empty(len(users), dtype=np.int64)
    ranks[order] = np.arange(len(users)) - np.repeat(starts, sizes)
    return ranks


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
        >>> with compat():  # doctest: +SKIP
        ...     from recbole.config import Config
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
            scope.enter_context(_trusted_checkpoints())
        if rank_time:
            scope.enter_context(_ranked_time())
        yield


@dataclass(frozen=True)
class Row:
    """One repair: its number, the repair itself, a context manager, and its symptom as docstring."""

    number: int
    repair: Callable[[], AbstractContextManager[None]]


@contextmanager
def _patched(owner: Any, name: str, value: object) -> Iterator[None]:
    # vars() rather than getattr: an inherited or computed attribute must be removed again, not copied
    # down, and numpy's module-level __getattr__ must not run.
    present = name in vars(owner)
    before = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if present:
            setattr(owner, name, before)
        else:
            delattr(owner, name)


def _recbole(module: str) -> Any:
    return importlib.import_module(f"recbole.{module}")


def _called_by_recbole() -> bool:
    """Whether the function that calls this one was called from RecBole's own code."""
    caller = sys._getframe(2).f_globals.get("__name__", "")
    return isinstance(caller, str) and caller.partition(".")[0] == "recbole"


@contextmanager
def _numpy_aliases() -> Iterator[None]:
    """Row 1: ``np.float_ was removed`` in Config, and ``np.float``, ``np.long`` in models and metrics.

    Config itself sets eight more aliases on numpy, ``np.bool`` and ``np.long`` among them, and leaves
    them there; they are listed here so that leaving the scope takes them away again.
    """
    aliases = {
        "float_": np.float64,
        "complex_": np.complex128,
        "unicode_": np.str_,
        "bool": np.bool_,
        "int": np.int_,
        "float": np.float64,
        "complex": np.complex128,
        "object": np.object_,
        "str": np.str_,
        "long": np.int_,
        "unicode": np.str_,
    }
    with ExitStack() as names:
        for name, value in aliases.items():
            names.enter_context(_patched(np, name, value))
        yield


@contextmanager
def _checkpoints() -> Iterator[None]:
    """Row 2: ``UnpicklingError`` when RecBole loads a checkpoint, which contains its Config object.

    Only calls that come from RecBole's modules read that object, and none runs what is in the file. The caller is
    looked up, because ``load_data_and_model`` imports torch locally and models import theirs late, out of reach
    of a replaced module attribute. Saved data sets and loaders, which are looked for unasked beside checkpoints, are
    pickles of any object and refused.
    """
    from nearfar.interop import recbole_checkpoint

    with _loading(pickle_module=recbole_checkpoint, weights_only=False):
        data = _recbole("data.utils")
        pickles = types.SimpleNamespace(load=_refuse_pickle, dump=data.pickle.dump)
        with _patched(data, "pickle", pickles):
            yield


@contextmanager
def _trusted_checkpoints() -> Iterator[None]:
    """Instead of row 2, for who knows where the files come from."""
    with _loading(weights_only=False), _patched(_recbole("data.utils"), "pickle", pickle):
        yield


@contextmanager
def _loading(**how: Any) -> Iterator[None]:
    import torch

    original = torch.load

    def load(*args: Any, **kwargs: Any) -> Any:
        if not _called_by_recbole() or kwargs.keys() & how.keys():
            return original(*args, **kwargs)
        try:
            return original(*args, **(kwargs | how))
        except pickle.UnpicklingError as error:
            raise CheckpointError(f"{args[0]} is refused: {error}") from None

    with _patched(torch, "load", load):
        yield


def _refuse_pickle(file: Any) -> NoReturn:
    raise ConfigError(
        f"{file.name} is a pickle, and may run any program; remove it, or, if you wrote it, "
        "recbole_session(trust_checkpoints=True)"
    )


@contextmanager
def _empty_sequences() -> Iterator[None]:
    """Row 3: ``'float' object has no attribute 'split'`` for empty cells of token_seq or float_seq.

    ``frame[field].fillna("", inplace=True)`` fills a temporary under copy-on-write; the cells are
    filled as the file is read instead.
    """
    import pandas

    dataset = _recbole("data.dataset.dataset").Dataset
    original, read_csv = dataset._load_feat, pandas.read_csv

    def read_filled(*args: Any, **kwargs: Any) -> Any:
        frame = read_csv(*args, **kwargs)
        for column in frame.columns:
            # RecBole's headers are "name:type"; the type decides whether the cell is split later.
            if column.endswith((":token_seq", ":float_seq")):
                frame[column] = frame[column].fillna("")
        return frame

    def load_feat(self: Any, filepath: str, source: Any) -> Any:
        with _patched(pandas, "read_csv", read_filled):
            return original(self, filepath, source)

    with _patched(dataset, "_load_feat", load_feat):
        yield


@contextmanager
def _missing_values() -> Iterator[None]:
    """Row 4: NaN survives in token and float features, and a NaN token becomes id -2**63.

    The same no-op on a temporary as row 3. Users and items without features get NaN when the feature
    table is merged, after the ids were assigned, so token columns need the fill as much as floats do.
    """
    dataset = _recbole("data.dataset.dataset").Dataset
    original = dataset._fill_nan

    def fill_nan(self: Any) -> None:
        for name in self.feat_name_list:
            frame = getattr(self, name)
            for field in frame:
                kind = self.field2type[field].value
                if kind == "token":
                    frame[field] = frame[field].fillna(0)
                elif kind == "float":
                    frame[field] = frame[field].fillna(frame[field].mean())
        original(self)

    with _patched(dataset, "_fill_nan", fill_nan):
        yield


@contextmanager
def _sequence_lengths() -> Iterator[None]:
    """Row 5: ``Length of values (1) does not match length of index`` or wrong splits of seq fields.

    ``series.agg(len)`` gives the number of rows in pandas 3, where RecBole expects one length per row.
    Only ``agg(len)`` called from RecBole's modules is changed.
    """
    import pandas

    series: Any = pandas.Series
    original = series.agg

    def agg(self: Any, func: Any = None, *args: Any, **kwargs: Any) -> Any:
        if func is len and _called_by_recbole():
            return self.map(len)
        return original(self, func, *args, **kwargs)

    with _patched(series, "agg", agg):
        yield


@contextmanager
def _quiet_pandas() -> Iterator[None]:
    """Row 6: one Pandas4Warning per ``inplace=True``, and ChainedAssignmentError from rows 3 and 4.

    The deprecated keyword works up to pandas 3; pandas 4 needs a repair instead of silence.
    """
    import pandas.errors

    with warnings.catch_warnings():
        for name in ("Pandas4Warning", "ChainedAssignmentError"):
            category = getattr(pandas.errors, name, None)
            if category is not None:
                warnings.filterwarnings("ignore", category=category, module=r"recbole\.")
        yield


@contextmanager
def _quiet_scaler() -> Iterator[None]:
    """Row 7: FutureWarning for ``torch.cuda.amp.GradScaler`` in every epoch; the alias still works."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"recbole\.", message=".*GradScaler")
        yield


@dataclass(frozen=True)
class _Column:
    values: NDArray[Any]


@contextmanager
def _writable_columns() -> Iterator[None]:
    """Row 8: ``the given NumPy array is not writable`` when a frame becomes an Interaction.

    The tensors share memory with the frame, which pandas marks read-only: writing to them would be
    undefined. They get their own copy.
    """
    dataset = _recbole("data.dataset.dataset").Dataset
    original = dataset._dataframe_to_interaction

    def to_interaction(self: Any, data: Any) -> Any:
        return original(self, {name: _Column(np.array(data[name].values)) for name in data})

    with _patched(dataset, "_dataframe_to_interaction", to_interaction):
        yield


@contextmanager
def _descending_sort() -> Iterator[None]:
    """Row 9: ``At least one stride is negative`` from ``Interaction.sort(ascending=False)``.

    Sorting in torch also ends the ``__array_wrap__`` DeprecationWarning of ``numpy.argsort`` on a
    tensor. A descending sort is the stable ascending one reversed, ties included, as written there.
    """
    import torch

    interaction = _recbole("data.interaction").Interaction
    original = interaction.sort

    def sort(self: Any, by: Any, ascending: Any = True) -> None:
        keys = [by] if isinstance(by, str) else by
        flags = [ascending] if isinstance(ascending, bool) else ascending
        if not _sortable(self, keys, flags):
            original(self, by, ascending)  # raises, with RecBole's own message
            return
        flags = list(flags) * (len(keys) if len(flags) == 1 else 1)
        for key, upwards in reversed(list(zip(keys, flags, strict=True))):
            column = self.interaction[key]
            index = torch.argsort(column if column.ndim == 1 else column[..., 0], stable=True)
            self._reindex(index if upwards else index.flip(0))

    with _patched(interaction, "sort", sort):
        yield


def _sortable(interaction: Any, keys: Any, flags: Any) -> bool:
    return (
        isinstance(keys, (list, tuple))
        and isinstance(flags, (list, tuple))
        and all(key in interaction.interaction for key in keys)
        and all(isinstance(flag, bool) for flag in flags)
        and len(flags) in (1, len(keys))
    )


@contextmanager
def _ranked_time() -> Iterator[None]:
    """Row 10: wrong order of events, because times are stored as float32.

    Not in :data:`ROWS`: it changes what the time column holds, so ``compat(rank_time=True)`` asks for
    it. Models that read the time itself (TiSASRec) see ranks.
    """
    dataset = _recbole("data.dataset.dataset").Dataset
    original = dataset._change_feat_format

    def change_feat_format(self: Any) -> None:
        frame, user, time = self.inter_feat, self.uid_field, self.time_field
        if time in frame:
            _check_ranks_suffice(self.config["eval_args"])
            frame[time] = rank_timestamps(frame[user].to_numpy(), frame[time].to_numpy())
        original(self)

    with _patched(dataset, "_change_feat_format", change_feat_format):
        yield


def _check_ranks_suffice(eval_args: Any) -> None:
    split, order, group = eval_args["split"], eval_args["order"], eval_args["group_by"]
    across = split is not None and ("TS" in split or ("RS" in split and group != "user" and order == "TO"))
    if across:
        raise ConfigError(
            f"rank_time=True orders events within a user, but eval_args (split={split}, order={order!r}, "
            f"group_by={group!r}) compares times of different users: use split LS, group_by 'user', or "
            "rank_time=False"
        )


@contextmanager
def _own_arguments() -> Iterator[None]:
    """Row 11: ``pytest --learning_rate=0.5`` changes the training, because Config reads ``sys.argv``."""
    config = _recbole("config").Config
    original = config._load_cmd_line

    def load_cmd_line(self: Any) -> Any:
        with _patched(sys, "argv", sys.argv[:1] or [""]):
            return original(self)

    with _patched(config, "_load_cmd_line", load_cmd_line):
        yield


@contextmanager
def _dok_update() -> Iterator[None]:
    """Row 12: ``dok_matrix has no attribute '_update'`` in LightGCN, NGCF, GCMC, NCL and others."""
    from scipy.sparse import dok_matrix

    if hasattr(dok_matrix, "_update"):
        yield
        return
    with _patched(dok_matrix, "_update", dok_matrix.update):
        yield


@contextmanager
def _ray_placeholder() -> Iterator[None]:
    """Row 13: ``No module named 'ray'`` on importing ``recbole.quick_start``, for Ray Tune only.

    ``recbole.config``, ``data``, ``model``, ``trainer`` and ``evaluator`` do not need ray. For
    ``quick_start`` an empty ``ray`` stands in while the scope is open; ``quick_start`` stays imported
    and keeps its reference, whose ``tune.report`` (``objective_function``) says what to do instead.
    A ray that is installed is left alone.
    """
    if installed("ray"):
        yield
        return
    ray, tune = types.ModuleType("ray"), types.ModuleType("ray.tune")
    ray.__spec__, tune.__spec__ = ModuleSpec("ray", None), ModuleSpec("ray.tune", None)
    ray.tune, tune.report = tune, _no_ray_report  # type: ignore[attr-defined]
    placeholders = {"ray": ray, "ray.tune": tune}
    sys.modules.update(placeholders)
    try:
        _recbole("quick_start")
        yield
    finally:
        for name, module in placeholders.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


def _no_ray_report(*_: object, **__: object) -> NoReturn:
    raise MissingDependencyError(
        "recbole.quick_start.objective_function reports to Ray Tune, which is not installed, and newer "
        "Ray no longer accepts what it reports: call run_recbole and use the result it returns"
    )


@contextmanager
def _no_flops() -> Iterator[None]:
    """Row 14: ``No module named 'thop'`` in run_recbole, which counts operations only to log them."""
    if installed("thop"):
        yield
        return

    def get_flops(*_: object, **__: object) -> float:
        return float("nan")

    with _patched(_recbole("quick_start.quick_start"), "get_flops", get_flops):
        yield


@contextmanager
def _own_devices() -> Iterator[None]:
    """Row 15: Config sets ``CUDA_VISIBLE_DEVICES`` to its gpu_id, hiding the other devices for good."""
    name = "CUDA_VISIBLE_DEVICES"
    before = os.environ.get(name)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before


@contextmanager
def _own_yaml() -> Iterator[None]:
    """Row 16: every Config adds a float pattern to ``yaml.FullLoader``, which everybody else shares."""
    import yaml

    resolvers = yaml.FullLoader.yaml_implicit_resolvers
    copied = {first: list(patterns) for first, patterns in resolvers.items()}
    with _patched(yaml.FullLoader, "yaml_implicit_resolvers", copied):
        yield


@contextmanager
def _own_anomaly_mode() -> Iterator[None]:
    """Row 17: importing any sequential model turns autograd's anomaly detection on for the whole process.

    Left as RecBole has it inside the scope. Outside it would slow everybody's backward pass and turn a
    NaN into a RuntimeError.
    """
    import torch

    enabled, check_nan = torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()
    try:
        yield
    finally:
        torch.autograd.set_detect_anomaly(enabled, check_nan)


# Warnings first, so that importing RecBole's modules in the later rows is quiet too; row 13 before row
# 14, which patches a module that row 13 makes importable.
ROWS: tuple[Row, ...] = (
    Row(6, _quiet_pandas),
    Row(7, _quiet_scaler),
    Row(1, _numpy_aliases),
    Row(2, _checkpoints),
    Row(3, _empty_sequences),
    Row(4, _missing_values),
    Row(5, _sequence_lengths),
    Row(8, _writable_columns),
    Row(9, _descending_sort),
    Row(11, _own_arguments),
    Row(12, _dok_update),
    Row(13, _ray_placeholder),
    Row(14, _no_flops),
    Row(15, _own_devices),
    Row(16, _own_yaml),
    Row(17, _own_anomaly_mode),
)
"""Every repair of :func:`compat`, in the order they are applied."""
