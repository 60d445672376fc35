"""Objectives that other installed packages bring."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nearfar.errors import ConfigError
from nearfar.pipelines.objectives.arenas import ARENAS
from nearfar.pipelines.objectives.catalogue import catalogue
from nearfar.pipelines.registry import find
from nearfar.pipelines.settings import resolve_settings
from nearfar.pipelines.train import train
from nearfar.selectable import OBJECTIVES, ObjectiveEntry, ObjectiveSettings, known_objectives

Install = Callable[..., Path]
GROUP = "nearfar.objectives"
# Another name for one of nearfar's own, so that what comes out is known.
MODULE = """
from typing import Literal
from pydantic import Field
from nearfar.selectable import ObjectiveEntry, ObjectiveSettings


class Settings(ObjectiveSettings):
    name: Literal["{name}"] = "{name}"
    temperature: float = Field(0.1, gt=0, description="Of the softmax.")


ONE = ObjectiveEntry("{name}", "as elsewhere", "nobody", "nearfar.objectives.infonce:InfoNCE", Settings, {more})
"""


def module(name: str, more: str = "") -> str:
    return MODULE.format(name=name, more=more)


def test_it_trains_as_the_same_loss_of_ours(install: Install, tmp_path: Path) -> None:
    install("loss_one", module("elsewhere"), "loss_one:ONE", group=GROUP)
    words = [
        *find("longtail.simclr").load("example")(tmp_path),
        *("epochs=2", "device=cpu", "tracking.enabled=false", "tracking.plots=false"),
    ]
    found = {
        name: train(
            "longtail.simclr",
            [*words, f"objective={name}", "objective.temperature=0.3", f"output_dir={tmp_path / name}"],
            quiet=True,
        ).metrics
        for name in ("infonce", "elsewhere")
    }
    ours, theirs = (
        {key: value for key, value in found[name].items() if not key.startswith("perf/")}
        for name in ("infonce", "elsewhere")
    )
    assert ours == theirs
    assert (tmp_path / "elsewhere").is_dir()


def test_it_is_listed_and_compared_like_the_others(install: Install) -> None:
    own = list(known_objectives())
    assert own == list(OBJECTIVES)
    install(
        "loss_two", module("labelled", "takes=('stacked', 'stacked_labels')"), "loss_two:ONE", group=GROUP
    )
    assert list(known_objectives()) == [*own, "labelled"]
    listed = catalogue()[-1]
    assert (listed.name, listed.needs) == ("labelled", ("labels",))
    assert listed.parameters[0].description == "Of the softmax."
    assert "longtail" in listed.domains
    assert "graph" in listed.refused
    assert "labelled" in ARENAS["longtail"].objectives
    assert "labelled" not in ARENAS["graph"].objectives
    with pytest.raises(ConfigError, match="labelled cannot be had in graph"):
        resolve_settings(find("graph.contrast"), ["objective=labelled"], environment={})


def test_a_typing_error_names_it(install: Install) -> None:
    install("loss_three", module("elsewhere"), "loss_three:ONE", group=GROUP)
    with pytest.raises(ConfigError, match="did you mean 'elsewhere'"):
        resolve_settings(find("graph.contrast"), ["objective=elswhere"], environment={})
    with pytest.raises(ConfigError, match="objective"):
        resolve_settings(
            find("graph.contrast"), ["objective=elsewhere", "objective.temperature=0"], environment={}
        )


def test_a_taken_name_is_refused(install: Install) -> None:
    install("loss_four", module("dcl"), "loss_four:ONE", group=GROUP)
    with pytest.raises(ConfigError, match=r"package loss_four brings the objective 'dcl'.*rename it there"):
        resolve_settings(find("graph.contrast"), ["objective=dcl"], environment={})


def test_the_command_line_lists_it_without_torch(install: Install) -> None:
    site = install("loss_five", module("elsewhere"), "loss_five:ONE", group=GROUP)
    program = (
        f"import sys\nsys.path.insert(0, {str(site)!r})\nfrom nearfar.pipelines.cli import run\n"
        "assert run(['objectives', '--json']) == 0\nassert 'torch' not in sys.modules"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert '"elsewhere"' in answer.stdout


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ("takes=('frist',)", "there is no 'frist'; there are first, second"),
        ("takes=('first', 'target_first')", "SlowCopySettings belong to what takes target_first"),
    ],
)
def test_a_wrong_entry_keeps_nobody_from_the_others(
    install: Install, capsys: pytest.CaptureFixture[str], more: str, what: str
) -> None:
    install("loss_six", module("elsewhere", more), "loss_six:ONE", group=GROUP)
    for _ in range(3):
        assert list(known_objectives()) == list(OBJECTIVES)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "the objectives of the package loss_six are left out" in said
    assert what in said


def test_parts_must_fit() -> None:
    class Named(ObjectiveSettings):
        name: str = "other"

    with pytest.raises(ValueError, match="settings: its name is 'other'"):
        ObjectiveEntry("mine", "", "", "a:B", Named)
    with pytest.raises(ValueError, match="module:attribute expected, got 'a.B'"):
        ObjectiveEntry("other", "", "", "a.B", Named)
