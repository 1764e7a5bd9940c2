"""A local database gets MLflow's tables completely or not at all.

MLflow makes and migrates a database in place, step by step. If it is killed meanwhile, it can never
open the database again. So we let it work on a copy, which SQLite writes back in one transaction:
the file keeps its owner and its rights. Nobody else can use the database meanwhile.
"""

import contextlib
import itertools
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Final

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.db import utils
from sqlalchemy.exc import SQLAlchemyError

_ABANDONED_SECONDS: Final = 600
_FILLED_AT_FIRST: Final = {"alembic_version", "workspaces"}
"""The tables that MLflow fills as it makes them; `experiments` then has the one named Default."""


def prepare(place: Path, timeout: float) -> None:
    """Make a database, or give an older one the tables of this MLflow.

    What a killed MLflow left half made holds nothing; it is kept beside the new database as
    `NAME.unfinished`. Raises what SQLite and MLflow raise for a file that is no database, or is
    locked for longer than `timeout` seconds.
    """
    place = place.resolve()
    newest = utils._get_latest_schema_revision()  # noqa: SLF001  MLflow has no public name for it
    _remove_abandoned(place)
    while True:
        with _folder_errors_as_sqlite():
            if not place.exists():
                place.touch()
            opened = place.stat().st_ino
        with closing(sqlite3.connect(place, timeout=timeout, isolation_level=None)) as database:
            if _revision(database) == newest:
                return
            _lock(database)
            if not place.exists() or place.stat().st_ino != opened:
                continue  # another command has moved it aside meanwhile
            if _revision(database) == newest or _migrated(database, place):
                return
            place.rename(_free_name(place))


def _lock(database: sqlite3.Connection) -> None:
    """Let nobody else read or write until the connection is closed."""
    try:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("BEGIN EXCLUSIVE")
        database.execute("COMMIT")  # in this mode the lock stays
    except sqlite3.OperationalError as error:
        raise sqlite3.OperationalError(
            f"{error}: MLflow {version('mlflow')} has to change its tables, and another program "
            "has it open; end that one (`mlflow ui`?), then repeat the command"
        ) from error


def _migrated(database: sqlite3.Connection, place: Path) -> bool:
    """Let MLflow migrate a locked database; False if it is one that a killed MLflow left."""
    with _folder_beside(place) as folder:
        path = folder / place.name
        with closing(sqlite3.connect(path)) as copy:
            database.backup(copy)
            half_made = _holds_nothing(copy)
        try:
            _open(path)
        except (MlflowException, SQLAlchemyError, sqlite3.Error):
            if half_made:
                return False
            raise
        with closing(sqlite3.connect(path)) as copy:
            copy.backup(database)
    return True


@contextlib.contextmanager
def _folder_beside(place: Path) -> Iterator[Path]:
    with _folder_errors_as_sqlite():
        folder = Path(tempfile.mkdtemp(dir=place.parent, prefix=_prefix(place)))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _folder_errors_as_sqlite() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise sqlite3.OperationalError(f"its folder cannot be written: {error.strerror}") from error


def _revision(database: sqlite3.Connection) -> str | None:
    """The version of the tables in a database; None if it has none."""
    if "alembic_version" not in _tables(database):
        return None
    found = database.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if found is None else str(found[0])


def _holds_nothing(database: sqlite3.Connection) -> bool:
    """Whether a database has MLflow's tables, and in them only what MLflow writes at first."""
    tables = _tables(database)
    if "experiments" not in tables:
        return False
    own = "SELECT 1 FROM experiments WHERE name != 'Default' LIMIT 1"
    rest = tables - _FILLED_AT_FIRST - {"experiments"}
    filled = (f'SELECT 1 FROM "{name}" LIMIT 1' for name in rest)  # noqa: S608  names of tables
    return not any(database.execute(query).fetchone() for query in (own, *filled))


def _tables(database: sqlite3.Connection) -> set[str]:
    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
    return {name for (name,) in database.execute(query)}


def _open(path: Path) -> None:
    """Let MLflow make or migrate the tables of a file."""
    client = MlflowClient(f"sqlite:///{path}", f"sqlite:///{path}")
    client.search_experiments(max_results=1)
    client._tracking_client.store.engine.dispose()  # noqa: SLF001  it would keep the file open


def _free_name(place: Path) -> Path:
    """A name beside a database that nothing has yet."""
    first = place.with_name(f"{place.name}.unfinished")
    further = (place.with_name(f"{first.name}-{number}") for number in itertools.count(2))
    return next(path for path in itertools.chain([first], further) if not path.exists())


def _prefix(place: Path) -> str:
    return f".{place.name}.new-"


def _remove_abandoned(place: Path) -> None:
    """Remove what commands left behind that were killed here."""
    for folder in place.parent.glob(f"{_prefix(place)}*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(folder)
