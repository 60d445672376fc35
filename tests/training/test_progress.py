"""A bar on a terminal, lines elsewhere, nothing when quiet."""

from __future__ import annotations

import io
import multiprocessing
import time

import pytest

from nearfar.training import progress
from nearfar.training.progress import Progress, share_terminal


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_terminal_gets_a_bar_with_the_newest_values() -> None:
    stream = Terminal()
    with Progress(10, "train", done=3, stream=stream) as bar:
        bar.note(loss=0.5)
        time.sleep(0.15)  # tqdm redraws every tenth of a second
        bar.advance(4)
    text = stream.getvalue()
    assert "train" in text
    assert "/10" in text
    assert "loss 0.5" in text


def test_files_get_lines_now_and_then() -> None:
    stream = io.StringIO()
    with Progress(10, "train", line_seconds=0, stream=stream) as lines:
        lines.note(loss=0.25)
        lines.advance()
        lines.advance()
    assert stream.getvalue().splitlines() == ["train: step 1/10, loss 0.25", "train: step 2/10, loss 0.25"]
    rare = io.StringIO()
    with Progress(10, "train", line_seconds=60, stream=rare) as lines:
        lines.advance()
    assert rare.getvalue() == ""


def test_quiet_is_quiet() -> None:
    for stream in (io.StringIO(), Terminal()):
        with Progress(10, "train", quiet=True, line_seconds=0, stream=stream) as lines:
            lines.advance()
        assert stream.getvalue() == ""


def test_workers_take_lines_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_terminal_line", 0)
    context = multiprocessing.get_context("spawn")
    lines = context.Queue()
    lines.put(1)
    share_terminal(lines, context.RLock())
    stream = Terminal()
    with Progress(10, "train", stream=stream) as bar:
        bar.advance()
    assert stream.getvalue().startswith("\n"), "the second bar stands one line below the first"
