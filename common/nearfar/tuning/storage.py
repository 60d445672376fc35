"""Where studies are kept: a journal file on one machine, PostgreSQL for several.

Whatever the storage, :meth:`StudyStore.lock` excludes every other process of the study, and belongs
to the operating system or the database server, which take it back from a dead holder.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from nearfar.errors import ConfigError, MissingDependencyError, StorageError, first_line
from nearfar.optional import installed, require
from nearfar.tracking.names import slug
from nearfar.tuning.journal import LOCK_SECONDS, file_lock, open_journal

HEARTBEAT_SECONDS = 60
STALE_SECONDS = 180
_POSTGRESQL = ("postgres", "postgresql")
_DRIVERS = {"psycopg": 'pip install "psycopg[binary]"', "psycopg2": "pip install psycopg2-binary"}


@dataclass(frozen=True)
class Place:
    """Where a study is kept.

    Attributes:
        kind: ``journal``, ``sqlite`` or ``postgresql``.
        path: File of the first two.
        url: SQLAlchemy URL of the last two; holds the password, so it is never shown.
    """

    kind: Literal["journal", "sqlite", "postgresql"]
    path: Path | None = None
    url: str | None = None

    def shown(self) -> str:
        """For messages and tags: without user and password."""
        if self.path is not None:
            return str(self.path)
        parts = urlsplit(self.url or "")
        port = f":{parts.port}" if parts.port else ""
        return f"postgresql://{parts.hostname or ''}{port}{parts.path}"

    def __repr__(self) -> str:
        return f"Place({self.shown()!r})"


def find_place(uri: str | None, study: str) -> Place:
    """What ``--storage`` means; opens nothing.

    Args:
        uri: ``postgresql://...``, ``sqlite:///...``, the path of a journal file, or ``None`` for
            ``mlruns/optuna/<study>.journal`` below the working folder.
        study: Name of the study.

    Raises:
        ConfigError: If the text is none of these.
        MissingDependencyError: If the database's driver is not installed.

    Example:
        >>> find_place("sqlite:////data/studies.db", "s").shown()
        '/data/studies.db'
    """
    if uri is None:
        return Place("journal", Path.cwd() / "mlruns" / "optuna" / f"{slug(study)}.journal")
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return Place("journal", Path(uri).expanduser().absolute())
    dialect, _, driver = scheme.partition("+")
    if dialect == "sqlite":
        path = Path(rest.removeprefix("/").partition("?")[0])
        if not path.name:
            raise ConfigError("--storage: a SQLite study needs a file, sqlite:///<path>")
        return Place("sqlite", path.absolute(), f"sqlite:///{path.absolute()}")
    if dialect not in _POSTGRESQL:
        raise ConfigError(
            f"--storage: '{dialect}' is not supported; give postgresql://user@host/database, the path of a "
            "journal file, or nothing"
        )
    driver = driver or "psycopg"
    if not installed(driver):
        command = _DRIVERS.get(driver, f"pip install {driver}")
        raise MissingDependencyError(
            f"a study in PostgreSQL needs {driver}, which is not installed: {command}"
        )
    return Place("postgresql", url=f"postgresql+{driver}://{rest}")


def check_place(place: Place, tracking_uri: str | None, workers: int) -> None:
    """Refuse places where a study would be damaged, or would damage the tracking store.

    Args:
        place: Of the study.
        tracking_uri: Of MLflow; ``None`` when nothing is tracked.
        workers: Processes on the study.

    Raises:
        ConfigError: If MLflow keeps its runs in the same database, or several processes would share SQLite.
    """
    if place.kind == "sqlite" and workers > 1:
        raise ConfigError(
            f"--storage: SQLite cannot serve {workers} workers; leave --storage out (a journal file), or give "
            "postgresql://..."
        )
    if tracking_uri is not None and place.url is not None and _database(place.url) == _database(tracking_uri):
        raise ConfigError(
            f"--storage: {place.shown()} is where MLflow keeps its runs, and each would spoil the other's tables; "
            "leave --storage out (a journal file), or give another database"
        )


def _database(url: str) -> tuple[str, ...]:
    """What tells two databases apart."""
    scheme, _, rest = url.partition("://")
    dialect = scheme.partition("+")[0]
    if dialect == "sqlite":
        return "sqlite", str(Path(rest.removeprefix("/").partition("?")[0]).resolve())
    parts = urlsplit(url)
    dialect = "postgresql" if dialect in _POSTGRESQL else dialect
    return dialect, parts.hostname or "", str(parts.port or 5432), parts.path


class StudyStore:
    """An opened storage, and one study in it.

    Args:
        place: Where it is kept.
        name: Name of the study.
        storage: Optuna's storage.
        locker: Makes a context that excludes the study's other processes.
    """

    def __init__(self, place: Place, name: str, storage: Any, locker: _Locker) -> None:
        self.place, self.name, self.storage, self._locker = place, name, storage, locker

    def lock(self) -> AbstractContextManager[None]:
        """Exclude every other process of this study, on any machine.

        Raises:
            StorageError: If another process has held the lock for two minutes.
        """
        return self._locker(self.name)

    def create_study(self, *, direction: str, metric: str, pruner: Any) -> Any:
        """The Optuna study, created when new; to be called under the lock.

        Args:
            direction: ``maximize`` or ``minimize``.
            metric: What the values are, for Optuna's own pages.
            pruner: Decides which trials this process stops early.
        """
        optuna = require("optuna", "tuning")
        with quiet_optuna():
            study = optuna.create_study(
                storage=self.storage,
                study_name=self.name,
                direction=direction,
                pruner=pruner,
                load_if_exists=True,
            )
            if study.metric_names is None:
                study.set_metric_names([metric])
        return study

    @contextmanager
    def readable_errors(self) -> Iterator[None]:
        """Errors of the database as ours, without its password.

        Raises:
            StorageError: If the database fails.
        """
        try:
            yield
        except Exception as error:
            if not type(error).__module__.startswith(("sqlalchemy", "psycopg", "optuna.exceptions")):
                raise
            raise _storage_error(self.place, error) from None


class _Locker:
    """Locks by name, for one place."""

    def __init__(self, place: Place) -> None:
        self._place, self._engine = place, None
        if place.kind == "postgresql":
            sqlalchemy = require("sqlalchemy", "tuning")
            # A connection of its own for every lock: the lock lives and dies with it.
            pool = sqlalchemy.pool.NullPool
            self._engine = sqlalchemy.create_engine(place.url, poolclass=pool, isolation_level="AUTOCOMMIT")
            return
        assert place.path is not None
        try:
            place.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{place.path.parent} cannot be created: {error.strerror}") from None
        self._file = file_lock(place.path, "lock")

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        if self._engine is None:
            try:
                self._file.acquire()
            except TimeoutError:
                raise StorageError(
                    f"another process has held {self._file.lock_file} for two minutes"
                ) from None
            try:
                yield
            finally:
                self._file.release()
            return
        with self._connect(name):
            yield

    @contextmanager
    def _connect(self, name: str) -> Iterator[None]:
        sqlalchemy = require("sqlalchemy", "tuning")
        key = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)
        try:
            connection = self._engine.connect()  # type: ignore[union-attr]
            connection.execute(sqlalchemy.text(f"SET lock_timeout = '{LOCK_SECONDS:.0f}s'"))
            connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), {"key": key})
        except sqlalchemy.exc.SQLAlchemyError as error:
            raise _storage_error(self._place, error) from None
        try:
            yield
        finally:
            connection.close()  # a session's locks end with it


def open_storage(uri: str | None, study: str) -> StudyStore:
    """Open a study's storage, creating it when new and healing a torn journal.

    Args:
        uri: As in :func:`find_place`.
        study: Name of the study.

    Raises:
        ConfigError: If ``uri`` cannot be understood.
        MissingDependencyError: If Optuna or the database's driver is not installed.
        StorageError: If the storage cannot be used.
    """
    place = find_place(uri, study)
    optuna = require("optuna", "tuning")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    locker = _Locker(place)
    # Five processes that open a fresh database together crash each other's creation of the tables.
    with locker("nearfar: create tables"), quiet_optuna():
        return StudyStore(place, study, _open(place), locker)


def _open(place: Place) -> Any:
    if place.kind == "journal":
        assert place.path is not None
        return open_journal(place.path)
    storages = require("optuna.storages", "tuning")
    beats: dict[str, Any] = {}
    if place.kind == "postgresql":
        beats = {"heartbeat_interval": HEARTBEAT_SECONDS, "grace_period": STALE_SECONDS}
    try:
        return storages.RDBStorage(place.url, engine_kwargs={"pool_pre_ping": True}, **beats)
    except Exception as error:  # of SQLAlchemy, of the driver, of Optuna: one meaning
        raise _storage_error(place, error) from None


def _storage_error(place: Place, error: Exception) -> StorageError:
    reason = first_line(getattr(error, "orig", None) or error)
    password = urlsplit(place.url or "").password
    reason = re.sub(r"(\w+://[^:@/\s]*):[^@/\s]*@", r"\1:***@", reason)
    if password:
        reason = reason.replace(password, "***")
    return StorageError(f"the study's storage {place.shown()} cannot be used: {reason}")


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Without Optuna's notes on what it calls experimental, all of which we use on purpose."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="optuna")
        warnings.filterwarnings("ignore", category=require("optuna.exceptions", "tuning").ExperimentalWarning)
        warnings.filterwarnings("ignore", message="Heartbeat of storage")
        yield
