"""tsai 1.0 where torchvision is absent or does not load beside the installed torch.

tsai needs fastai, and ``fastai.vision`` imports torchvision although no time series model uses it. A
torchvision from the package index beside a CPU torch from elsewhere cannot be imported, so the modules
people want (``tsai.basics``, ``tsai.learner``, ``tsai.models.all``, ``tsai.callback.all``) cannot either::

    from nearfar.interop.tsai import load

    tsai = load("tsai.basics")
    learner = tsai.TSClassifier(X, y, splits=splits, arch="FCNPlus")

:func:`load` puts a stub of torchvision into ``sys.modules`` first, only when the real one does not
import. The stub stays, because parts of fastai look it up later; everything in it raises
MissingDependencyError when *used*, and its version is 0.0.0. Programs that choose a code path by
importing torchvision should call :func:`remove_torchvision_stub` after loading tsai.

Importing tsai takes 10 to 30 seconds; a first failed import leaves half of fastai behind, after which
some modules import by luck. Call :func:`load` before anything else imports tsai.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from nearfar.errors import ConfigError, MissingDependencyError
from nearfar.optional import installed, missing

__all__ = ["enable_tsai_without_torchvision", "load", "remove_torchvision_stub"]

_FAMILY = (
    "torchvision",
    "torchvision.datasets",
    "torchvision.datasets.vision",
    "torchvision.io",
    "torchvision.models",
    "torchvision.ops",
    "torchvision.transforms",
    "torchvision.transforms.functional",
    "torchvision.utils",
)
_NEEDS_GAF = ("tsai.all", "tsai.data.all", "tsai.data.image")


def load(module: str = "tsai.basics") -> ModuleType:
    """Import a module of tsai, with a stub of torchvision if the real one does not import.

    Args:
        module: Dotted name, ``"tsai"`` or below.

    Returns:
        The imported module.

    Raises:
        ConfigError: If ``module`` is not part of tsai.
        MissingDependencyError: If tsai is not installed, or the module needs a package that is absent
            or too new, as ``"tsai.all"`` does with pyts 0.14.

    Example:
        >>> load("tsai.models.FCNPlus").FCNPlus.__name__  # doctest: +SKIP
        'FCNPlus'
    """
    if module.partition(".")[0] != "tsai":
        raise ConfigError(f"{module!r} is not a module of tsai: pass a name such as 'tsai.basics'")
    if not installed("tsai"):
        raise missing("tsai", f"loading {module}")
    if module in _NEEDS_GAF and not _has_gaf():
        # Known in advance; the import itself takes 20 seconds to find out.
        raise _unavailable(module, "pyts.image.gaf is gone since pyts 0.14")
    enable_tsai_without_torchvision()
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise _unavailable(module, str(error)) from error


def enable_tsai_without_torchvision() -> bool:
    """Put a stub of torchvision into ``sys.modules`` unless the real one can be imported.

    Returns:
        Whether the stub is in place, from this call or an earlier one; ``False`` means that the real
        torchvision works.

    Example:
        >>> enable_tsai_without_torchvision()  # doctest: +SKIP
        True
    """
    if _stubbed():
        return True
    try:
        importlib.import_module("torchvision")
    # A build for another torch fails with ImportError, OSError, RuntimeError or AttributeError,
    # depending on the first symbol it misses.
    except Exception:
        _forget("torchvision")
    else:
        return False
    for name in _FAMILY:
        sys.modules[name] = _StubModule(name)
    for name in _FAMILY[1:]:
        parent, _, child = name.rpartition(".")
        setattr(sys.modules[parent], child, sys.modules[name])
    return True


def remove_torchvision_stub() -> bool:
    """Take the stub out of ``sys.modules`` again; modules already imported keep working.

    Returns:
        Whether there was a stub to remove.

    Example:
        >>> remove_torchvision_stub()
        False
    """
    if not _stubbed():
        return False
    _forget("torchvision")
    return True


def _has_gaf() -> bool:
    spec = importlib.util.find_spec("pyts") if installed("pyts") else None
    places = spec.submodule_search_locations if spec is not None else None
    return any((Path(place) / "image" / "gaf.py").is_file() for place in places or ())


def _unavailable(module: str, reason: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"{module} cannot be imported here ({reason}): use tsai.basics, tsai.learner, tsai.tslearner, "
        "tsai.models.all, tsai.callback.all or tsai.data.transforms, which can; tsai.all would need "
        'pip install "pyts<0.14" "fastcore<2" jupyter_core'
    )


def _stubbed() -> bool:
    return isinstance(sys.modules.get("torchvision"), _StubModule)


def _forget(package: str) -> None:
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        del sys.modules[name]


class _StubModule(ModuleType):
    """Module whose public names exist and raise when used, enough for ``from torchvision.x import y``.

    The top level answers only for its submodules: libraries ask for ``torchvision.tv_tensors`` and the
    like to find out whether a feature exists, and have to be told that it does not.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name, f"Stub of {name}, see nearfar.interop.tsai.")
        # importlib.util.find_spec raises for modules without a spec.
        self.__spec__ = ModuleSpec(name, None)
        self.__all__: list[str] = []
        if name == "torchvision":
            self.__path__: list[str] = []  # a package with no files: other submodules are not found
            self.__version__ = "0.0.0"  # fastai parses it

    def __getattr__(self, name: str) -> Any:
        # Private names and versioned namespaces ("v2") are probes for features as well.
        if self.__name__ == "torchvision" or name.startswith("_") or re.fullmatch(r"v\d+", name):
            raise AttributeError(f"the stub of {self.__name__} has no attribute {name!r}")
        return _Placeholder(name, (), {"__module__": self.__name__})


class _Placeholder(type):
    """Class that can be imported, subclassed and used as an annotation, but not called."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"the stub {cls.__qualname__} has no attribute {name!r}")
        return _Placeholder(f"{cls.__name__}.{name}", (), {"__module__": cls.__module__})

    def __call__(cls, *_: object, **__: object) -> NoReturn:
        raise MissingDependencyError(
            f"{cls.__module__}.{cls.__name__} needs torchvision, of which only a stub is loaded: install a "
            "torchvision that matches your torch (the pairs are listed at pytorch.org) and restart"
        )
