"""Trials nobody works on any more, in all local studies."""

from __future__ import annotations

from pathlib import Path

from nearfar.optional import require
from nearfar.tuning.claims import bury
from nearfar.tuning.storage import open_storage, quiet_optuna


def close_stale(folder: Path | None = None) -> int:
    """Heal all journals and fail the trials whose process on this host is gone.

    They are tried once more when their study goes on.

    Args:
        folder: Holds the journals; ``mlruns/optuna`` below the working folder by default.

    Returns:
        Number of trials closed.

    Raises:
        StorageError: If a journal cannot be read or written.
    """
    folder = folder or Path.cwd() / "mlruns" / "optuna"
    closed = 0
    for path in sorted(folder.glob("*.journal")):
        optuna = require("optuna", "closing stale trials")
        store = open_storage(str(path), path.stem)
        for summary in store.storage.get_all_studies():
            with store.lock(), quiet_optuna():
                study = optuna.load_study(storage=store.storage, study_name=summary.study_name)
                closed += bury(store, study)
    return closed
