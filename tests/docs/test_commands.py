"""Every command in the README and the documentation can be typed as it stands.

Lines of ``sh`` blocks are commands for a checkout. By default the settings of each are resolved, nothing is trained;
the slow test runs a page's commands in order in an empty folder. ``bash`` blocks are read, not run here: they have
blanks to fill in, need a cluster or a server, install something, or are the two that a fresh clone is tested with.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

REPOSITORY = Path(__file__).parents[2]
FENCE = re.compile(r"^```sh\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
# Minutes or an hour each; each made a table of the documentation.
STUDIES = {"bench", "hidden-classes", "noisy-labels", "objectives", "reliability", "tune-objectives"}
# Data that is nowhere in the packages.
DOWNLOADS = ("DATA=cora",)


def commands(text: str) -> list[list[str]]:
    """Words of every command of a page, comments left out."""
    lines = "\n".join(FENCE.findall(text)).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def pages() -> Iterator[tuple[str, list[list[str]]]]:
    """Pages with commands."""
    docs = (p for p in (REPOSITORY / "docs").rglob("*.md") if not {"reference", "_build"} & set(p.parts))
    for path in sorted([REPOSITORY / "README.md", *docs]):
        if found := commands(path.read_text(encoding="utf-8")):
            yield path.relative_to(REPOSITORY).as_posix(), found


PAGES = [pytest.param(found, id=name) for name, found in pages()]


def expanded(words: list[str]) -> list[list[str]]:
    """What ``make`` would run, its set-up left out; anything else as it is."""
    if words[0] != "make":
        return [words]
    done = subprocess.run(
        ["make", "--dry-run", "--silent", *words[1:]],
        cwd=REPOSITORY,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [shlex.split(line) for line in done.stdout.splitlines() if ".ci/setup" not in line]


def test_what_a_command_is() -> None:
    text = "```sh\nmake graph  # a minute\na \\\n  b\n```\n```bash\nsudo rm\n```\n"
    assert commands(text) == [["make", "graph"], ["a", "b"]]
    assert expanded(["make", "graph"])[0][1:4] == ["train", "graph.pot", "data=digits"]


@pytest.mark.parametrize("found", PAGES)
def test_settings(found: list[list[str]]) -> None:
    from nearfar.pipelines.cli import app
    from nearfar.pipelines.registry import find
    from nearfar.pipelines.settings import resolve_settings

    for words in (line for command in found for line in expanded(command)):
        program, arguments = Path(words[0]).name, words[1:]
        if program == "torchrun":
            program, arguments = "nearfar", arguments[arguments.index("nearfar.pipelines") + 1 :]
        if program != "nearfar":
            assert program in {"python", "mlflow"}, words
            continue
        shown = CliRunner().invoke(app, [arguments[0], "--help"])
        assert shown.exit_code == 0, words
        for flag in (word.partition("=")[0] for word in arguments if word.startswith("--")):
            assert flag in shown.output, f"{words}: {flag} is no option"
        if arguments[0] in {"train", "tune", "profile"}:
            settings = [word for word in arguments[2:] if re.match(r"[a-z_.]+=", word)]
            resolve_settings(find(arguments[1]), settings, None)


@pytest.mark.slow
@pytest.mark.parametrize("found", PAGES)
def test_run(found: list[list[str]], tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(REPOSITORY / ".venv")
    for command in found:
        if STUDIES & set(command) or any(word in DOWNLOADS for word in command):
            continue
        for words in expanded(command):
            done = subprocess.run(
                words, cwd=tmp_path, env=os.environ, check=False, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
