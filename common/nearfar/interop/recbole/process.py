"""What RecBole expects of the process, or changes in it: rows 1, 7 and 11 to 17."""

from __future__ import annotations

import os
import sys
import types
import warnings
from contextlib import ExitStack, contextmanager
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from nearfar.errors import MissingDependencyError
from nearfar.interop.recbole.patching import patched, recbole_module
from nearfar.optional import installed

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def numpy_aliases() -> Iterator[None]:
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
            names.enter_context(patched(np, name, value))
        yield


@contextmanager
def quiet_scaler() -> Iterator[None]:
    """Row 7: FutureWarning for ``torch.cuda.amp.GradScaler`` in every epoch; the alias still works."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"recbole\.", message=".*GradScaler")
        yield


@contextmanager
def own_arguments() -> Iterator[None]:
    """Row 11: ``pytest --learning_rate=0.5`` changes the training, because Config reads ``sys.argv``."""
    config = recbole_module("config").Config
    original = config._load_cmd_line

    def load_cmd_line(self: Any) -> Any:
        with patched(sys, "argv", sys.argv[:1] or [""]):
            return original(self)

    with patched(config, "_load_cmd_line", load_cmd_line):
        yield


@contextmanager
def dok_update() -> Iterator[None]:
    """Row 12: ``dok_matrix has no attribute '_update'`` in LightGCN, NGCF, GCMC, NCL and others."""
    from scipy.sparse import dok_matrix

    if hasattr(dok_matrix, "_update"):
        yield
        return
    with patched(dok_matrix, "_update", dok_matrix.update):
        yield


@contextmanager
def ray_placeholder() -> Iterator[None]:
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
        recbole_module("quick_start")
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
def no_flops() -> Iterator[None]:
    """Row 14: ``No module named 'thop'`` in run_recbole, which counts operations only to log them."""
    if installed("thop"):
        yield
        return

    def get_flops(*_: object, **__: object) -> float:
        return float("nan")

    with patched(recbole_module("quick_start.quick_start"), "get_flops", get_flops):
        yield


@contextmanager
def own_devices() -> Iterator[None]:
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
def own_yaml() -> Iterator[None]:
    """Row 16: every Config adds a float pattern to ``yaml.FullLoader``, which everybody else shares."""
    import yaml

    resolvers = yaml.FullLoader.yaml_implicit_resolvers
    copied = {first: list(patterns) for first, patterns in resolvers.items()}
    with patched(yaml.FullLoader, "yaml_implicit_resolvers", copied):
        yield


@contextmanager
def own_anomaly_mode() -> Iterator[None]:
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
