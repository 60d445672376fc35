"""One published file over the network: encrypted, of a size that is expected, whole or not there at all."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from nearfar.atomic import replace_file
from nearfar.errors import DataError, first_line

MOST_BYTES = 256 << 20
SECONDS = 30.0
_BLOCK = 1 << 20


def download(url: str, path: Path, sha256: str | None = None, *, most_bytes: int = MOST_BYTES) -> None:
    """Fetch a file, unless it is there.

    Args:
        url: Address, ``https://``; so are all that the server sends one to.
        path: Where to; its folder is made. It appears when all of it has arrived and is what it should be.
        sha256: Digest of the file, where it is known.
        most_bytes: Longest that it may be.

    Raises:
        DataError: If it cannot be fetched or written, is longer, or is another file.
    """
    if not url.startswith("https://"):
        raise DataError(f"{url} is not encrypted; an address with https:// is expected")
    if path.is_file():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        opener = urllib.request.build_opener(_EncryptedOnly)
        with opener.open(url, timeout=SECONDS) as answer:
            replace_file(path, lambda file: _copy(answer, file, url, sha256, most_bytes))
    except DataError:
        raise
    except Exception as error:  # whatever a network, a proxy or a full disk raises
        raise DataError(f"{url}: {type(error).__name__}: {first_line(error)}; try again") from error


def _copy(answer: Any, file: BinaryIO, url: str, sha256: str | None, most_bytes: int) -> None:
    size, digest = 0, hashlib.sha256()
    for block in _blocks(answer):
        size += len(block)
        if size > most_bytes:
            raise DataError(
                f"{url} is longer than {most_bytes:,} bytes; it is not the file that was published"
            )
        digest.update(block)
        file.write(block)
    if sha256 is not None and digest.hexdigest() != sha256:
        raise DataError(f"{url} has SHA-256 {digest.hexdigest()[:16]}..., {sha256[:16]}... was published")


def _blocks(answer: Any) -> Iterator[bytes]:
    while block := answer.read(_BLOCK):
        yield block


class _EncryptedOnly(urllib.request.HTTPRedirectHandler):
    """Follows a server to other encrypted addresses only."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """The next request.

        Raises:
            URLError: If it is not encrypted.
        """
        if not newurl.startswith("https://"):
            raise urllib.error.URLError(f"it leads to {newurl}, which is not encrypted")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
