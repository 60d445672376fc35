"""How input is refused: a message that says where, what and what to do; and nothing is left behind."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from nearfar.errors import DataError
from nearfar.pipelines.cli import run

Refuses = Callable[..., AbstractContextManager[None]]
Command = Callable[..., str]


@pytest.fixture
def refuses() -> Refuses:
    """Context whose body must be refused; the message has to match all of field, value and fix."""

    @contextmanager
    def refused(field: str, value: str, fix: str, error: type[Exception] = DataError) -> Iterator[None]:
        with pytest.raises(error) as caught:
            yield
        message = str(caught.value)
        for what, pattern in (("field", field), ("value", value), ("fix", fix)):
            assert re.search(pattern, message), f"no {what} ({pattern}) in: {message}"
        assert len(message.splitlines()) == 1, message

    return refused


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command that must be refused with a code, in one line, before anything is written; gives the line."""

    def refused(words: list[str], code: int) -> str:
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        capsys.readouterr()
        assert run(words) == code
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.startswith("nearfar: error: ")
        assert len(told.err.splitlines()) == 1, told.err
        after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        assert after == before, "a refused run must leave nothing behind"
        return told.err

    return refused
