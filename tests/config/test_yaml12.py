"""YAML by the 1.2 rules, and mistakes with their line."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from nearfar.config import yaml12
from nearfar.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("-1.5E+2", -150.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("12:30", "12:30"),
        ("0123", 123),
        ("0x10", 16),
        ("0o10", 8),
        ("2026-11-23", "2026-11-23"),
        ("1_000", "1_000"),
        ("~", None),
        ("", None),
        ("null", None),
        ("[1, a, 2.5]", [1, "a", 2.5]),
        ("'1'", "1"),
    ],
)
def test_scalars(text: str, value: object) -> None:
    parsed = yaml12.loads(text)
    assert parsed == value
    assert type(parsed) is type(value)


def test_not_finite_numbers() -> None:
    assert yaml12.loads(".inf") == math.inf
    assert math.isnan(yaml12.loads(".nan"))


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("line 2: key 'a' appears twice", "a: 1\na: 2"),
        ("line 3: key 'y' appears twice", "x:\n  y: 1\n  y: 2"),
        ("line 1", "a: [1, 2"),
        ("not valid|could not", "a: !!python/object/apply:os.system ['true']"),
    ],
)
@pytest.mark.row("B05", bad_inputs=1)
def test_mistakes_are_located(message: str, text: str) -> None:
    with pytest.raises(ConfigError, match=message):
        yaml12.loads(text, "x.yaml")


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("optim:\n  lr: 1e-3\n", encoding="utf-8")
    assert yaml12.load(path) == {"optim": {"lr": 0.001}}
    path.write_text("", encoding="utf-8")
    assert yaml12.load(path) == {}
    path.write_text("- 1\n- 2\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="expected 'key: value' lines, found list"):
        yaml12.load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        yaml12.load(path)
    with pytest.raises(ConfigError, match="cannot read the config file .*absent.yaml: No such file"):
        yaml12.load(tmp_path / "absent.yaml")
