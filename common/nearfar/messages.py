"""What nearfar says to people while it works: one line each, on standard error."""

from __future__ import annotations

import sys

from nearfar.redaction import redacted


def warn(message: str) -> None:
    """Say something that deserves attention and stops nothing."""
    sys.stderr.write(f"nearfar: {redacted(message)}\n")
    sys.stderr.flush()
