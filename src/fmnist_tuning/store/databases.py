"""Database servers as stores, without an MLflow server: whether one answers, and waiting for it."""

import re
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import sqlalchemy
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import DBAPIError, OperationalError

from fmnist_tuning.errors import TrackingError
from fmnist_tuning.interruption import ending

_ANSWER_SECONDS: Final = 10
_AWAY_SECONDS: Final = 60.0
_LONGEST_PAUSE: Final = 2.0
_PACKAGES: Final = {
    "psycopg2": "psycopg2-binary",
    "psycopg": "psycopg[binary]",
    "MySQLdb": "mysqlclient",
}
"""The names of packages that are not those of their modules."""


def is_database_server(uri: str) -> bool:
    """Whether a URI names a database server that MLflow's client itself writes to."""
    return re.match(r"(postgresql|mysql|mssql)([+]\w+)?:", uri) is not None


def check_answers(uri: str, shown: str) -> None:
    """Connect once, because MLflow would try for minutes; `shown` is the URI without its password.

    Raises:
        TrackingError: When the Python package for this database is missing.
        SQLAlchemyError: When the database does not answer, or lets nobody in.
    """
    # PostgreSQL has it from PGCONNECT_TIMEOUT; ODBC, which MSSQL needs, calls it otherwise.
    patience = {"connect_timeout": _ANSWER_SECONDS} if uri.startswith("mysql") else {}
    try:
        engine = sqlalchemy.create_engine(uri, connect_args=patience)
    except ImportError as error:
        module = error.name or str(error)
        package = _PACKAGES.get(module, module)
        raise TrackingError(
            f"the tracking store {shown} needs the Python package {package}; install it with "
            f"`pip install '{package}'`, or name another store with --tracking-uri"
        ) from error
    with engine.connect():
        pass
    engine.dispose()


def client_of(uri: str) -> MlflowClient:
    """MLflow's client for a store, which waits for a database server that is away for a moment."""
    client = MlflowClient(tracking_uri=uri)
    return _PatientClient(client) if is_database_server(uri) else client


class _PatientClient:
    """MLflow's client, whose every call is repeated for a minute while the database is away.

    Calls to an MLflow server are repeated by MLflow. Whatever we write may be written twice with
    the same effect; see `running.contest` for a run that is made twice.
    """

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        return partial(_patiently, found) if callable(found) else found


def _patiently(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    deadline, pause = time.monotonic() + _AWAY_SECONDS, 0.1
    while True:
        try:
            return call(*arguments, **options)
        except (MlflowException, DBAPIError) as error:
            # Whoever has asked for an end does not wait; the shield around this call tells them.
            if not _is_away(error) or ending() or time.monotonic() > deadline:
                raise
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _is_away(error: BaseException | None) -> bool:
    """Whether a database has cut the connection, or takes none at the moment."""
    while error is not None:
        if isinstance(error, OperationalError):
            return True
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            return True
        error = error.__cause__
    return False
