"""Backbones of tsai as encoders. Importing tsai takes ten seconds, so what needs it runs in one other process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nearfar.errors import ConfigError, DataError
from nearfar.optional import PACKAGES, installed
from nearfar.runtime import generator
from nearfar.timeseries.encoder import TsaiEncoder
from nearfar.timeseries.encoder.tsai_encoder import WITH_BACKBONE


class Like(nn.Module):
    """What tsai's models look like to an encoder; the backbone sees one step at a time."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.head_nf = dim
        self.backbone = nn.Sequential(
            nn.Conv1d(channels, 4, 1), nn.Tanh(), nn.Conv1d(4, dim, 3, padding=1), nn.Conv1d(dim, dim, 1)
        )


def series() -> Tensor:
    return torch.randn(2, 12, 3, generator=generator(0, "x"))


def hidden() -> Tensor:
    mask = torch.ones(2, 12, 1, dtype=torch.bool)
    mask[0, 3], mask[1, 5:8] = False, False
    return mask


def test_a_backbone_gets_the_channels_where_it_expects_them() -> None:
    model = Like(3, 5)
    encoder = TsaiEncoder(model, 3)
    x = series()
    assert encoder.dim == encoder.width == 5
    assert torch.equal(encoder(x), model.backbone(x.transpose(1, 2)).transpose(1, 2))
    assert torch.equal(encoder.represent(x), encoder(x))


def test_steps_are_hidden_in_the_input() -> None:
    encoder, x = TsaiEncoder(Like(3, 5), 3), series()
    assert torch.equal(encoder(x, hidden()), encoder(torch.where(hidden(), x, 0)))
    missing = x.clone()
    missing[..., 1] = torch.where(hidden()[..., 0], x[..., 1], torch.nan)
    assert torch.equal(encoder(missing), encoder(x, hidden()))


def test_steps_are_hidden_behind_a_layer() -> None:
    model, x = Like(3, 5), series()
    encoder = TsaiEncoder(model, 3, mask_after="1")
    first = torch.tanh(model.backbone[0](x.transpose(1, 2))) * hidden().transpose(1, 2)
    expected = model.backbone[3](model.backbone[2](first)).transpose(1, 2)
    assert torch.equal(encoder(x, hidden()), expected)
    assert not torch.equal(expected, TsaiEncoder(Like(3, 5), 3)(x, hidden()))
    missing = torch.where(hidden(), x, torch.nan)
    assert torch.equal(encoder(missing), expected)


def test_models_and_layers_that_are_refused() -> None:
    with pytest.raises(ConfigError, match="Linear has no backbone.*FCNPlus.*ConvTranPlus"):
        TsaiEncoder(nn.Linear(3, 2), 3)
    with pytest.raises(ConfigError, match="mask_after: the backbone has no layer 'conv'; it has 0, 1, 2, 3"):
        TsaiEncoder(Like(3, 5), 3, mask_after="conv")
    with pytest.raises(DataError, match=r"shape \(B, T, F=3\) expected, got \(2, 3, 12\)"):
        TsaiEncoder(Like(3, 5), 3)(series().mT)


def test_backbones_that_shorten_the_series_are_refused() -> None:
    model, x = Like(3, 5), series()
    model.backbone.insert(1, nn.MaxPool1d(2))
    with pytest.raises(ConfigError, match=r"makes \(2, 5, 6\) of 12 steps"):
        TsaiEncoder(model, 3)(x)
    with pytest.raises(
        ConfigError, match=r"'1' \(MaxPool1d\) makes \(2, 4, 6\), which has no axis of 12 steps"
    ):
        TsaiEncoder(model, 3, mask_after="1")(x)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every backbone on one batch, by the real tsai."""
    if not installed("tsai"):
        pytest.skip(f"needs tsai: {PACKAGES['tsai'].command}")
    code = f"""
        import json, torch
        from nearfar.errors import ConfigError
        from nearfar.timeseries.encoder import TsaiEncoder
        x = torch.randn(2, 64, 3, generator=torch.Generator().manual_seed(0))
        mask = torch.ones(2, 64, 1, dtype=torch.bool)
        mask[:, 20:30] = False
        report = {{"width": {{}}, "shape": {{}}, "hidden": {{}}, "refused": {{}}}}
        for name in {WITH_BACKBONE!r}:
            torch.manual_seed(0)
            encoder = TsaiEncoder(name, 3, 64).eval()
            with torch.no_grad():
                report["width"][name] = encoder.width
                report["shape"][name] = list(encoder.represent(x).shape)
                zeroed = encoder(torch.where(mask, x, 0))
                report["hidden"][name] = torch.equal(encoder(x, mask), zeroed)
        for name, steps in (("FCN", None), ("PatchTST", 64), ("NoSuchModel", None), ("TSTPlus", None)):
            try:
                TsaiEncoder(name, 3, steps)
            except ConfigError as error:
                report["refused"][name] = str(error)
        tst = TsaiEncoder("TSTPlus", 3, 64, mask_after="W_P").eval()
        with torch.no_grad():
            report["behind"] = bool((tst(x, mask) != tst(x)).any())
        print(json.dumps(report))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path_factory.mktemp("tsai"),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert done.returncode == 0, done.stderr
    loaded: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return loaded


@pytest.mark.slow
@pytest.mark.interop
def test_every_backbone_of_tsai(report: dict[str, Any]) -> None:
    assert report["width"] == {
        **dict.fromkeys(WITH_BACKBONE, 128),
        "XceptionTimePlus": 512,
        "LSTMPlus": 100,
        "GRUPlus": 100,
        "ConvTranPlus": 16,
    }
    assert report["shape"] == {name: [2, 64, width] for name, width in report["width"].items()}
    assert all(report["hidden"].values())
    assert report["behind"]


@pytest.mark.slow
@pytest.mark.interop
def test_other_models_of_tsai_are_refused(report: dict[str, Any]) -> None:
    assert set(report["refused"]) == {"FCN", "PatchTST", "NoSuchModel", "TSTPlus"}
    for name in ("FCN", "PatchTST", "NoSuchModel"):
        assert "FCNPlus" in report["refused"][name]
    assert "num_steps: TSTPlus is made for series of one length" in report["refused"]["TSTPlus"]
