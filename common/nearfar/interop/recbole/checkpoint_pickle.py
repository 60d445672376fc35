"""RecBole's checkpoints without running what is in them.

They hold tensors, numbers and, as an object, the Config of the run, without which RecBole cannot read them back. A
plain unpickler would call whatever a file names. This one makes tensors, plain data and an empty Config whose settings
are filled in as data; classes that a Config refers to (its model, its YAML loader) are looked up and never called.
"""

from __future__ import annotations

import importlib
import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import torch

from nearfar.data.pickle_machine import PickleMachine, instructions

_FIX = "recbole_session(trust_checkpoints=True) reads it, and runs whatever is in it"
# What a Config refers to, and may only refer to: classes of RecBole's models, and those added to them.
_MODELS = "recbole.model."
_added: dict[tuple[str, str], type[Any]] = {}
_LOADER = ("yaml.loader", "FullLoader")
_CONFIG = ("recbole.config.configurator", "Config")
_ENUMS = "recbole.utils.enum_type"


class _Dtype:
    """What ``numpy.dtype`` was asked for."""

    def __init__(self, code: str, *_: Any) -> None:
        self.dtype = np.dtype(code)
        if self.dtype.kind not in "biuf":
            raise pickle.UnpicklingError(f"it holds a number of type {code}")


def _scalar(kind: _Dtype, raw: Any) -> Any:
    if not isinstance(kind, _Dtype):
        raise pickle.UnpicklingError("it holds a number of no type")
    return np.frombuffer(raw.encode("latin1") if isinstance(raw, str) else raw, kind.dtype)[0]


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it holds text encoded as {encoding}")
    return text.encode("latin1")


_CALLED: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    (
        "__builtin__",
        "set",
    ): set,  # its name in pickles of protocol 2, which torch.save writes unless told otherwise
    ("_codecs", "encode"): _encode,
    ("torch", "device"): torch.device,
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("numpy", "dtype"): _Dtype,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy.core.multiarray", "scalar"): _scalar,
}


class Unpickler(PickleMachine):
    """Makes tensors, plain data and Configs that hold settings."""

    refusal = f"it is written in a way that RecBole does not write; {_FIX}"

    def find_class(self, module: str, name: str) -> Any:
        """Only what a checkpoint of RecBole names.

        Raises:
            UnpicklingError: For anything else.
        """
        if (module, name) in _added:
            return _added[module, name]
        if (module, name) in _CALLED:
            return _CALLED[module, name]
        if (module, name) in (_CONFIG, _LOADER) or module == _ENUMS or module.startswith(_MODELS):
            found = getattr(importlib.import_module(module), name, None)
            if isinstance(found, type):
                return found
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no checkpoint needs; {_FIX}")

    def _reduce(self) -> None:
        given, called = self.stack.pop(), self.stack.pop()
        is_enum = isinstance(called, type) and called.__module__ == _ENUMS
        if not isinstance(given, tuple) or not (
            is_enum or any(called is known for known in _CALLED.values())
        ):
            raise pickle.UnpicklingError(f"it calls {called!r}, which no checkpoint does; {_FIX}")
        self.append(called(*given))

    def _new(self) -> None:
        given, kind = self.stack.pop(), self.stack.pop()
        if not _is_config(kind) or given != ():
            raise pickle.UnpicklingError(f"it makes an object of {kind!r}, which no checkpoint holds; {_FIX}")
        self.append(kind.__new__(kind))

    def _build(self) -> None:
        state, made = self.stack.pop(), self.stack[-1]
        if isinstance(made, _Dtype):
            return
        names = {"_metadata"} if isinstance(made, OrderedDict) else None
        if not isinstance(state, dict) or not (_is_config(type(made)) or names == set(state)):
            raise pickle.UnpicklingError(
                f"it changes a {type(made).__name__}, which no checkpoint does; {_FIX}"
            )
        made.__dict__.update(state)

    dispatch = instructions({"REDUCE": _reduce, "NEWOBJ": _new, "BUILD": _build})


def add_model(kind: type[Any]) -> None:
    """Let checkpoints refer to a class of models that is not RecBole's own.

    Args:
        kind: The class.
    """
    _added[kind.__module__, kind.__name__] = kind


def load(*_: Any, **__: Any) -> NoReturn:
    """What ``torch.load`` would call for files of before 2020.

    Raises:
        UnpicklingError: Always.
    """
    raise pickle.UnpicklingError(f"it is of PyTorch's old format; {_FIX}")


def _is_config(kind: Any) -> bool:
    return isinstance(kind, type) and (kind.__module__, kind.__name__) == _CONFIG
