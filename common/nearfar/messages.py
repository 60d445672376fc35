"""What nearfar says to people while it works: one line each, on standard error."""

from __future__ import annotations

import sys


def warn(message: str) -> None:
    """Say something that deserves attention and stops nothing."""
    sys.stderr.write(f"nearfar: {message}\n")
    sys.stderr.flush()
