"""The commands, flags and settings of ``nearfar``, compared with the list in ``cli.txt``.

Scripts and notebooks spell each of them out, so a line changes only on purpose, together with the list:
``python tests/quality/regenerate.py`` writes it anew.
"""

# No postponed annotations here: Typer could not evaluate those of the small command line built below.
import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

from nearfar.config import Settings
from nearfar.pipelines.cli import app
from nearfar.pipelines.registry import methods

STORED = Path(__file__).with_name("cli.txt")
REGENERATE = "if this is meant, run: python tests/quality/regenerate.py"
# Typer's own; what they look like depends on the packages beside it.
NOT_OURS = {"--install-completion", "--show-completion"}


def command_lines(application: typer.Typer) -> list[str]:
    """One line per command, argument and flag.

    Only attributes that Click and the command line inside newer Typer versions share are read.
    """
    root: Any = typer.main.get_command(application)
    return sorted(_lines(root, application.info.name or "nearfar"))


def _lines(command: Any, path: str) -> Iterator[str]:
    yield path
    for parameter in command.params:
        if not NOT_OURS & set(parameter.opts):
            yield f"{path} {_parameter(parameter)}"
    for name, child in getattr(command, "commands", {}).items():
        yield from _lines(child, f"{path} {name}")


def _parameter(parameter: Any) -> str:
    names = " / ".join([*parameter.opts, *parameter.secondary_opts])
    if not names.startswith("-"):
        shown = names.upper() + ("..." if parameter.nargs == -1 else "")
        return shown if parameter.required else f"[{shown}]"
    if getattr(parameter, "is_flag", False):
        return names
    return f"{names} VALUE" + ("" if parameter.default is None else f" (default {parameter.default})")


def setting_lines() -> list[str]:
    """One line per setting of each method; types and defaults are in ``public_api.txt``."""
    return [
        f"{name} {key}="
        for name, entry in sorted(methods().items())
        for key in sorted(_keys(entry.load("config")))
    ]


def _keys(config: type[Settings], prefix: str = "") -> Iterator[str]:
    for name, field in config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            yield from _keys(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def cli_surface() -> list[str]:
    """Everything people type."""
    return [*command_lines(app), *setting_lines()]


def difference(stored: list[str], found: list[str]) -> str:
    """What changed, line by line; empty if nothing did."""
    changed = difflib.unified_diff(stored, found, "stored", "found", lineterm="", n=0)
    return "\n".join(line for line in changed if not line.startswith("@@"))


def test_command_line() -> None:
    changed = difference(STORED.read_text("utf-8").splitlines(), cli_surface())
    assert not changed, f"the command line changed; {REGENERATE}\n{changed}"


def make_app(*, flag: str = "--json", seeds: int = 1, extra: bool = False) -> typer.Typer:
    """A small command line, with one thing about it changed."""
    small = typer.Typer(name="small")

    @small.callback()
    def root() -> None: ...

    @small.command()
    def train(
        method: Annotated[str, typer.Argument()],
        settings: Annotated[list[str] | None, typer.Argument()] = None,
        number: Annotated[int, typer.Option("--seeds", "-n")] = seeds,
        json_line: Annotated[bool, typer.Option(flag)] = False,
    ) -> None: ...

    if extra:
        small.command("tune")(train)
    return small


def test_the_list_of_a_small_command_line() -> None:
    assert command_lines(make_app()) == [
        "small",
        "small train",
        "small train --json",
        "small train --seeds / -n VALUE (default 1)",
        "small train METHOD",
        "small train [SETTINGS...]",
    ]


@pytest.mark.parametrize("changed", [{"flag": "--as-json"}, {"seeds": 2}, {"extra": True}])
def test_what_counts_as_a_change(changed: dict[str, Any]) -> None:
    assert difference(command_lines(make_app()), command_lines(make_app(**changed)))
    assert not difference(command_lines(make_app()), command_lines(make_app()))


def test_groups_of_settings_are_spelled_out() -> None:
    class Inner(Settings):
        rate: float = 1.0

    class Outer(Settings):
        seed: int = 0
        inner: Inner = Inner()

    assert sorted(_keys(Outer)) == ["inner.rate", "seed"]
