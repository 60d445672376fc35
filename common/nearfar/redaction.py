"""Passwords and tokens, blanked before a text leaves the process: into a store, a file of a run, a message."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, TypeVar

BLANK = "***"
# Variables whose values are secrets by their names. Shorter values would blank parts of words.
_NAMED = re.compile(r"(^|_)(TOKEN|KEY|PASSWORD|PASSWD|SECRET|ACCESS_KEY_ID)$", re.IGNORECASE)
_SHORTEST = 6
_WEB = re.compile(r"(\bhttps?://)[^\s/'\"<>]*@")
_LOGIN = re.compile(r"(\b[A-Za-z][\w+.-]*://[^\s/:@'\"<>]*):[^\s/'\"<>]*@")
_GIVEN = re.compile(
    r"(?<![\w-])((?:\w*[_-])?(?:password|passwd|pwd|token|secret|api_?key|access_?key)=)"
    r"[^\s&;'\",)]+",
    re.IGNORECASE,
)

Value = TypeVar("Value")


def redacted(text: str, environment: Mapping[str, str] | None = None) -> str:
    """``text`` without what nobody else should read.

    Blanked are passwords in addresses of databases, whatever logs in to a web address, values given as ``password=``,
    ``token=``, ``secret=`` or ``api_key=``, and the values of all environment variables whose names end in ``TOKEN``,
    ``KEY``, ``PASSWORD``, ``SECRET`` or ``ACCESS_KEY_ID`` and that are no path. Doing it again changes nothing.

    Args:
        text: Anything.
        environment: Variables; those of the process by default.

    Example:
        >>> redacted("postgresql://me:hunter2@db/runs and https://token@git.example/x?sslmode=on")
        'postgresql://me:***@db/runs and https://***@git.example/x?sslmode=on'
        >>> redacted("sent abcdef123", {"HUB_TOKEN": "abcdef123"})
        'sent ***'
    """
    for secret in _secrets(os.environ if environment is None else environment):
        text = text.replace(secret, BLANK)
    if "://" in text:
        text = _LOGIN.sub(rf"\1:{BLANK}@", _WEB.sub(rf"\1{BLANK}@", text))
    return _GIVEN.sub(rf"\1{BLANK}", text) if "=" in text else text


def redacted_values(value: Value) -> Value:
    """The same for every text in dictionaries, lists and tuples of plain values; keys stay.

    Example:
        >>> redacted_values({"uri": "http://me:pass@host", "seeds": [1, 2]})
        {'uri': 'http://***@host', 'seeds': [1, 2]}
    """
    cleaned: Any = value
    if isinstance(value, str):
        cleaned = redacted(value)
    elif isinstance(value, Mapping):
        cleaned = {key: redacted_values(part) for key, part in value.items()}
    elif isinstance(value, list | tuple):
        cleaned = type(value)(redacted_values(part) for part in value)
    return cleaned  # type: ignore[no-any-return]


def _secrets(environment: Mapping[str, str]) -> list[str]:
    """Longest first, so that none is left in halves."""
    found = {
        value
        for name, value in environment.items()
        if _NAMED.search(name) and len(value) >= _SHORTEST and not os.path.exists(value)
    }
    return sorted(found, key=len, reverse=True)
