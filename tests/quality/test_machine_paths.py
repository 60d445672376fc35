"""No file of the repository names a place that exists on one developer's machine only.

What to look for is found out where the test runs: the folder around the checkout, the home directory,
the folder for temporary files.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest

# Every Unix has these; a checkout right below one of them does not make its name a secret.
EVERYWHERE = {Path(name) for name in ("/", "/home", "/media", "/mnt", "/opt", "/srv", "/usr", "/var")}


def machine_folders(repository: Path) -> list[Path]:
    """Folders that other machines do not have."""
    folders = [repository, repository.parent, Path.home(), Path(tempfile.gettempdir())]
    both = {path for folder in folders for path in (folder.absolute(), folder.resolve())}
    return sorted(both - EVERYWHERE)


def pattern(folders: Iterable[Path]) -> re.Pattern[str]:
    """Matches any of the folders as a whole: ``/home/me`` neither in ``/home/mel`` nor in ``a/home/me``."""
    names = "|".join(re.escape(str(folder)) for folder in folders)
    # A slash before it makes it part of a longer path, two slashes make it a URL of a file.
    return re.compile(rf"(?<![\w.~$}})-])(?<![^/]/)(?:{names})(?![\w.-])")


def repository_files(repository: Path) -> list[Path]:
    """Tracked files and those about to be; ignored ones stay on this machine anyway."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=repository,
        capture_output=True,
        check=True,
    ).stdout
    return [path for name in listed.decode().split("\0") if name and (path := repository / name).is_file()]


def mentions(files: Iterable[Path], wanted: re.Pattern[str]) -> list[str]:
    """Lines of text files with a match; files that are not UTF-8 are not text."""
    found = []
    for path in files:
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if match := wanted.search(line):
                found.append(f"{path}:{number}: {match[0]}")
    return found


def in_git(repository: Path) -> bool:
    """Whether git can list the files (not in an unpacked sdist)."""
    return shutil.which("git") is not None and (repository / ".git").exists()


def test_no_file_names_this_machine(repository: Path) -> None:
    if not in_git(repository):
        pytest.skip("not a git checkout: there is no list of its files")
    files = repository_files(repository)
    assert repository / "pyproject.toml" in files
    found = mentions(files, pattern(machine_folders(repository)))
    assert not found, "\n".join(found)


def test_a_planted_path_is_found(tmp_path: Path, repository: Path) -> None:
    folders = machine_folders(repository)
    assert repository.absolute() in folders
    planted = tmp_path / "notes.md"
    for folder in folders:
        planted.write_text(f"# Words\ncd {folder}/somewhere\n", encoding="utf-8")
        assert mentions([planted], pattern([folder])) == [f"{planted}:2: {folder}"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cd /home/me", True),
        ("file:///home/me/x", True),
        ("PATH=/home/me/bin:/usr", True),
        ('"/home/me"', True),
        ("/home/mel", False),
        ("/home/me-too", False),
        ("cd (/home/me)", True),
        ("below/home/me", False),
        ("~/home/me", False),
        ("$HOME/home/me", False),
        ("${ROOT}/home/me", False),
    ],
)
def test_only_whole_paths_count(text: str, found: bool) -> None:
    wanted = pattern([Path("/home/me")])
    assert bool(wanted.search(text)) == found


def test_binary_files_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(b"/home/me \xff\xfe")
    assert mentions([tmp_path / "data.bin"], pattern([Path("/home/me")])) == []
