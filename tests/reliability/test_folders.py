"""One run at a time in a folder, whoever died there before; places that cannot be written."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nearfar.errors import StorageError
from nearfar.pipelines.cli import run
from nearfar.pipelines.output import OutputFolder

HOLDER = """
import sys, time
from pathlib import Path
from nearfar.pipelines.output import OutputFolder
folder = OutputFolder(Path(sys.argv[1]))
with folder.claim():
    folder.write_status("running")
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.row("C04")
def test_a_folder_in_use_is_refused_and_a_dead_owners_taken_over(
    tmp_path: Path, toy_file: Path, tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "run"
    words = [
        "train",
        "recsys.sasrec",
        *tiny,
        f"data={toy_file}",
        f"output_dir={place}",
        "tracking.enabled=false",
    ]
    command = [sys.executable, "-c", HOLDER, str(place)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        began = time.monotonic()
        with pytest.raises(StorageError), OutputFolder(place).claim():
            pass
        assert time.monotonic() - began < 1
        assert run([*words, "-q"]) == 6
        error = capsys.readouterr().err
        assert f"is in use by process {holder.pid} on {socket.gethostname()}" in error
        holder.send_signal(signal.SIGKILL)
    assert run([*words, "-q", "--json"]) == 0
    assert json.loads((place / "run.json").read_text())["pid"] == os.getpid()


@pytest.mark.row("S08")
@pytest.mark.parametrize("tracked", ["true", "false"])
def test_a_folder_that_cannot_be_written(
    tmp_path: Path, toy_file: Path, tiny: list[str], tracked: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "run"
    words = [*tiny, f"data={toy_file}", f"output_dir={place}", f"tracking.enabled={tracked}"]
    assert run(["train", "recsys.sasrec", *words, "-q"]) == 6
    about_data, error = capsys.readouterr().err.splitlines()
    assert "histories are longer than max_length" in about_data
    assert str(place) in error


@pytest.mark.row("S08")
def test_a_clock_that_is_set_back_gives_no_negative_duration(
    toy_file: Path, tiny: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, calls = time.time, [0]

    def moved() -> float:
        calls[0] += 1
        return real() - (3600 if calls[0] > 5 else 0)

    monkeypatch.setattr(time, "time", moved)
    words = [*tiny, f"data={toy_file}", "tracking.enabled=false"]
    assert run(["train", "recsys.sasrec", *words, "-q", "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    assert all(value >= 0 for name, value in metrics.items() if name.startswith("perf/"))
