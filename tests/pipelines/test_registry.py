"""Methods that other installed packages bring."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nearfar.errors import ConfigError
from nearfar.pipelines.registry import DOMAINS, find, methods

Install = Callable[..., Path]

ENTRY = """
from nearfar.registry import MethodEntry, by_name

METHODS = by_name([
    MethodEntry(
        name="{name}",
        summary="another package's",
        source="nobody",
        config="nearfar.longtail.simclr.config:SimCLRConfig",
        method="nearfar.longtail.simclr.method:SimCLR",
        task="nearfar.longtail.task:LongTailTask",
    )
])
"""


def test_another_package_brings_a_method(install: Install) -> None:
    own = list(methods())
    assert {name.partition(".")[0] for name in own} >= set(DOMAINS)
    install("elsewhere_one", ENTRY.format(name="longtail.elsewhere"), "elsewhere_one:METHODS")
    assert list(methods()) == [*own, "longtail.elsewhere"]
    entry = find("longtail.elsewhere")
    assert entry.domain == "longtail"
    assert entry.load("config").model_fields["warmup_loss"].default == "simclr"


def test_one_entry_is_enough_and_a_package_seen_twice_counts_once(install: Install) -> None:
    text = ENTRY.format(name="graph.elsewhere") + "ONE = METHODS['graph.elsewhere']\n"
    install("elsewhere_two", text, "elsewhere_two:ONE")
    install("elsewhere_two", text, "elsewhere_two:ONE", folder="other")
    assert find("graph.elsewhere").source == "nobody"


def test_the_order_is_not_that_of_the_folders(install: Install) -> None:
    for name, folder in (("elsewhere_z", "first"), ("elsewhere_a", "second"), ("elsewhere_m", "third")):
        install(name, ENTRY.format(name=f"graph.{name}"), f"{name}:METHODS", folder=folder)
    assert list(methods())[-3:] == ["graph.elsewhere_a", "graph.elsewhere_m", "graph.elsewhere_z"]


def test_the_command_line_lists_it_without_torch(install: Install) -> None:
    site = install("elsewhere_three", ENTRY.format(name="recsys.elsewhere"), "elsewhere_three:METHODS")
    program = (
        "import sys\nfrom nearfar.pipelines.cli import run\n"
        "assert run(['methods', '--json']) == 0\nassert 'torch' not in sys.modules"
    )
    path = os.pathsep.join([str(site), *sys.path])
    answer = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(answer.stdout)[-1]["name"] == "recsys.elsewhere"


def test_a_taken_name_is_refused(install: Install) -> None:
    install("elsewhere_four", ENTRY.format(name="longtail.sbcl"), "elsewhere_four:METHODS")
    with pytest.raises(
        ConfigError, match=r"package elsewhere_four brings the method 'longtail\.sbcl'.*rename"
    ):
        methods()


@pytest.mark.parametrize(
    ("module", "value", "what"),
    [
        ("import a_module_that_is_not_there", "broken:METHODS", "ModuleNotFoundError"),
        ("METHODS = {}", "broken:OTHERS", "AttributeError"),
        ("METHODS = {'a': 'b'}", "broken:METHODS", "MethodEntry expected, got str"),
        ("1 / 0", "broken:METHODS", "ZeroDivisionError"),
    ],
)
def test_a_broken_package_keeps_nobody_from_the_others(
    install: Install, capsys: pytest.CaptureFixture[str], module: str, value: str, what: str
) -> None:
    own = list(methods())
    install("broken", module, value)
    assert list(methods()) == own
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "the methods of the package broken are left out" in said
    assert what in said
    with pytest.raises(ConfigError, match="unknown method"):
        find("broken.method")
