"""auto_LiRPA on the installed numpy and torch: each repair with its symptom, and the bounds it gives.

The bounds are compared with interval arithmetic written out for a two-layer graph network and with the
minimum over the corners of the box, which no sound lower bound exceeds.
"""

from __future__ import annotations

import importlib
import itertools
import logging
import sys
import warnings
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from nearfar.errors import ConfigError, DataError, MissingDependencyError
from nearfar.interop import auto_lirpa
from nearfar.interop.auto_lirpa import METHODS, bounded, load
from nearfar.optional import PACKAGES, installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(
        not installed("auto_LiRPA"), reason=f"needs auto_LiRPA: {PACKAGES['auto_LiRPA'].command}"
    ),
]

EXPORTER = "torch.onnx._internal.torchscript_exporter"


class TwoLayerScore(nn.Module):
    """``(act(A act(A Y + b1) W2 + b2) * w).sum(2)``, the form auto_LiRPA can bound."""

    def __init__(self, *, nodes: int, width: int, act: nn.Module, seed: int, trainable: bool = False) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)

        def constant(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape, generator=draw, dtype=torch.float64), trainable)

        self.Y, self.b1 = constant(nodes, width), constant(1, width)
        self.W2, self.b2 = constant(width, width), constant(1, width)
        self.w = constant(nodes, width)
        self.act = act

    def forward(self, adjacency: Tensor) -> Tensor:
        hidden = self.act(adjacency @ self.Y + self.b1)
        output = self.act(adjacency @ (hidden @ self.W2) + self.b2)
        score: Tensor = (output * self.w).sum(2)
        return score


def box(nodes: int, seed: int, *, free: int | None = None) -> tuple[Tensor, Tensor]:
    """Lower and upper adjacency ``(1, n, n)``; with ``free``, only that many entries may move."""
    draw = torch.Generator().manual_seed(seed)
    upper = torch.rand(nodes, nodes, generator=draw, dtype=torch.float64)
    lower = upper * torch.rand(nodes, nodes, generator=draw, dtype=torch.float64)
    if free is not None:
        moved = torch.zeros(nodes * nodes, dtype=torch.bool)
        moved[torch.randperm(nodes * nodes, generator=draw)[:free]] = True
        lower = torch.where(moved.view(nodes, nodes), lower, upper)
    return lower[None], upper[None]


def interval_product(left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Interval matrix product: the four products of end points, entry by entry, then sums."""
    corners = torch.stack([a.unsqueeze(-1) * b.unsqueeze(-3) for a, b in itertools.product(left, right)])
    return corners.amin(0).sum(-2), corners.amax(0).sum(-2)


def interval_score(net: TwoLayerScore, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Interval arithmetic through :class:`TwoLayerScore` for non-decreasing activations."""
    features, weight = (net.Y[None], net.Y[None]), (net.W2[None], net.W2[None])
    low, high = interval_product((lower, upper), features)
    hidden = net.act(low + net.b1), net.act(high + net.b1)
    low, high = interval_product((lower, upper), interval_product(hidden, weight))
    low, high = net.act(low + net.b2) * net.w, net.act(high + net.b2) * net.w
    return torch.minimum(low, high).sum(2).detach(), torch.maximum(low, high).sum(2).detach()


def corner_extremes(net: nn.Module, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest score over all corners and the centre of the box."""
    places = torch.nonzero((upper != lower).flatten()).flatten()
    points = torch.tensor(list(itertools.product((0.0, 1.0), repeat=len(places))), dtype=lower.dtype)
    points = torch.cat([points, torch.full_like(points[:1], 0.5)])
    boxes = lower.flatten().repeat(len(points), 1)
    boxes[:, places] += points * (upper - lower).flatten()[places]
    with torch.no_grad():
        scores = net(boxes.view(-1, *lower.shape[1:]))
    return scores.amin(0), scores.amax(0)


def boxed(net: TwoLayerScore) -> tuple[Tensor, Tensor, Tensor]:
    """Example, lower and upper input for ``net``, in the order :func:`bounded` takes them."""
    lower, upper = box(len(net.Y), seed=0)
    return upper, lower, upper


def opset() -> int:
    version: int = importlib.import_module(f"{EXPORTER}._globals").GLOBALS.export_onnx_opset_version
    return version


@contextmanager
def unimported() -> Iterator[None]:
    """auto_LiRPA as if it had never been imported; afterwards the imported modules are back."""
    kept = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "auto_LiRPA"}
    for name in kept:
        del sys.modules[name]
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "auto_LiRPA"]:
            del sys.modules[name]
        sys.modules.update(kept)


@contextmanager
def unrepaired(monkeypatch: pytest.MonkeyPatch, name: str) -> Iterator[None]:
    """auto_LiRPA freshly imported with every repair but ``name``."""
    with unimported(), monkeypatch.context() as patch:
        patch.setattr(auto_lirpa, name, nullcontext)  # does nothing, as a scope and as a function
        yield


@pytest.fixture
def net() -> TwoLayerScore:
    return TwoLayerScore(nodes=4, width=3, act=nn.ReLU(), seed=0)


def test_item_1_numpy_module(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        unrepaired(monkeypatch, "_arraysetops"),
        pytest.raises(ModuleNotFoundError, match=r"numpy\.lib\.arraysetops"),
    ):
        load()
    load()
    assert "numpy.lib.arraysetops" not in sys.modules


def test_item_2_opset_setter(monkeypatch: pytest.MonkeyPatch, net: TwoLayerScore) -> None:
    with unrepaired(monkeypatch, "_opset_setter"), pytest.raises(ImportError, match="_set_opset_version"):
        load()
    before = opset()
    bounded(net, *boxed(net), method="IBP")
    assert opset() == before != 12
    assert not hasattr(importlib.import_module("torch.onnx.symbolic_helper"), "_set_opset_version")


def test_item_2_opset_leaks_without_the_repair(monkeypatch: pytest.MonkeyPatch, net: TwoLayerScore) -> None:
    settings = importlib.import_module(f"{EXPORTER}._globals").GLOBALS
    before = opset()
    try:
        with unrepaired(monkeypatch, "_restored_opset"):
            bounded(net, *boxed(net), method="IBP")
            assert opset() == 12
    finally:
        settings.export_onnx_opset_version = before


def test_item_2_on_torch_before_the_exporter_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SimpleNamespace(export_onnx_opset_version=20)
    monkeypatch.setattr(auto_lirpa, "_EXPORTER", "torch.onnx.not_there")
    monkeypatch.setitem(sys.modules, "torch.onnx._globals", SimpleNamespace(GLOBALS=settings))
    with auto_lirpa._opset_setter():
        importlib.import_module("torch.onnx.symbolic_helper")._set_opset_version(12)
    assert settings.export_onnx_opset_version == 12


def test_item_3_graph_optimizer(monkeypatch: pytest.MonkeyPatch, net: TwoLayerScore) -> None:
    utils = importlib.import_module("torch.onnx.utils")
    monkeypatch.delattr(utils, "_optimize_graph", raising=False)  # as in torch releases without it
    with (
        unrepaired(monkeypatch, "_graph_optimizer"),
        pytest.raises(ImportError, match="_optimize_graph"),
    ):
        load()
    with unimported():
        low, high = bounded(net, *boxed(net), method="IBP")
    assert high is not None
    assert (low <= high).all()
    assert not hasattr(utils, "_optimize_graph")


def test_item_4_graph_attributes(monkeypatch: pytest.MonkeyPatch, net: TwoLayerScore) -> None:
    with (
        unrepaired(monkeypatch, "_readable_attributes"),
        pytest.raises(TypeError, match="not subscriptable"),
    ):
        bounded(net, *boxed(net), method="IBP")
    bounded(net, *boxed(net), method="IBP")
    assert "__getitem__" not in vars(torch._C.Node)


def test_item_5_parameters_of_a_bounded_module(monkeypatch: pytest.MonkeyPatch, net: TwoLayerScore) -> None:
    def names() -> list[str]:
        return [name for name, _ in load().BoundedModule(net, boxed(net)[0]).named_parameters()]

    with (
        unrepaired(monkeypatch, "_accept_remove_duplicate"),
        pytest.raises(TypeError, match="remove_duplicate"),
    ):
        names()
    assert sorted(names()) == sorted(name for name, _ in net.named_parameters())


def test_item_6_product_with_a_weight(monkeypatch: pytest.MonkeyPatch, net: TwoLayerScore) -> None:
    with unrepaired(monkeypatch, "_contiguous_weights"), pytest.raises(RuntimeError, match="view size"):
        bounded(net, *boxed(net), method="CROWN")
    assert bounded(net, *boxed(net), method="CROWN")[0].shape == (1, 4)


def test_gradient_flags_stay_the_callers(monkeypatch: pytest.MonkeyPatch, net: TwoLayerScore) -> None:
    with unrepaired(monkeypatch, "_own_gradient_flags"):
        bounded(net, *boxed(net), method="IBP")
        assert net.Y.requires_grad
    net.requires_grad_(False)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    low, _ = bounded(net, *boxed(net))
    assert not low.requires_grad
    assert not any(parameter.requires_grad for parameter in net.parameters())
    assert net.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_bounds_are_differentiable_where_asked() -> None:
    net = TwoLayerScore(nodes=4, width=3, act=nn.ReLU(), seed=1, trainable=True)
    net.w.requires_grad_(False)
    low, high = bounded(net, *boxed(net))
    assert high is not None
    torch.autograd.backward((high - low).sum())
    reached = {name for name, parameter in net.named_parameters() if parameter.grad is not None}
    assert reached == {"Y", "b1", "W2", "b2"}


@pytest.mark.parametrize("act", [nn.ReLU(), nn.LeakyReLU(0.25)], ids=["relu", "leaky"])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_ibp_is_interval_arithmetic(act: nn.Module, seed: int, dtype: torch.dtype, error: float) -> None:
    net = TwoLayerScore(nodes=6, width=4, act=act, seed=seed)
    lower, upper = box(6, seed)
    expected = interval_score(net, lower, upper)
    x, low, high = (tensor.to(dtype) for tensor in (upper, lower, upper))
    found = bounded(net.to(dtype), x, low, high, method="IBP")
    for mine, theirs in zip(expected, found, strict=True):
        assert theirs is not None
        assert theirs.dtype == dtype
        torch.testing.assert_close(theirs.double(), mine, rtol=error, atol=error)


@pytest.mark.parametrize("act", [nn.ReLU(), nn.LeakyReLU(0.25)], ids=["relu", "leaky"])
@pytest.mark.parametrize("seed", range(4))
def test_every_bound_contains_every_corner(act: nn.Module, seed: int) -> None:
    net = TwoLayerScore(nodes=4, width=3, act=act, seed=seed)
    lower, upper = box(4, seed, free=8)
    smallest, largest = corner_extremes(net, lower, upper)
    methods = [name for name in METHODS if name != "forward+backward" or isinstance(act, nn.ReLU)]
    lows = {}
    for method in methods:
        low, high = bounded(net, upper, lower, upper, method=method)
        assert (low <= smallest + 1e-9).all(), method
        assert (high is None) == (method == "CROWN-Optimized")
        assert high is None or (high >= largest - 1e-9).all(), method
        lows[method] = low
    assert (lows["CROWN-Optimized"] >= lows["CROWN"] - 1e-6).all()


def test_crown_is_exact_when_nothing_is_uncertain(net: TwoLayerScore) -> None:
    x, _, _ = boxed(net)
    low, high = bounded(net, x, x, x)
    torch.testing.assert_close(low, net(x))
    torch.testing.assert_close(high, net(x))


def test_crown_of_a_linear_map_by_hand() -> None:
    net = nn.Linear(2, 1)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[2.0, -3.0]]))
        net.bias.fill_(0.5)
    x = torch.tensor([[1.0, 1.0]])
    for method in ("IBP", "CROWN"):
        low, high = bounded(net, x, x - 1, x + 1, method=method)
        assert high is not None
        assert (low.item(), high.item()) == pytest.approx((-5.5, 4.5))


def test_loading_leaves_the_process_as_it_was() -> None:
    with unimported(), warnings.catch_warnings():
        warnings.simplefilter("error")
        filters, handlers = list(warnings.filters), list(logging.getLogger().handlers)
        first = load()
        assert list(warnings.filters) == filters
        assert logging.getLogger().handlers == handlers
        linear: Any = importlib.import_module("auto_LiRPA.operators.linear")
        repaired = linear.BoundLinear._preprocess
        assert load() is first
        assert linear.BoundLinear._preprocess is repaired
    assert torch.get_default_dtype() == torch.float32


def test_default_dtype_comes_back_after_a_failure(net: TwoLayerScore) -> None:
    inputs = boxed(net)
    net.Y = nn.Parameter(net.Y[:2].detach(), requires_grad=False)
    with pytest.raises(RuntimeError):
        bounded(net, *inputs)
    assert torch.get_default_dtype() == torch.float32


def test_importing_the_adapter_imports_nothing_heavy(
    python: Callable[[str, Path], str], tmp_path: Path
) -> None:
    out = python(
        """
        import sys
        import nearfar.interop.auto_lirpa
        print(sorted({"auto_LiRPA", "torch", "torch.onnx"} & set(sys.modules)))
        """,
        tmp_path,
    )
    assert out == "[]\n"


def test_without_the_package_the_message_has_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "auto_LiRPA", None)
    with pytest.raises(MissingDependencyError, match=r"--no-deps auto-LiRPA==0\.3"):
        load()


@pytest.mark.parametrize("found", ["0.7.1", "0.30", "1.0"])
def test_another_version_is_refused(found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_lirpa, "version", lambda _: found)
    with pytest.raises(ConfigError, match=rf"{found} is installed.*auto-LiRPA==0\.3"):
        load()


def test_unknown_method_lists_the_known_ones(net: TwoLayerScore) -> None:
    with pytest.raises(ConfigError, match=r"'crown'.*IBP, CROWN-IBP, CROWN,"):
        bounded(net, *boxed(net), method="crown")


def test_prelu_is_refused_with_its_replacement() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.PReLU(init=0.125))
    x = torch.ones(1, 2)
    with pytest.raises(ConfigError, match=r"'1'.*LeakyReLU\(0\.125\)"):
        bounded(net, x, x, x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, low, high: (x, low[:, :2], high), r"one shape, got \(1, 4, 4\), \(1, 2, 4\)"),
        (lambda x, low, high: (x[0, 0], low[0, 0], high[0, 0]), r"\(1, \.\.\.\), got \(4,\)"),
        (lambda x, low, high: (x.repeat(2, 1, 1), low.repeat(2, 1, 1), high.repeat(2, 1, 1)), r"\(2, 4, 4\)"),
        (lambda x, low, high: (x, high + 0.25, high), "by 0.25"),
        (lambda x, low, high: (x, low * float("nan"), high), "by nan"),
        (lambda x, low, high: (x, low.float(), high), "torch.float32, torch.float64"),
        (lambda x, low, high: (x.long(), low.long(), high.long()), "torch.int64"),
    ],
    ids=["shape", "no batch", "two rows", "empty", "nan", "dtypes", "integers"],
)
def test_impossible_boxes_are_refused(
    net: TwoLayerScore,
    change: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]],
    message: str,
) -> None:
    with pytest.raises(DataError, match=message):
        bounded(net, *change(*boxed(net)))
