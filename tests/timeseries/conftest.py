"""Where real series are found."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with ``forecasting`` and ``classification``; the test is skipped without it."""
    if not SHARED.is_dir():
        pytest.skip("the shared benchmark data are not beside this checkout")
    return SHARED
