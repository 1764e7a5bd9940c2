"""Databases for a made-up study: a SQLite file, or a PostgreSQL server that is thrown away."""

import contextlib
import io
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

_SERVER_FILES = "/usr/lib/postgresql/*/bin/initdb"  # where Debian has them, outside of PATH
_FILE = "mlflow.db"


class Database(Protocol):
    """An MLflow database that rows can be written into, past MLflow."""

    uri: str

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        """Write rows."""

    def finish(self) -> None:
        """Make it ready to be read; no more rows follow."""


class Sqlite:
    """MLflow's own default, a file in the current folder."""

    uri = f"sqlite:///{_FILE}"

    def __init__(self) -> None:
        self._database = sqlite3.connect(_FILE, isolation_level=None)
        for fast in ("journal_mode = off", "synchronous = off", "cache_size = -1000000"):
            self._database.execute(f"pragma {fast}")
        self._database.execute("begin")
        # Made again at the end: that is faster than to keep them for every row.
        indices = "select name, sql from sqlite_master where type = 'index' and sql is not null"
        self._indices = self._database.execute(indices).fetchall()
        for name, _ in self._indices:
            self._database.execute(f"drop index {name}")

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        """Write rows."""
        places = ",".join("?" * len(columns))
        names = ",".join(f'"{column}"' for column in columns)
        self._database.executemany(f"insert into {table} ({names}) values ({places})", rows)  # noqa: S608

    def finish(self) -> None:
        """Write everything to the disk."""
        for _, made_by in self._indices:
            self._database.execute(made_by)
        self._database.execute("commit")
        self._database.close()


class Postgresql:
    """A database of a server that listens on a socket in a folder."""

    def __init__(self, socket: Path) -> None:
        import psycopg2  # noqa: PLC0415  whoever measures SQLite need not have it

        self.uri = f"postgresql+psycopg2://postgres@/postgres?host={socket}"
        self._connection = psycopg2.connect(user="postgres", dbname="postgres", host=str(socket))

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        """Write rows; no value has a tab, a line break or a backslash."""
        text = "".join("\t".join(map(str, row)) + "\n" for row in rows)
        names = ",".join(f'"{column}"' for column in columns)
        with self._connection.cursor() as cursor:
            cursor.copy_expert(f"copy {table} ({names}) from stdin", io.StringIO(text))

    def finish(self) -> None:
        """Commit, and collect the statistics that a server collects by itself after a while."""
        self._connection.commit()
        self._connection.autocommit = True
        with closing(self._connection), self._connection.cursor() as cursor:
            cursor.execute("vacuum analyze")


@contextmanager
def postgresql_server() -> Iterator[Path]:
    """A new server, which is stopped and deleted at the end; yields the folder of its socket."""
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # paths of sockets must be short
    as_user: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "postgres", "postgres")
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--"]
    data, programs = folder / "data", _programs()

    def call(program: str, *arguments: str) -> None:
        command = [*as_user, str(programs / program), "-D", str(data), *arguments]
        log = (folder / "log").open("a") if program == "pg_ctl" else None
        subprocess.run(
            command, check=True, cwd=folder, stdout=log or subprocess.DEVNULL, stderr=log
        )

    try:
        call("initdb", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C")
        call("pg_ctl", "-w", "-o", f"-k {folder} -c listen_addresses= -c fsync=off", "start")
        try:
            yield folder
        finally:
            call("pg_ctl", "-w", "-m", "fast", "stop")
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)


def _programs() -> Path:
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    installed = sorted(Path("/").glob(_SERVER_FILES.lstrip("/")))
    if not installed:
        sys.exit("PostgreSQL's initdb is not here; Debian's package `postgresql` has it")
    return installed[-1].parent
