"""A PostgreSQL of one's own on 127.0.0.1, started as a user would, without the system's service."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

# Debian keeps them beside the system's commands, a folder for each version.
_DEBIAN = sorted(
    Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name)
)
BINARIES = (_DEBIAN or [Path(shutil.which("initdb") or "/nowhere/initdb").parent])[-1]
USER = "postgres"


def skip_without_postgres() -> None:
    """Skip a test where PostgreSQL cannot be started."""
    if not (BINARIES / "initdb").exists():
        pytest.skip("needs PostgreSQL (Debian's package `postgresql`)")
    pytest.importorskip("psycopg2", reason="needs the Python package psycopg2-binary")
    if os.getuid() == 0:
        try:
            pwd.getpwnam(USER)
        except KeyError:
            pytest.skip("PostgreSQL refuses root, and there is no user `postgres` to start it")


class Cluster:
    """A database server with its data in a folder of its own; the password is part of the test."""

    password = "s3cret+x"  # noqa: S105  it is shown nowhere, and tests see to that

    def __init__(self, folder: Path, port: int, server: str = "", server_pid: int = 0) -> None:
        self.folder, self.port = folder, port
        self.server, self.server_pid = server, server_pid  # the MLflow server on it

    @classmethod
    def make(cls) -> "Cluster":
        """Start one, with a database `mlflow`."""
        # pytest's folders are closed to other users, and `postgres` is one.
        folder = Path(tempfile.mkdtemp(prefix="fmnist-postgres-"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        cluster = cls(folder, port)
        password = folder / "password"
        password.write_text(cls.password)
        if os.getuid() == 0:
            for path in (folder, password):
                shutil.chown(path, USER)
        try:
            cluster._run(
                *("initdb", "--username=ada", "--auth=scram-sha-256", f"--pwfile={password}"),
                *("--encoding=UTF8", "--no-locale", "--no-sync"),
            )
            cluster.start()
            cluster._run("createdb", "mlflow")
        except BaseException:
            cluster.remove()
            raise
        return cluster

    @property
    def address(self) -> str:
        """The store's `--tracking-uri`, without a server of MLflow."""
        # SQLAlchemy 2.1 takes `postgresql://` for another driver than 2.0.
        return f"postgresql+psycopg2://ada:{self.password}@127.0.0.1:{self.port}/mlflow"

    def start(self) -> None:
        """Start it; returns once it answers."""
        # Nothing here outlives the tests, so nothing has to reach the disk.
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self.folder} -c fsync=off"
        self._run("pg_ctl", "start", "-w", "-s", "-l", str(self.folder / "log"), "-o", options)

    def stop(self) -> None:
        """Stop it, and cut every connection; what is not committed is undone."""
        self._run("pg_ctl", "stop", "-w", "-s", "-m", "fast")

    def restart(self) -> None:
        """Stop it and start it again, as `systemctl restart` does."""
        self._run("pg_ctl", "restart", "-w", "-s", "-m", "fast", "-l", str(self.folder / "log"))

    def remove(self) -> None:
        """Stop it and delete its data."""
        self._run("pg_ctl", "stop", "-s", "-m", "immediate", check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, command: str, *arguments: str, check: bool = True) -> None:
        as_user = ["runuser", "-u", USER, "--"] if os.getuid() == 0 else []
        environment = {
            "PGDATA": str(self.folder / "data"),
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": "ada",
            "PGPASSWORD": self.password,
        }
        # Not captured: the server would inherit the pipe, and its end be waited for.
        log = self.folder / "commands.log"
        with log.open("ab") as out:
            done = subprocess.run(
                [*as_user, BINARIES / command, *arguments],
                cwd=self.folder,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                check=False,
            )
        assert not (check and done.returncode), log.read_text()
