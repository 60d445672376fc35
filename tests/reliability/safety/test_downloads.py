"""Downloads: encrypted, of the size and content that were published, whole or not there."""

from __future__ import annotations

import hashlib
import io
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from nearfar.data.download import _EncryptedOnly, download
from nearfar.errors import DataError

URL = "https://files.example/ind.x"


class Answers:
    """A network that answers with given bytes."""

    def __init__(self, content: bytes, fails_after: int | None = None) -> None:
        self.content, self.fails_after, self.calls = content, fails_after, 0

    def build_opener(self, *handlers: Any) -> Answers:
        """In place of urllib's."""
        assert handlers == (_EncryptedOnly,)
        return self

    def open(self, url: str, timeout: float) -> Any:
        """An answer."""
        self.calls += 1
        answer = io.BytesIO(self.content)
        if self.fails_after is not None:
            rest = self.fails_after

            def read(size: int) -> bytes:
                nonlocal rest
                rest -= 1
                if rest < 0:
                    raise TimeoutError("timed out")
                return b"x" * size

            answer.read = read  # type: ignore[method-assign,assignment]
        return answer


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Function that puts a network in the place of the real one."""

    def use(content: bytes, fails_after: int | None = None) -> Answers:
        answers = Answers(content, fails_after)
        monkeypatch.setattr(urllib.request, "build_opener", answers.build_opener)
        return answers

    return use


@pytest.mark.row("L03")
def test_a_file_arrives_once(tmp_path: Path, network: Any) -> None:
    """In a folder that is made for it; what is there is not fetched again."""
    answers, path = network(b"content"), tmp_path / "a" / "b" / "ind.x"
    for _ in range(2):
        download(URL, path, hashlib.sha256(b"content").hexdigest())
        assert path.read_bytes() == b"content"
    assert answers.calls == 1


@pytest.mark.row("L03", damages=4)
@pytest.mark.parametrize(
    ("content", "fails_after", "limits", "message"),
    [
        (
            b"other",
            None,
            {"sha256": "0" * 64},
            r"has SHA-256 d9298a10d1b07358\.\.\., 0000000000000000\.\.\. was",
        ),
        (b"x" * 101, None, {"most_bytes": 100}, "is longer than 100 bytes; it is not the file"),
        (b"", 3, {}, "TimeoutError: timed out; try again"),
        (b"", 0, {}, "TimeoutError: timed out; try again"),
    ],
)
def test_what_is_not_the_file_leaves_nothing(
    tmp_path: Path,
    network: Any,
    content: bytes,
    fails_after: int | None,
    limits: dict[str, Any],
    message: str,
) -> None:
    """Another content, too much of it, a connection that breaks."""
    network(content, fails_after)
    with pytest.raises(DataError, match=message):
        download(URL, tmp_path / "ind.x", **limits)
    assert not list(tmp_path.iterdir())


@pytest.mark.row("L03", damages=2)
def test_only_encrypted_addresses(tmp_path: Path, network: Any) -> None:
    """Neither to begin with nor where the server leads to."""
    answers = network(b"content")
    for url in ("http://files.example/x", "file:///etc/passwd", "ftp://files.example/x"):
        with pytest.raises(DataError, match=r"is not encrypted; an address with https:// is expected"):
            download(url, tmp_path / "x")
    assert answers.calls == 0
    request = urllib.request.Request(URL)
    with pytest.raises(
        urllib.error.URLError, match="leads to http://elsewhere.example/x, which is not encrypted"
    ):
        _EncryptedOnly().redirect_request(request, None, 302, "Found", {}, "http://elsewhere.example/x")
    followed = _EncryptedOnly().redirect_request(
        request, None, 302, "Found", {}, "https://elsewhere.example/x"
    )
    assert followed.full_url == "https://elsewhere.example/x"
