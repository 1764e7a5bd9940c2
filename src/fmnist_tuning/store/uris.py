"""MLflow's stores: which one is meant, whether it answers, and what it may print."""

import logging
import os
import re
import sqlite3
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Final
from urllib.parse import unquote

# What a person sees is ours to say: neither MLflow's start-up log nor its farewell to the file
# store, which it refuses from 3.13 on unless told otherwise. Its usage reports stay off.
for _name, _value in {
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    # A server may be away for a minute; after that we say so, and the checkpoints stand.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "6",
}.items():
    os.environ.setdefault(_name, _value)
warnings.filterwarnings("ignore", module=r"(mlflow|alembic|sqlalchemy|google|pydantic)\b.*")

import mlflow  # noqa: E402  after the environment that it reads

# MLflow sets levels of its own when it is imported, and Alembic speaks when it is.
for _noisy in ("alembic", "mlflow.store.db.utils", "mlflow.store.tracking.file_store"):
    logging.getLogger(_noisy).setLevel(logging.CRITICAL)
# What a store logs as it fails, traceback and all, comes to the user as our error.
logging.getLogger().addHandler(logging.NullHandler())

from alembic.util import CommandError  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from sqlalchemy.exc import SQLAlchemyError  # noqa: E402

from fmnist_tuning.errors import TrackingError  # noqa: E402

# An ImportError is the driver of a database that is not installed; a UnicodeError, a text that the
# store cannot hold.
_FAILURES: Final = (
    *(MlflowException, SQLAlchemyError, CommandError, sqlite3.Error),
    *(OSError, ImportError, UnicodeError),
)
_SERVER_TIMEOUT_SECONDS: Final = 10
_SCHEMES: Final = (
    r"file|https?|databricks|databricks-uc|uc|(sqlite|postgresql|mysql|mssql)([+]\w+)?"
)
_MAX_NAME: Final = 200


def resolve(tracking_uri: str | None, *, environment: bool = True) -> str:
    """The URI of the store that is meant, a local one's by its absolute path.

    Args:
        tracking_uri: What the user named, before anything else.
        environment: Let `MLFLOW_TRACKING_URI` come next, before MLflow's own default.

    Raises:
        TrackingError: For what is no store's URI.
    """
    if tracking_uri is not None:
        return _absolute(tracking_uri)
    if environment and os.environ.get("MLFLOW_TRACKING_URI"):
        return _absolute(os.environ["MLFLOW_TRACKING_URI"])
    kept = os.environ.pop("MLFLOW_TRACKING_URI", None)
    try:
        default: str = mlflow.get_tracking_uri()
    finally:
        if kept is not None:
            os.environ["MLFLOW_TRACKING_URI"] = kept
    return _absolute(default)


def _absolute(uri: str) -> str:
    """A local store's URI, free of the current directory: MLflow caches stores by their URIs."""
    _check_uri(uri)
    place = local_path(uri)
    if place is None:
        return uri
    if is_file_store(uri):
        return place.absolute().as_uri()
    _, mark, options = uri.partition("?")
    return f"sqlite:///{place.absolute()}{mark}{options}"


def is_file_store(uri: str) -> bool:
    """Whether a URI names a folder in MLflow's old format."""
    return "://" not in uri or uri.startswith("file:")


def local_path(uri: str) -> Path | None:
    """The file or folder of a local store; None for servers."""
    if uri.startswith("sqlite:///"):
        return Path(uri.removeprefix("sqlite:///").partition("?")[0])
    if uri.startswith("file:"):
        return Path(unquote(re.sub(r"^file:(//)?", "", uri)))
    if is_file_store(uri):
        return Path(uri)
    return None


def state_folder(uri: str) -> Path:
    """Where the commands on a store keep checkpoints and locks: beside it, or here for servers."""
    place = local_path(uri)
    return (Path() if place is None else place.parent).absolute() / ".fmnist"


def artifact_location(uri: str, name: str) -> str | None:
    """Where a local database's study keeps its artefacts: in `mlruns` beside it.

    Said outright, because a server that made the store would have put addresses of its own there,
    which nobody but that server can write to. Other stores know best themselves.
    """
    place = local_path(uri)
    if place is None or is_file_store(uri):
        return None
    folder = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    return (place.absolute().parent / "mlruns" / folder).as_uri()


def public(uri: str) -> str:
    """A store's URI for people to see: without the password that it may hold."""
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", uri)


def check_name(name: str) -> None:
    """Refuse what not every store keeps, or no terminal should show, as a study's name.

    Raises:
        TrackingError: For such a name.
    """
    if not 1 <= len(name) <= _MAX_NAME or not name.isprintable() or name != name.strip():
        found = ascii(name) if len(name) <= _MAX_NAME else f"{len(name):,} characters"
        raise TrackingError(
            f"--experiment: found {found}, allowed: 1 to {_MAX_NAME} printable characters without "
            "spaces around them"
        )


def _check_uri(uri: str) -> None:
    """Refuse what is no store's URI, before MLflow takes it for the name of a folder."""
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", uri)
    known = scheme is None or re.fullmatch(_SCHEMES, scheme[1])
    in_memory = uri.startswith("sqlite:") and not re.match(r"sqlite:///[^:?]", uri)
    if not known or in_memory or not uri.strip() or not uri.isprintable():
        found = ascii(public(uri))[:200]
        raise TrackingError(
            f"--tracking-uri (or MLFLOW_TRACKING_URI): found {found}, allowed: a folder, "
            "sqlite:///FILE, http://HOST:PORT, or a database that MLflow knows, such as "
            "postgresql://USER@HOST/NAME"
        )


def check_reachable(uri: str) -> None:
    """Try a store once: MLflow itself would go on trying for minutes.

    Raises:
        TrackingError: When it is out of reach.
    """
    if uri.startswith("sqlite:///"):
        _check_sqlite(uri)
    if not uri.startswith(("http://", "https://")):
        return
    try:
        with urllib.request.urlopen(  # noqa: S310  the scheme was just checked
            re.sub("//[^/@]*@", "//", f"{uri.rstrip('/')}/health"), timeout=_SERVER_TIMEOUT_SECONDS
        ):
            pass
    except urllib.error.HTTPError:
        pass  # it answers; whether it lets us in, the first real call tells
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise TrackingError(
            f"no MLflow server answers at {public(uri)} ({reason}); start it with `mlflow server`, "
            "or name another store with --tracking-uri"
        ) from None


def _check_sqlite(uri: str) -> None:
    place = local_path(uri)
    assert place is not None  # noqa: S101  for mypy: the caller saw the scheme
    folder = place.absolute().parent
    if not folder.is_dir():
        raise TrackingError(
            f"the tracking store {public(uri)}: the folder {folder} does not exist; make it, or "
            "name another store with --tracking-uri"
        )
    with closing(sqlite3.connect(place)) as database:
        database.execute("PRAGMA schema_version")


@contextmanager
def translated(uri: str) -> Iterator[None]:
    """Turn what MLflow raises into one line that names the store."""
    try:
        yield
    except _FAILURES as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [repr(error)]
        raise TrackingError(
            f"the tracking store {public(uri)} failed: {lines[0][:300]} (choose another with "
            "--tracking-uri)"
        ) from error
