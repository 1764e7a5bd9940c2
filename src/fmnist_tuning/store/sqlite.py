"""A local database gets MLflow's tables completely or not at all.

MLflow makes and migrates a database in place, step by step. If it is killed meanwhile, it can never
open the database again. So we let it work on a new file, which takes its place when it is complete,
or on a copy, which SQLite writes back in one transaction: the file keeps its owner and its readers.
"""

import contextlib
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.db import utils
from sqlalchemy.exc import SQLAlchemyError

_TRIES: Final = 5
_ABANDONED_SECONDS: Final = 600
_CONTENT: Final = ("runs", "registered_models")


def prepare(place: Path, timeout: float) -> None:
    """Make a database, or give an older one the tables of this MLflow.

    What a killed MLflow left half made holds nothing; it is kept beside the new database as
    `NAME.unfinished`. Raises what SQLite and MLflow raise for a file that is no database, or is
    locked for longer than `timeout` seconds.
    """
    place = place.resolve()
    newest = utils._get_latest_schema_revision()  # noqa: SLF001  MLflow has no public name for it
    for _ in range(_TRIES):
        before = _state(place)
        if before is not None and _revision(place, timeout) == newest:
            return
        _remove_abandoned(place)
        with _folder_beside(place) as folder:
            new = folder / place.name
            half_made = _copy(place, new, timeout) if before is not None else False
            try:
                _open(new)
            except (MlflowException, SQLAlchemyError, sqlite3.Error):
                if not half_made:
                    raise
                place.replace(place.with_name(f"{place.name}.unfinished"))
                continue
            # Another command may have made, migrated or written it at the same time.
            if _state(place) != before:
                continue
            if before is not None:
                _back_up(new, place, timeout)
                return
            if _put(new, place):
                return
    raise sqlite3.OperationalError(f"{place} changes all the time, and cannot be migrated")


@contextlib.contextmanager
def _folder_beside(place: Path) -> Iterator[Path]:
    try:
        folder = Path(tempfile.mkdtemp(dir=place.parent, prefix=_prefix(place)))
    except OSError as error:
        raise sqlite3.OperationalError(f"its folder cannot be written: {error.strerror}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _state(place: Path) -> tuple[int, int, int] | None:
    """What changes if a file is written; None if there is no file."""
    try:
        found = place.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _revision(place: Path, timeout: float) -> str | None:
    """The version of the tables in a database; None if it has none."""
    with closing(sqlite3.connect(place, timeout=timeout)) as database:
        if not _has(database, "alembic_version"):
            return None
        found = database.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if found is None else str(found[0])


def _copy(place: Path, new: Path, timeout: float) -> bool:
    """Copy a database; return whether it is one of MLflow's without any content."""
    _back_up(place, new, timeout)
    with closing(sqlite3.connect(new)) as copy:
        tables = [table for table in _CONTENT if _has(copy, table)]
        empty = not any(copy.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone() for name in tables)  # noqa: S608  our own names
        ours = _has(copy, "experiments")
    return empty and ours


def _back_up(source: Path, target: Path, timeout: float) -> None:
    with (
        closing(sqlite3.connect(source, timeout=timeout)) as read,
        closing(sqlite3.connect(target, timeout=timeout)) as written,
    ):
        read.backup(written)


def _has(database: sqlite3.Connection, table: str) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return database.execute(query, (table,)).fetchone() is not None


def _open(path: Path) -> None:
    """Let MLflow make or migrate the tables of a file."""
    client = MlflowClient(f"sqlite:///{path}", f"sqlite:///{path}")
    client.search_experiments(max_results=1)
    client._tracking_client.store.engine.dispose()  # noqa: SLF001  it would keep the file open


def _put(new: Path, place: Path) -> bool:
    """Move a new database into its place; False if another command has made one there."""
    try:
        os.link(new, place)  # unlike a move, this replaces nothing
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        new.replace(place)
    return True


def _prefix(place: Path) -> str:
    return f".{place.name}.new-"


def _remove_abandoned(place: Path) -> None:
    """Remove what commands left behind that were killed here."""
    for folder in place.parent.glob(f"{_prefix(place)}*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(folder)
