"""auto_LiRPA 0.3 on numpy 2 and torch 2, as an independent check of certified bounds.

:func:`load` imports the package with the repairs it needs, :func:`bounded` bounds a module with it.
Both are for tests and studies of small inputs: memory grows with the cube of the number of nodes
(770 MB at 40 nodes with 32 hidden units), and nearfar's own bounds never need the package.

auto_LiRPA 0.3 is the newest release on the package index; its own pins (torch < 1.13) are obsolete.

What stays changed after :func:`load`: three methods of auto_LiRPA's own classes and three functions of
its graph parser. numpy, torch, the warning filters and the root logger are as before; torch is touched
only while a module is parsed.

The form of module that works, with the input ``A`` of shape ``(1, n, n)`` and every constant a **2-D**
parameter that does not require gradients::

    def forward(self, A):
        hidden = self.act(A @ self.Y + self.b1)          # Y (n, d), b1 (1, d)
        output = self.act(A @ (hidden @ self.W2) + self.b2)
        return (output * self.w).sum(2)                  # w (n, d), result (1, n)

``(A @ hidden) @ W2``, 3-D constants and a constant times the perturbed input fail or give looser bounds.
"""

from __future__ import annotations

import importlib
import logging
import sys
import types
import warnings
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfar.errors import ConfigError, DataError
from nearfar.optional import PACKAGES, require, version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch
    from torch import Tensor, nn

__all__ = ["METHODS", "bounded", "load"]

METHODS = ("IBP", "CROWN-IBP", "CROWN", "forward+backward", "CROWN-Optimized")
"""Methods of :func:`bounded`, cheapest first."""

_SUPPORTED = "0.3"
_EXPORTER = "torch.onnx._internal.torchscript_exporter"


def load() -> ModuleType:
    """Import auto_LiRPA 0.3, repaired for the installed numpy and torch.

    Calling it again returns the same module and repairs nothing twice.

    Returns:
        The module ``auto_LiRPA``.

    Raises:
        MissingDependencyError: If auto_LiRPA is not installed.
        ConfigError: If another version than 0.3 is installed; its internals differ.

    Example:
        >>> load().BoundedModule.__name__  # doctest: +SKIP
        'BoundedModule'
    """
    found = version("auto-LiRPA")
    if found is not None and found != _SUPPORTED and not found.startswith(f"{_SUPPORTED}."):
        raise ConfigError(
            f"the repairs are written for auto_LiRPA {_SUPPORTED}, but {found} is installed: "
            f"{PACKAGES['auto_LiRPA'].command}"
        )
    with _import_repairs():
        package = require("auto_LiRPA", "checking bounds with auto_LiRPA")
        linear = importlib.import_module("auto_LiRPA.operators.linear")
        parser = importlib.import_module("auto_LiRPA.parse_graph")
    if not hasattr(parser, "_nearfar_repaired"):
        _accept_remove_duplicate(package.BoundedModule)
        _contiguous_weights(linear.BoundLinear)
        _readable_attributes(parser)
        _restored_opset(parser)
        _own_gradient_flags(importlib.import_module("auto_LiRPA.operators.leaf").BoundParams)
        parser._nearfar_repaired = True  # type: ignore[attr-defined]
    return package


def bounded(
    module: nn.Module,
    x0: Tensor,
    lower: Tensor,
    upper: Tensor,
    *,
    method: str = "CROWN",
) -> tuple[Tensor, Tensor | None]:
    """Element-wise bounds of ``module`` over the box ``[lower, upper]`` of inputs.

    Args:
        module: Network of one input, in the form the module docstring shows; it is left unchanged.
        x0: Example input, shape ``(1, ...)``, in the dtype and on the device of the parameters; its
            values do not affect the bounds.
        lower: Lower end of the box, shape of ``x0``.
        upper: Upper end of the box, shape of ``x0``.
        method: One of :data:`METHODS`. ``"CROWN-Optimized"`` (alpha-CROWN) starts from CROWN, is the
            tightest and slowest, and gives the lower bound only.

    Returns:
        Lower and upper bound, each with the shape of ``module(x0)``. For ``"CROWN-Optimized"`` the
        upper one is ``None``; for the other methods both are differentiable in the parameters that
        require gradients.

    Raises:
        MissingDependencyError: If auto_LiRPA is not installed.
        ConfigError: If the method is unknown, or the module contains a PReLU, which has no bound.
        DataError: If shapes or dtypes differ, or the box is empty.
        NotImplementedError: From auto_LiRPA, for an operation the method does not cover, such as
            LeakyReLU with ``"forward+backward"``.

    Example:
        >>> import torch
        >>> x = torch.ones(1, 2)
        >>> low, high = bounded(torch.nn.Linear(2, 1), x, x - 1, x + 1, method="IBP")  # doctest: +SKIP
    """
    _check_box(x0, lower, upper)
    _check_supported(module, method)
    lirpa: Any = load()
    optimized = method == "CROWN-Optimized"
    with _default_dtype(x0.dtype):
        # "matrix": in the default "patches" mode every Add counts as the output of a convolution, and
        # CROWN then indexes a 4-D shape that dense graphs do not have. "same-slope" relaxes a ReLU
        # with one slope for both sides.
        options = {"conv_mode": "matrix", "relu": "same-slope"}
        network = lirpa.BoundedModule(module, x0, bound_opts=options)
        box = lirpa.PerturbationLpNorm(norm=float("inf"), x_L=lower, x_U=upper)
        if optimized and not _dense_slopes(network):
            method = "CROWN"  # no slope to optimise, which auto_LiRPA does not check
        low, high = network.compute_bounds(
            x=(lirpa.BoundedTensor(x0, box),), method=method, bound_upper=not optimized
        )
    return low, None if optimized else high


def _check_box(x0: Tensor, lower: Tensor, upper: Tensor) -> None:
    shapes = [tuple(tensor.shape) for tensor in (x0, lower, upper)]
    if len(set(shapes)) != 1:
        raise DataError(
            f"x0, lower and upper must have one shape, got {shapes[0]}, {shapes[1]} and {shapes[2]}"
        )
    dtypes = {tensor.dtype for tensor in (x0, lower, upper)}
    if len(dtypes) != 1 or not x0.is_floating_point():
        names = ", ".join(sorted(str(dtype) for dtype in dtypes))
        raise DataError(f"x0, lower and upper must have one floating dtype, got {names}: convert them")
    if x0.ndim < 2 or x0.shape[0] != 1:
        raise DataError(
            f"x0 must have shape (1, ...), got {shapes[0]}: add the batch dimension with x0[None]"
        )
    # Written so that NaN fails as well.
    if not bool((lower <= upper).all()):
        worst = float((lower - upper).max())
        raise DataError(f"the box is empty: lower exceeds upper by {worst:.3g}; swap or repair the bounds")


def _check_supported(module: nn.Module, method: str) -> None:
    import torch

    if method not in METHODS:
        raise ConfigError(f"unknown method {method!r}: choose one of {', '.join(METHODS)}")
    for name, part in module.named_modules():
        if isinstance(part, torch.nn.PReLU):
            slopes = part.weight.detach().flatten().tolist()
            raise ConfigError(
                f"auto_LiRPA cannot bound PReLU (module {name or '<root>'!r}): replace it by "
                f"torch.nn.LeakyReLU({slopes[0]:.6g})"
            )


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    # CROWN makes its intermediate matrices in the default dtype, so float64 modules fail without this.
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _dense_slopes(network: Any) -> int:
    """Prepare the slopes alpha-CROWN optimises, and count the nodes that have one (LeakyReLU has not)."""
    # With sparse slopes (the default) alpha-CROWN asserts on graphs whose specification is the output
    # of every node at once.
    for node in network.optimizable_activations:
        node.use_sparse_features_alpha = False
        node.use_sparse_spec_alpha = False
    return len(network.optimizable_activations)


@contextmanager
def _import_repairs() -> Iterator[None]:
    """What the import itself needs: taken away again, together with what the import changes."""
    with ExitStack() as repairs:
        # auto_LiRPA calls simplefilter("once") and then uses torch.jit.script, which is deprecated;
        # recording keeps the filters and swallows what the import warns about.
        repairs.enter_context(warnings.catch_warnings(record=True))
        repairs.enter_context(_own_root_logger())
        repairs.enter_context(_arraysetops())
        repairs.enter_context(_opset_setter())
        repairs.enter_context(_graph_optimizer())
        yield


@contextmanager
def _own_root_logger() -> Iterator[None]:
    """The import calls ``logging.basicConfig``, which would give every program a handler on stdout."""
    root = logging.getLogger()
    handlers = list(root.handlers)
    try:
        yield
    finally:
        for handler in [handler for handler in root.handlers if handler not in handlers]:
            root.removeHandler(handler)


@contextmanager
def _arraysetops() -> Iterator[None]:
    """Item 1: ``No module named 'numpy.lib.arraysetops'``, made private by numpy 2."""
    name = "numpy.lib.arraysetops"
    if name in sys.modules:
        yield
        return
    stub = types.ModuleType(name)
    stub.isin = np.isin  # type: ignore[attr-defined]
    sys.modules[name] = stub
    try:
        yield
    finally:
        del sys.modules[name]


def _onnx_settings() -> Any:
    """The exporter's global settings, which moved when torch 2.9 got a second exporter."""
    try:
        return importlib.import_module(f"{_EXPORTER}._globals").GLOBALS
    except ModuleNotFoundError:
        return importlib.import_module("torch.onnx._globals").GLOBALS


@contextmanager
def _opset_setter() -> Iterator[None]:
    """Item 2: ``cannot import name '_set_opset_version'`` from ``torch.onnx.symbolic_helper``."""
    settings = _onnx_settings()

    def set_opset_version(opset: int) -> None:
        settings.export_onnx_opset_version = opset

    with _supplied("torch.onnx.symbolic_helper", "_set_opset_version", set_opset_version):
        yield


@contextmanager
def _graph_optimizer() -> Iterator[None]:
    """Item 3: ``cannot import name '_optimize_graph'`` from ``torch.onnx.utils``.

    torch 2.13 still forwards the name; releases that do not get it from where it moved to.
    """

    def optimize_graph(*args: Any, **kwargs: Any) -> Any:
        return importlib.import_module(f"{_EXPORTER}.utils")._optimize_graph(*args, **kwargs)

    with _supplied("torch.onnx.utils", "_optimize_graph", optimize_graph):
        yield


@contextmanager
def _supplied(module: str, name: str, value: object) -> Iterator[None]:
    target = importlib.import_module(module)
    if hasattr(target, name):
        yield
        return
    setattr(target, name, value)
    try:
        yield
    finally:
        delattr(target, name)


def _readable_attributes(parser: Any) -> None:
    """Item 4: ``'torch._C.Node' object is not subscriptable`` while a graph is parsed.

    torch's class gets the operator only for the duration of a parse.
    """
    import torch

    original = parser.parse_graph
    node: Any = torch._C.Node

    def attribute(self: Any, name: str) -> Any:
        return getattr(self, self.kindOf(name))(name)

    def parse_graph(*args: Any, **kwargs: Any) -> Any:
        if "__getitem__" in vars(node):
            return original(*args, **kwargs)
        node.__getitem__ = attribute
        try:
            return original(*args, **kwargs)
        finally:
            del node.__getitem__

    parser.parse_graph = parse_graph


def _restored_opset(parser: Any) -> None:
    """Beside item 2: parsing sets torch's ONNX opset to 12 for good, which later exports would use."""
    settings = _onnx_settings()
    set_opset, optimize = parser._set_opset_version, parser._optimize_graph
    pending: list[int] = []

    def remember(opset: int) -> None:
        pending.append(settings.export_onnx_opset_version)
        set_opset(opset)

    def optimize_graph(*args: Any, **kwargs: Any) -> Any:
        try:
            return optimize(*args, **kwargs)
        finally:
            settings.export_onnx_opset_version = pending.pop()

    parser._set_opset_version, parser._optimize_graph = remember, optimize_graph


def _accept_remove_duplicate(bounded_module: Any) -> None:
    """Item 5: ``_named_members() got an unexpected keyword argument 'remove_duplicate'``.

    Hit by ``parameters()`` of a BoundedModule. torch's own method does the walk; what auto_LiRPA adds
    is the translation of node names to the names of the original module.
    """
    import torch

    walk: Callable[..., Any] = torch.nn.Module._named_members

    def named_members(
        self: Any, get_members_fn: Any, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Any]]:
        for name, member in walk(self, get_members_fn, prefix, recurse, remove_duplicate):
            yield self.node_name_map.get(name, name), member

    bounded_module._named_members = named_members


def _contiguous_weights(bound_linear: Any) -> None:
    """Item 6: ``view size is not compatible`` when CROWN passes through ``hidden @ weight``.

    The second operand is transposed and then viewed; a contiguous copy can be viewed.
    """
    import torch

    original = bound_linear._preprocess

    def preprocess(self: Any, a: Any, b: Any, c: Any = None) -> tuple[Any, Any, Any]:
        a, b, c = original(self, a, b, c)
        return a, b.contiguous() if isinstance(b, torch.Tensor) else b, c

    bound_linear._preprocess = preprocess


def _own_gradient_flags(bound_params: Any) -> None:
    """Beyond the six: reading a parameter sets ``requires_grad`` on it, in the caller's module too."""

    def forward(self: Any) -> Any:
        return self.param_init if self.initializing else self.param

    bound_params.forward = forward
